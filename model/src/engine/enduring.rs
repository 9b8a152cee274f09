//! An engine that outlives its GPU.
//!
//! A GPU is taken away by a driver's crash, a sleeping laptop, or a browser that needs it elsewhere. It is opened anew
//! once; if it is lost again, or fails in another way, the CPU engine answers from then on. Who is waiting for an answer
//! gets one all the same. Devices other than ours for WebGPU fail for themselves.

use super::{Device, Engine, EngineError, EngineOptions, Input, Output, Precision};
use crate::checkpoint::Checkpoint;
use crate::plan::{Plan, Tap};
use std::sync::{Arc, Mutex, PoisonError};

/// Is told what has failed, and which device answers now.
pub type Report = fn(&EngineError, Device);

/// An engine and, if its device can be lost, the weights to make another one of.
pub struct EnduringEngine {
    current: Mutex<Current>,
    /// As they are stored, which is a quarter of what they are on the device where they are int8.
    weights: Option<Arc<Checkpoint>>,
    options: EngineOptions,
    report: Report,
}

#[derive(Clone)]
struct Current {
    engine: Arc<Engine>,
    /// How often a device was made anew.
    remade: usize,
}

/// A device is made anew no more often.
const MOST_REMADE: usize = 1;

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
        let current = Mutex::new(Current { engine: Arc::new(engine), remade: 0 });
        EnduringEngine { current, weights, options, report }
    }

    /// The engine that answers at the moment.
    pub fn engine(&self) -> Arc<Engine> {
        self.current().engine
    }

    /// As [`Engine::run`], with the device that did it in the end.
    ///
    /// # Errors
    /// Those of [`Engine::run`], of the last engine that there is.
    pub async fn run(&self, input: &Input, keep: &[Tap]) -> Result<(Output, Device), EngineError> {
        loop {
            let current = self.current();
            let device = current.engine.device();
            match current.engine.run(input, keep).await {
                Ok(output) => return Ok((output, device)),
                Err(error) => self.replace(current, error).await?,
            }
        }
    }

    fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another engine in the place of one that has failed so, or gives the failure back.
    async fn replace(&self, failed: Current, error: EngineError) -> Result<(), EngineError> {
        let device = failed.engine.device();
        let (Some(weights), Device::WebGpu(_)) = (&self.weights, device) else { return Err(error) };
        let remade = match &error {
            EngineError::Lost { .. } if failed.remade < MOST_REMADE => {
                Engine::prepare_from(weights, device, self.options).await.ok()
            }
            EngineError::Lost { .. } | EngineError::Failed { .. } => None,
            _ => return Err(error),
        };
        let engine = match remade {
            Some(engine) => engine,
            None => {
                let options = EngineOptions { precision: Precision::F32, ..self.options };
                Engine::prepare_from(weights, Device::Cpu, options).await?
            }
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // Unless another caller was quicker.
        if Arc::ptr_eq(&current.engine, &failed.engine) {
            (self.report)(&error, engine.device());
            *current = Current { engine: Arc::new(engine), remade: failed.remade + 1 };
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "webgpu"))]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::preprocess::ImageBatch;
    use crate::random;
    use pollster::block_on;
    use std::sync::atomic::{AtomicUsize, Ordering};

    static REPORTS: AtomicUsize = AtomicUsize::new(0);

    #[test]
    fn a_gpu_is_made_anew_once_and_then_the_cpu_answers() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
        let pixels = random::pixels(3, 64 * 64 * 3);
        let input = Input::Pixels(ImageBatch::new(pixels, [1, 64, 64], [0.5; 3], [0.25; 3]).unwrap());
        let options = EngineOptions::default();
        let expected = block_on(Engine::prepare_from(&checkpoint, Device::Cpu, options)).unwrap();
        let expected = block_on(expected.run(&input, &[])).unwrap().logits.values;
        let report: Report = |_, _| {
            REPORTS.fetch_add(1, Ordering::Relaxed);
        };
        let enduring = block_on(EnduringEngine::prepare(checkpoint, Device::WebGpu(0), options, report)).unwrap();
        for (losses, answers) in [Device::WebGpu(0), Device::WebGpu(0), Device::Cpu].into_iter().enumerate() {
            let (output, device) = block_on(enduring.run(&input, &[])).unwrap();
            assert_eq!((device, REPORTS.load(Ordering::Relaxed)), (answers, losses));
            let largest = expected.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let differences = output.logits.values.iter().zip(&expected).map(|(a, b)| (a - b).abs());
            assert!(differences.fold(0.0, f32::max) < 1e-4 * largest);
            enduring.engine().lose();
        }
    }

    /// Nothing is wrong with the engine, so nothing takes its place.
    #[test]
    fn a_bad_input_is_its_senders_trouble() {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 10).unwrap());
        let report: Report = |error, _| panic!("{error}");
        let options = EngineOptions::default();
        let enduring = block_on(EnduringEngine::prepare(checkpoint, Device::WebGpu(0), options, report)).unwrap();
        let input = crate::engine::Normalised::new(vec![f32::NAN; 3 * 32 * 32], [1, 32, 32]).unwrap();
        let error = block_on(enduring.run(&Input::Normalised(input), &[])).unwrap_err();
        assert!(matches!(error, EngineError::Input(_)), "{error}");
    }
}
