//! A single convolution with a given algorithm, to benchmark it, to verify the cost model in
//! [`algorithm`](super::algorithm), and to test kernels with few computations.

use super::super::EngineOptions;
use super::CpuEngine;
use super::algorithm::Algorithm;
use super::execution_layout::{ExecutionLayout, StepSchedule};
use super::steps::PackedOperation;
use super::workspace::Workspace;
use crate::architecture::Convolution;
use crate::engine::{EngineError, Input};
use crate::plan::{FoldedConvolution, Operation, Plan, ValueId};
use crate::preprocess::ImageBatch;
use crate::random::{self, Uniform};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A convolution with ReLU, random weights and a random input.
pub struct SingleConvolution {
    engine: CpuEngine,
    layout: Arc<ExecutionLayout>,
    workspace: Workspace,
    /// Index of the step that is the convolution.
    step: usize,
}

impl SingleConvolution {
    /// Prepares a convolution for an input of shape `[batch, height, width]`. A layer with three input channels is a stem.
    ///
    /// # Errors
    /// Returns [`EngineError::UnsupportedPrecision`] if the processor does not support the algorithm's precision, and
    /// [`EngineError::Failed`] if threads cannot be started.
    ///
    /// # Panics
    /// Panics if the algorithm cannot compute the layer.
    pub fn new(
        layer: Convolution,
        algorithm: Algorithm,
        shape: [usize; 3],
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let mut operations = Vec::new();
        if layer.in_channels != 3 {
            // A layer that reads the image computes the input of the convolution.
            let (kernel, stride, padding, groups) = (3, 1, 1, 1);
            let [name, norm] = ["input", ""].map(str::to_owned);
            let (in_channels, out_channels) = (3, layer.in_channels);
            let first = Convolution { name, norm, in_channels, out_channels, kernel, stride, padding, groups };
            operations.push(folded(first, Plan::INPUT));
        }
        let step = operations.len();
        operations.push(folded(layer, step));
        let algorithms = [vec![Algorithm::Direct; step], vec![algorithm]].concat();

        let engine = CpuEngine::new(Plan::from_operations(operations), algorithms, options)?;
        let layout = engine.layout(shape);
        let mut workspace = engine.workspaces.acquire(layout.workspace_size, &engine.threads);
        let pixels = random::pixels(1, shape.iter().product::<usize>() * 3);
        let images = ImageBatch::new(pixels, shape, [0.5; 3], [0.25; 3]).expect("the pixels match the shape");
        engine.threads.install(|| {
            let image = &mut workspace.arena[layout.ranges[Plan::INPUT].clone()];
            layout.image.write_input(&Input::Pixels(images), 0, image, &engine.threads);
            (0..step).for_each(|step| engine.step(step, &layout, &mut workspace));
        });
        Ok(SingleConvolution { engine, layout, workspace, step })
    }

    /// Computes the convolution once.
    pub fn run(&mut self) {
        let SingleConvolution { engine, layout, workspace, step } = self;
        engine.threads.install(|| engine.step(*step, layout, workspace));
    }

    /// Returns the output of the last run, `[batch, out_channels, height, width]`.
    pub fn output(&self) -> Vec<f32> {
        let value = self.engine.steps[self.step].output;
        let mut output = Vec::new();
        self.layout.shapes[value].unpack_nchw(&self.workspace.arena[self.layout.ranges[value].clone()], &mut output);
        output
    }

    /// Returns the heights of the register tiles that a run computes, for each of which a kernel is compiled.
    pub fn tile_heights(&self) -> BTreeSet<usize> {
        match (&self.engine.steps[self.step].operation, &self.layout.schedules[self.step]) {
            (PackedOperation::Direct(..), StepSchedule::Direct(schedule)) => schedule.tile_heights(),
            (PackedOperation::Winograd(weights, _), StepSchedule::Winograd(schedule)) => {
                schedule.tile_heights(weights, self.engine.set)
            }
            (PackedOperation::Amx(..), StepSchedule::Amx(schedule)) => schedule.tile_heights(),
            _ => unreachable!("the step is a convolution"),
        }
    }
}

/// Creates a convolution with random weights.
fn folded(layer: Convolution, input: ValueId) -> Operation {
    let weight = Uniform::new(2).take(layer.weight_shape().iter().product()).collect();
    let bias = Uniform::new(3).take(layer.out_channels).collect();
    let output = input + 1;
    Operation::Convolution(FoldedConvolution { input, output, residual: None, relu: true, layer, weight, bias })
}
