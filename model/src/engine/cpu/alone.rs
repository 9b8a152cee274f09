//! One convolution alone, by an algorithm of one's choice: for benchmarks, and for whoever questions the choices that
//! [`choice`](super::choice) makes.

use super::super::EngineOptions;
use super::CpuEngine;
use super::choice::Algorithm;
use super::layout::Layout;
use super::memory::Memory;
use crate::architecture::Convolution;
use crate::engine::{EngineError, Input};
use crate::plan::{FoldedConvolution, Operation, Plan, Value};
use crate::preprocess::ImageBatch;
use crate::random::{self, Uniform};
use std::sync::Arc;

/// A convolution with random weights and a random input at hand; its ReLU is on.
pub struct Alone {
    engine: CpuEngine,
    layout: Arc<Layout>,
    memory: Memory,
    /// Of the engine's, the one in question.
    step: usize,
}

impl Alone {
    /// For an input of `[batch, side, side]`. A layer that reads three channels is a stem.
    ///
    /// # Errors
    /// [`EngineError::Precision(Precision::Bf16)`], and [`EngineError::Failed`] if threads cannot be started.
    ///
    /// # Panics
    /// If the algorithm is none for the layer.
    pub fn new(
        layer: Convolution,
        algorithm: Algorithm,
        [batch, side]: [usize; 2],
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let mut operations = Vec::new();
        if layer.in_channels != 3 {
            // What reads an image yields the input.
            let (kernel, stride, padding, groups) = (3, 1, 1, 1);
            let [name, norm] = ["input", ""].map(str::to_owned);
            let (in_channels, out_channels) = (3, layer.in_channels);
            let first = Convolution { name, norm, in_channels, out_channels, kernel, stride, padding, groups };
            operations.push(folded(first, Plan::INPUT));
        }
        let step = operations.len();
        operations.push(folded(layer, step));
        let algorithms = [vec![Algorithm::Matrix; step], vec![algorithm]].concat();

        let engine = CpuEngine::new(Plan::of(operations), algorithms, options)?;
        let layout = engine.layout([batch, side, side]);
        let mut memory = engine.memories.take(layout.memory, &engine.threads);
        let pixels = random::pixels(1, batch * side * side * 3);
        let images = ImageBatch::new(pixels, [batch, side, side], [0.5; 3], [0.25; 3]).expect("as many as it takes");
        engine.threads.enter(|| {
            let image = &mut memory.arena[layout.places[Plan::INPUT].clone()];
            layout.image.fill(&Input::Pixels(images), 0, image, &engine.threads);
            (0..step).for_each(|step| engine.step(step, &layout, &mut memory));
        });
        Ok(Alone { engine, layout, memory, step })
    }

    /// Computes it once more.
    pub fn run(&mut self) {
        let Alone { engine, layout, memory, step } = self;
        engine.threads.enter(|| engine.step(*step, layout, memory));
    }
}

fn folded(layer: Convolution, input: Value) -> Operation {
    let weight = Uniform::new(2).take(layer.weight_shape().iter().product()).collect();
    let bias = Uniform::new(3).take(layer.out_channels).collect();
    let output = input + 1;
    Operation::Convolution(FoldedConvolution { input, output, residual: None, relu: true, layer, weight, bias })
}
