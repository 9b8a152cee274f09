//! An engine that outlives its GPU.
//!
//! A GPU is taken away by a driver's crash, a sleeping laptop, or a browser that needs it elsewhere. It is opened anew
//! once, by one caller while the others wait; if it is lost again, the CPU engine answers from then on. A run that fails in
//! another way may be the doing of its input, such as a value too large for f16: the CPU answers in its place, and takes over
//! if that goes on. Who is waiting for an answer gets one all the same. Devices other than ours for WebGPU fail for
//! themselves.

use super::{Device, Engine, EngineError, EngineOptions, Input, Output, Precision};
use crate::checkpoint::Checkpoint;
use crate::plan::{Plan, Tap};
use futures_util::lock::Mutex as AsyncMutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Is told what has failed, and which device answers now.
pub type Report = fn(&EngineError, Device);

/// An engine and, if its device can be lost, the weights to make another one of.
pub struct EnduringEngine {
    current: Mutex<Arc<Engine>>,
    /// Runs in a row that only the CPU could do.
    failures: AtomicUsize,
    /// Whoever makes an engine holds this: those who need the same one wait for it and make none of their own.
    made: AsyncMutex<Made>,
    /// As they are stored, which is a quarter of what they are on the device where they are int8.
    weights: Option<Arc<Checkpoint>>,
    options: EngineOptions,
    report: Report,
}

/// What was made beside the first engine.
#[derive(Default)]
struct Made {
    /// How often a device was opened anew.
    devices: usize,
    /// The CPU's engine, once it was needed.
    cpu: Option<Arc<Engine>>,
}

/// A device is opened anew no more often.
const MOST_DEVICES: usize = 1;

/// An input may be at fault, and perhaps the next one as well; behind so many it is the device, or a network that is too much
/// for its precision.
const MOST_FAILURES: usize = 3;

impl EnduringEngine {
    /// The options are those of [`Engine::prepare_with`].
    ///
    /// # Errors
    /// Those of [`Engine::prepare_with`]: nothing stands in for a device that was never there.
    pub async fn prepare(
        checkpoint: Checkpoint,
        device: Device,
        options: EngineOptions,
        report: Report,
    ) -> Result<Self, EngineError> {
        let (engine, weights) = match device {
            Device::WebGpu(_) => (Engine::prepare_from(&checkpoint, device, options).await?, Some(checkpoint.into())),
            _ => (Engine::prepare_with(Plan::from(checkpoint), device, options).await?, None),
        };
        Ok(EnduringEngine::new(engine, weights, options, report))
    }

    /// Of an engine whose failures are its caller's.
    pub fn alone(engine: Engine) -> Self {
        EnduringEngine::new(engine, None, EngineOptions::default(), |_, _| {})
    }

    /// Of an engine that is prepared already, with these options, and the weights that it has.
    pub fn new(engine: Engine, weights: Option<Arc<Checkpoint>>, options: EngineOptions, report: Report) -> Self {
        let current = Mutex::new(Arc::new(engine));
        let (failures, made) = (AtomicUsize::new(0), AsyncMutex::default());
        EnduringEngine { current, failures, made, weights, options, report }
    }

    /// The engine that answers at the moment.
    pub fn engine(&self) -> Arc<Engine> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`Engine::run`], with the device that did it in the end.
    ///
    /// # Errors
    /// Those of [`Engine::run`], of the last engine that there is.
    pub async fn run(&self, input: &Input, keep: &[Tap]) -> Result<(Output, Device), EngineError> {
        loop {
            let engine = self.engine();
            let error = match engine.run(input, keep).await {
                Ok(output) => {
                    self.failures.store(0, Ordering::Relaxed);
                    return Ok((output, engine.device()));
                }
                Err(error) => error,
            };
            let (Some(weights), Device::WebGpu(_)) = (&self.weights, engine.device()) else { return Err(error) };
            match error {
                EngineError::Lost { .. } => self.replace(&engine, &error, weights).await?,
                EngineError::Failed { .. } | EngineError::NotFinite { .. } => {
                    return self.stand_in(&engine, &error, weights, (input, keep)).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Puts another engine in the place of one whose device is gone, unless somebody else has.
    async fn replace(&self, lost: &Arc<Engine>, error: &EngineError, weights: &Checkpoint) -> Result<(), EngineError> {
        let mut made = self.made.lock().await;
        if !Arc::ptr_eq(&self.engine(), lost) {
            return Ok(());
        }
        let mut opened = None;
        if made.devices < MOST_DEVICES {
            made.devices += 1;
            opened = Some(Engine::prepare_from(weights, lost.device(), self.options).await);
        }
        let (engine, why) = match opened {
            Some(Ok(engine)) => (Arc::new(engine), None),
            other => (self.cpu(&mut made, weights).await?, other.and_then(Result::err)),
        };
        (self.report)(why.as_ref().unwrap_or(error), engine.device());
        self.put(engine, lost);
        Ok(())
    }

    /// Has the CPU do what a GPU that is still there has failed at.
    async fn stand_in(
        &self,
        failed: &Arc<Engine>,
        error: &EngineError,
        weights: &Checkpoint,
        (input, keep): (&Input, &[Tap]),
    ) -> Result<(Output, Device), EngineError> {
        let cpu = self.cpu(&mut *self.made.lock().await, weights).await?;
        // What the CPU fails at too does not speak against the GPU.
        let output = cpu.run(input, keep).await?;
        (self.report)(error, Device::Cpu);
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= MOST_FAILURES {
            self.put(cpu, failed);
        }
        Ok((output, Device::Cpu))
    }

    async fn cpu(&self, made: &mut Made, weights: &Checkpoint) -> Result<Arc<Engine>, EngineError> {
        if let Some(cpu) = &made.cpu {
            return Ok(cpu.clone());
        }
        let options = EngineOptions { precision: Precision::F32, ..self.options };
        let cpu = Engine::prepare_from(weights, Device::Cpu, options).await?;
        Ok(made.cpu.insert(Arc::new(cpu)).clone())
    }

    /// Unless something else has taken the place since.
    fn put(&self, engine: Arc<Engine>, instead_of: &Arc<Engine>) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, instead_of) {
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

    fn enduring(checkpoint: Checkpoint, report: Report) -> EnduringEngine {
        block_on(EnduringEngine::prepare(checkpoint, GPU, EngineOptions::default(), report)).unwrap()
    }

    fn input() -> Input {
        let pixels = random::pixels(3, 64 * 64 * 3);
        Input::Pixels(ImageBatch::new(pixels, [1, 64, 64], [0.5; 3], [0.25; 3]).unwrap())
    }

    /// What the CPU says to that.
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
    fn a_gpu_is_made_anew_once_and_then_the_cpu_answers() {
        static REPORTS: AtomicUsize = AtomicUsize::new(0);
        let enduring = enduring(checkpoint(), |_, _| _ = REPORTS.fetch_add(1, Ordering::Relaxed));
        for (losses, answers) in [GPU, GPU, Device::Cpu].into_iter().enumerate() {
            let (output, device) = block_on(enduring.run(&input(), &[])).unwrap();
            assert_eq!((device, REPORTS.load(Ordering::Relaxed)), (answers, losses));
            assert_near(&output, &expected());
            enduring.engine().lose();
        }
    }

    #[test]
    fn of_many_who_lose_a_gpu_one_makes_another() {
        static REPORTS: AtomicUsize = AtomicUsize::new(0);
        let enduring = enduring(checkpoint(), |_, _| _ = REPORTS.fetch_add(1, Ordering::Relaxed));
        let (input, expected, start) = (input(), expected(), Barrier::new(4));
        enduring.engine().lose();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    let (output, device) = block_on(enduring.run(&input, &[])).unwrap();
                    assert_eq!(device, GPU);
                    assert_near(&output, &expected);
                });
            }
        });
        let devices = block_on(enduring.made.lock()).devices;
        assert_eq!((devices, REPORTS.load(Ordering::Relaxed)), (1, 1));
    }

    #[test]
    fn a_gpu_that_fails_is_spared_until_it_does_so_again_and_again() {
        let enduring = enduring(checkpoint(), |_, _| {});
        let (input, expected) = (input(), expected());
        let fail = || {
            let error = EngineError::Failed { device: GPU, reason: "this is part of the test".to_owned() };
            let (gpu, weights) = (enduring.engine(), enduring.weights.as_ref().unwrap());
            let (output, device) = block_on(enduring.stand_in(&gpu, &error, weights, (&input, &[]))).unwrap();
            assert_eq!(device, Device::Cpu);
            assert_near(&output, &expected);
        };
        let answers = || block_on(enduring.run(&input, &[])).unwrap().1;
        for failures in [MOST_FAILURES - 1, MOST_FAILURES - 1, MOST_FAILURES] {
            assert_eq!(answers(), GPU);
            (0..failures).for_each(|_| fail());
        }
        assert_eq!(answers(), Device::Cpu);
    }

    #[test]
    fn what_no_device_can_compute_does_not_speak_against_the_gpu() {
        let architecture = checkpoint().architecture();
        let mut weights = checkpoint().into_values();
        weights.get_mut("fc.weight").unwrap().fill(f32::MAX);
        let checkpoint = Checkpoint::new(Metadata::new(architecture), weights).unwrap();
        let enduring = enduring(checkpoint, |error, _| panic!("{error}"));
        for _ in 0..=MOST_FAILURES {
            let error = block_on(enduring.run(&input(), &[])).unwrap_err();
            assert!(matches!(error, EngineError::NotFinite { device: Device::Cpu, .. }), "{error}");
        }
        assert_eq!(enduring.engine().device(), GPU);
    }

    /// Nothing is wrong with the engine, so nothing takes its place.
    #[test]
    fn a_bad_input_is_its_senders_trouble() {
        let enduring = enduring(checkpoint(), |error, _| panic!("{error}"));
        let input = Normalised::new(vec![f32::NAN; 3 * 32 * 32], [1, 32, 32]).unwrap();
        let error = block_on(enduring.run(&Input::Normalised(input), &[])).unwrap_err();
        assert!(matches!(error, EngineError::Input(_)), "{error}");
    }
}
