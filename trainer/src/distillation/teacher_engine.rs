//! Inference of a frozen teacher on the batches of its student.

use super::Teacher;
use crate::learning::MixingPlan;
use anyhow::{Context, Result};
use model::engine::{Device, Engine, EngineOptions};
use model::preprocess::{ImageBatch, Preprocessing};
use pollster::block_on;
use std::num::NonZero;
use std::thread;

/// A teacher prepared on a device.
pub struct TeacherEngine {
    engine: Engine,
    /// Normalisation of its input.
    mean: [f32; 3],
    std: [f32; 3],
}

impl TeacherEngine {
    /// Prepares a teacher for a student that is trained on `device` by this number of replicas, which share the cores.
    ///
    /// # Errors
    /// Returns an error if the device fails.
    pub fn prepare(teacher: &Teacher, device: Device, replicas: usize) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let options = EngineOptions { threads: NonZero::new((cores / replicas).max(1)), ..EngineOptions::default() };
        let engine = Engine::prepare_from(&teacher.checkpoint, inference_device(device), options);
        let engine = block_on(engine).context("cannot prepare the teacher")?;
        let Preprocessing { mean, std, .. } = teacher.checkpoint.metadata().preprocessing;
        Ok(TeacherEngine { engine, mean, std })
    }

    /// Returns the logits for images that are mixed by `plan`, `[batch, classes]`, row by row.
    ///
    /// # Errors
    /// Returns an error if the device fails, or if a logit is not finite.
    pub fn logits(&self, images: &ImageBatch, plan: &MixingPlan) -> Result<Vec<f32>> {
        // The teacher may have been trained with another normalisation than the student.
        let images = ImageBatch::new(images.pixels().to_vec(), images.shape(), self.mean, self.std)?;
        let output = block_on(self.engine.run(&plan.engine_input(&images), &[])).context("the teacher failed")?;
        Ok(output.logits.values)
    }
}

/// Returns the device of the fastest engine for a student that is trained on `device`.
pub fn inference_device(device: Device) -> Device {
    match device {
        // Both are the same processor, and Burn's backend takes many times as long as our engine.
        Device::Flex => Device::Cpu,
        device => device,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::EpochItem;
    use crate::learning::Mixing;
    use crate::recipe::Recipe;
    use model::architecture::Architecture;
    use model::checkpoint::Metadata;
    use model::engine::Input;
    use model::random;

    const BATCH: usize = 4;
    const SIDE: usize = 32;

    fn images(mean: [f32; 3], std: [f32; 3]) -> ImageBatch {
        ImageBatch::new(random::pixels(1, BATCH * SIDE * SIDE * 3), [BATCH, SIDE, SIDE], mean, std).unwrap()
    }

    /// Returns a teacher with its own normalisation.
    fn teacher() -> Teacher {
        let checkpoint = random::checkpoint(Architecture::new("resnet18", 3).unwrap());
        let preprocessing = Preprocessing { mean: [0.5; 3], std: [0.25; 3], ..Preprocessing::default() };
        let checkpoint = checkpoint.clone().with_metadata(Metadata { preprocessing, ..checkpoint.metadata().clone() });
        let source = std::path::PathBuf::from("teacher.safetensors").into();
        Teacher { source, sha256: String::new(), checkpoint: checkpoint.unwrap() }
    }

    #[test]
    fn teacher_uses_its_own_normalisation() {
        let engine = TeacherEngine::prepare(&teacher(), Device::Flex, 1).unwrap();
        assert_eq!(engine.engine.device(), Device::Cpu);
        let Preprocessing { mean, std, .. } = Preprocessing::default();
        let actual = engine.logits(&images(mean, std), &MixingPlan::default()).unwrap();
        let expected = block_on(engine.engine.run(&Input::Pixels(images([0.5; 3], [0.25; 3])), &[])).unwrap();
        assert_eq!(actual, expected.logits.values);
    }

    /// The engine normalises in another order than the mixing of normalised images.
    #[test]
    fn teacher_gets_the_mixed_images_of_the_student() {
        let engine = TeacherEngine::prepare(&teacher(), Device::Cpu, 1).unwrap();
        let images = images([0.5; 3], [0.25; 3]);
        let recipe = Recipe::finetune_with(&["mixup-alpha=1"]);
        let items: Vec<_> = (0..BATCH).map(|index| EpochItem { index, repetition: 0 }).collect();
        let plan = Mixing::new(&recipe, 1).unwrap().draw(0, 1, &items, SIDE);
        let mixed = engine.logits(&images, &plan).unwrap();
        let pixels: Vec<u8> = (0..BATCH).flat_map(|index| plan.mixed_image(&images, index)).collect();
        let rounded = ImageBatch::new(pixels, [BATCH, SIDE, SIDE], [0.5; 3], [0.25; 3]).unwrap();
        let expected = engine.logits(&rounded, &MixingPlan::default()).unwrap();
        let plain = engine.logits(&images, &MixingPlan::default()).unwrap();
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        // The pixels of `mixed_image` are rounded to integers.
        assert!(distance(&mixed, &expected) < 0.05 * distance(&mixed, &plain), "{mixed:?}, {expected:?}, {plain:?}");
    }
}
