//! An engine that falls back to the CPU if its GPU fails, so that callers still get results.
//!
//! A GPU is lost when its driver crashes, a laptop goes to sleep, or a browser needs it elsewhere. The engine reopens
//! it once; one caller does that while the others wait. If the GPU is lost again, the CPU engine executes all further
//! runs. A run that fails for another reason may have failed because of its input, such as a value too large for f16:
//! the CPU engine executes that run, and all further runs if several in a row fail. Only the device `webgpu` has this
//! fallback; errors of other devices are returned to the caller.

use super::{Device, Engine, EngineError, EngineOptions, Input, Output, Precision};
use crate::checkpoint::Checkpoint;
use crate::plan::{Plan, Tap};
use futures_util::lock::Mutex as AsyncMutex;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Callback for each fallback. It receives the error and the device that executes the run instead.
pub type OnFallback = fn(&EngineError, Device);

/// An engine and, if its device can be lost, the checkpoint from which to prepare a replacement.
pub struct FallbackEngine {
    current: Mutex<Arc<Engine>>,
    /// Number of consecutive runs that failed on the GPU and succeeded on the CPU.
    consecutive_failures: AtomicUsize,
    /// Locked while a replacement is prepared, so that concurrent callers wait for it instead of preparing another one.
    replacements: AsyncMutex<Replacements>,
    /// Weights as they are stored; int8 weights take a quarter of the memory that they take on the device.
    checkpoint: Option<Arc<Checkpoint>>,
    options: EngineOptions,
    on_fallback: OnFallback,
}

/// Engines prepared in addition to the first one.
#[derive(Default)]
struct Replacements {
    /// Number of times that the GPU was reopened.
    reopened: usize,
    /// The CPU engine, prepared when it is first needed.
    cpu: Option<Arc<Engine>>,
}

/// Maximum number of times that a lost GPU is reopened.
const MAX_REOPENS: usize = 1;

/// Number of consecutive failures after which the CPU engine takes over. One or two failures may be due to their
/// inputs; after this many, the cause is the device, or a network whose values exceed the range of the precision.
const MAX_CONSECUTIVE_FAILURES: usize = 3;

impl FallbackEngine {
    /// Prepares a checkpoint on a device.
    ///
    /// # Errors
    /// Returns the errors of [`Engine::prepare_with`]. There is no fallback for a device that cannot be opened at all.
    pub async fn prepare(
        checkpoint: Checkpoint,
        device: Device,
        options: EngineOptions,
        on_fallback: OnFallback,
    ) -> Result<Self, EngineError> {
        let (engine, checkpoint) = match device {
            Device::WebGpu(_) => (Engine::prepare_from(&checkpoint, device, options).await?, Some(checkpoint.into())),
            _ => (Engine::prepare_with(Plan::from(checkpoint), device, options).await?, None),
        };
        Ok(FallbackEngine::new(engine, checkpoint, options, on_fallback))
    }

    /// Wraps an engine whose errors are returned to the caller.
    pub fn without_fallback(engine: Engine) -> Self {
        FallbackEngine::new(engine, None, EngineOptions::default(), |_, _| {})
    }

    /// Wraps an engine that was prepared with `options` from `checkpoint`. Without a checkpoint there is no fallback.
    pub fn new(
        engine: Engine,
        checkpoint: Option<Arc<Checkpoint>>,
        options: EngineOptions,
        on_fallback: OnFallback,
    ) -> Self {
        let current = Mutex::new(Arc::new(engine));
        let (consecutive_failures, replacements) = (AtomicUsize::new(0), AsyncMutex::default());
        FallbackEngine { current, consecutive_failures, replacements, checkpoint, options, on_fallback }
    }

    /// Returns the engine that currently executes the runs.
    pub fn engine(&self) -> Arc<Engine> {
        self.current.lock().clone()
    }

    /// Executes the plan like [`Engine::run`]. Returns the output and the device that computed it.
    ///
    /// # Errors
    /// Returns the errors of [`Engine::run`] if there is no fallback, or if the fallback fails too.
    pub async fn run(&self, input: &Input, taps: &[Tap]) -> Result<(Output, Device), EngineError> {
        loop {
            let engine = self.engine();
            let error = match engine.run(input, taps).await {
                Ok(output) => {
                    self.consecutive_failures.store(0, Ordering::Relaxed);
                    return Ok((output, engine.device()));
                }
                Err(error) => error,
            };
            let (Some(checkpoint), Device::WebGpu(_)) = (&self.checkpoint, engine.device()) else { return Err(error) };
            match error {
                EngineError::Lost { .. } => self.replace_lost(&engine, &error, checkpoint).await?,
                EngineError::Failed { .. } | EngineError::NotFinite { .. } => {
                    return self.run_on_cpu(&engine, &error, checkpoint, (input, taps)).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Replaces an engine whose device was lost, unless another caller has already done so.
    async fn replace_lost(
        &self,
        lost: &Arc<Engine>,
        error: &EngineError,
        checkpoint: &Checkpoint,
    ) -> Result<(), EngineError> {
        let mut replacements = self.replacements.lock().await;
        if !Arc::ptr_eq(&self.engine(), lost) {
            return Ok(());
        }
        let mut opened = None;
        if replacements.reopened < MAX_REOPENS {
            replacements.reopened += 1;
            opened = Some(Engine::prepare_from(checkpoint, lost.device(), self.options).await);
        }
        let (engine, reopen_error) = match opened {
            Some(Ok(engine)) => (Arc::new(engine), None),
            other => (self.cpu_engine(&mut replacements, checkpoint).await?, other.and_then(Result::err)),
        };
        (self.on_fallback)(reopen_error.as_ref().unwrap_or(error), engine.device());
        self.swap_current(engine, lost);
        Ok(())
    }

    /// Repeats a run on the CPU that has failed on a GPU which is not lost.
    async fn run_on_cpu(
        &self,
        failed: &Arc<Engine>,
        error: &EngineError,
        checkpoint: &Checkpoint,
        (input, taps): (&Input, &[Tap]),
    ) -> Result<(Output, Device), EngineError> {
        let cpu = self.cpu_engine(&mut *self.replacements.lock().await, checkpoint).await?;
        // If the run fails on the CPU too, the GPU is not the cause and its failure is not counted.
        let output = cpu.run(input, taps).await?;
        (self.on_fallback)(error, Device::Cpu);
        if self.consecutive_failures.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_CONSECUTIVE_FAILURES {
            self.swap_current(cpu, failed);
        }
        Ok((output, Device::Cpu))
    }

    async fn cpu_engine(
        &self,
        replacements: &mut Replacements,
        checkpoint: &Checkpoint,
    ) -> Result<Arc<Engine>, EngineError> {
        if let Some(cpu) = &replacements.cpu {
            return Ok(cpu.clone());
        }
        let options = EngineOptions { precision: Precision::F32, ..self.options };
        let cpu = Engine::prepare_from(checkpoint, Device::Cpu, options).await?;
        Ok(replacements.cpu.insert(Arc::new(cpu)).clone())
    }

    /// Replaces the current engine by `engine` if it is still `expected`.
    fn swap_current(&self, engine: Arc<Engine>, expected: &Arc<Engine>) {
        let mut current = self.current.lock();
        if Arc::ptr_eq(&current, expected) {
            *current = engine;
        }
    }
}

#[cfg(all(test, feature = "webgpu"))]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::checkpoint::Metadata;
    use crate::engine::Normalised;
    use crate::preprocess::ImageBatch;
    use crate::random;
    use pollster::block_on;
    use std::sync::Barrier;

    const GPU: Device = Device::WebGpu(0);

    fn checkpoint() -> Checkpoint {
        random::checkpoint(Architecture::new("resnet18", 10).unwrap())
    }

    fn engine(checkpoint: Checkpoint, on_fallback: OnFallback) -> FallbackEngine {
        block_on(FallbackEngine::prepare(checkpoint, GPU, EngineOptions::default(), on_fallback)).unwrap()
    }

    fn input() -> Input {
        let pixels = random::pixels(3, 64 * 64 * 3);
        Input::Pixels(ImageBatch::new(pixels, [1, 64, 64], [0.5; 3], [0.25; 3]).unwrap())
    }

    /// Returns the logits that the CPU engine computes for [`input`].
    fn expected() -> Vec<f32> {
        let cpu = block_on(Engine::prepare_from(&checkpoint(), Device::Cpu, EngineOptions::default())).unwrap();
        block_on(cpu.run(&input(), &[])).unwrap().logits.values
    }

    fn assert_near(output: &Output, expected: &[f32]) {
        let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let differences = output.logits.values.iter().zip(expected).map(|(a, b)| (a - b).abs());
        assert!(differences.fold(0.0, f32::max) < 1e-4 * largest);
    }

    #[test]
    fn reopens_a_lost_gpu_once_then_falls_back_to_the_cpu() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let engine = engine(checkpoint(), |_, _| _ = CALLS.fetch_add(1, Ordering::Relaxed));
        let expected = expected();
        for (losses, expected_device) in [GPU, GPU, Device::Cpu].into_iter().enumerate() {
            let (output, device) = block_on(engine.run(&input(), &[])).unwrap();
            assert_eq!((device, CALLS.load(Ordering::Relaxed)), (expected_device, losses));
            assert_near(&output, &expected);
            engine.engine().simulate_loss();
        }
    }

    #[test]
    fn concurrent_runs_reopen_a_lost_gpu_only_once() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let engine = engine(checkpoint(), |_, _| _ = CALLS.fetch_add(1, Ordering::Relaxed));
        let (input, expected, start) = (input(), expected(), Barrier::new(4));
        engine.engine().simulate_loss();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let (output, device) = block_on(engine.run(&input, &[])).unwrap();
                    assert_eq!(device, GPU);
                    assert_near(&output, &expected);
                });
            }
        });
        let reopened = block_on(engine.replacements.lock()).reopened;
        assert_eq!((reopened, CALLS.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn switches_to_the_cpu_after_repeated_failures_in_a_row() {
        let engine = engine(checkpoint(), |_, _| {});
        let (input, expected) = (input(), expected());
        let fail = || {
            let error = EngineError::Failed { device: GPU, reason: "simulated by the test".to_owned() };
            let (gpu, checkpoint) = (engine.engine(), engine.checkpoint.as_ref().unwrap());
            let (output, device) = block_on(engine.run_on_cpu(&gpu, &error, checkpoint, (&input, &[]))).unwrap();
            assert_eq!(device, Device::Cpu);
            assert_near(&output, &expected);
        };
        let device_of_run = || block_on(engine.run(&input, &[])).unwrap().1;
        for failures in [MAX_CONSECUTIVE_FAILURES - 1, MAX_CONSECUTIVE_FAILURES - 1, MAX_CONSECUTIVE_FAILURES] {
            assert_eq!(device_of_run(), GPU);
            (0..failures).for_each(|_| fail());
        }
        assert_eq!(device_of_run(), Device::Cpu);
    }

    #[test]
    fn runs_that_fail_on_the_cpu_too_do_not_replace_the_gpu() {
        let architecture = checkpoint().architecture();
        let mut weights = checkpoint().into_values();
        weights.get_mut("fc.weight").unwrap().fill(f32::MAX);
        let checkpoint = Checkpoint::new(Metadata::new(architecture), weights).unwrap();
        let engine = engine(checkpoint, |error, _| panic!("{error}"));
        for _ in 0..=MAX_CONSECUTIVE_FAILURES {
            let error = block_on(engine.run(&input(), &[])).unwrap_err();
            assert!(matches!(error, EngineError::NotFinite { device: Device::Cpu, .. }), "{error}");
        }
        assert_eq!(engine.engine().device(), GPU);
    }

    #[test]
    fn returns_errors_for_invalid_input_without_falling_back() {
        let engine = engine(checkpoint(), |error, _| panic!("{error}"));
        let input = Normalised::new(vec![f32::NAN; 3 * 32 * 32], [1, 32, 32]).unwrap();
        let error = block_on(engine.run(&Input::Normalised(input), &[])).unwrap_err();
        assert!(matches!(error, EngineError::InvalidInput(_)), "{error}");
    }
}
