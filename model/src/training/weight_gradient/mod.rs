//! Gradient of a convolution's weights.

mod amx;
mod direct;
mod packed_sums;
mod pixel_pairs;
mod sum_tile;
mod transposed_gradient;
mod winograd;

use super::algorithm_choice::choose_for_weights;
use super::value::{Execution, Value};
use crate::architecture::Convolution;
use crate::engine::Precision;
use crate::engine::cpu::algorithm::Algorithm;
use crate::engine::cpu::blocked_shape::BlockedShape;
use crate::engine::cpu::padded_image::PaddedImage;
use crate::engine::cpu::simd::InstructionSet;
pub use amx::AmxWeightGradient;
pub use direct::DirectWeightGradient;
pub use winograd::WinogradWeightGradient;

/// The division of a weight gradient into tasks, for values of one shape.
pub enum WeightGradient {
    Direct(DirectWeightGradient),
    Amx(AmxWeightGradient),
    Winograd(WinogradWeightGradient),
}

impl WeightGradient {
    /// Divides the weight gradient of a layer that reads a blocked value.
    pub fn new(
        layer: &Convolution,
        input: &BlockedShape,
        gradient: &BlockedShape,
        precision: Precision,
        set: InstructionSet,
    ) -> Self {
        match choose_for_weights(layer, gradient, precision, set) {
            Algorithm::Winograd(variant) => {
                WeightGradient::Winograd(WinogradWeightGradient::new(layer, variant, input, gradient, set))
            }
            Algorithm::Direct => WeightGradient::Direct(DirectWeightGradient::new(layer, input, gradient, set)),
            Algorithm::AmxBf16 => {
                let unit = set.matrix_unit().expect("the algorithm is chosen only with a matrix unit");
                WeightGradient::Amx(AmxWeightGradient::new(layer, input, gradient, unit))
            }
            Algorithm::DirectBf16 => WeightGradient::Direct(DirectWeightGradient::in_bf16(layer, input, gradient, set)),
        }
    }

    /// Divides the weight gradient of the stem, whose input is an image.
    pub fn for_image(layer: &Convolution, input: &PaddedImage, gradient: &BlockedShape, set: InstructionSet) -> Self {
        WeightGradient::Direct(DirectWeightGradient::for_image(layer, input, gradient, set))
    }

    /// Returns the number of values of temporary memory.
    pub fn scratch_len(&self) -> usize {
        match self {
            WeightGradient::Direct(direct) => direct.scratch_len(),
            WeightGradient::Amx(amx) => amx.scratch_len(),
            WeightGradient::Winograd(winograd) => winograd.scratch_len(),
        }
    }

    /// Adds the gradient to `weight_gradient`, `[out_channels, in_channels / groups, kernel, kernel]`. `scratch` has
    /// room for [`scratch_len`](Self::scratch_len) values.
    pub fn run(
        &self,
        input: &[f32],
        gradient: Value,
        weight_gradient: &mut [f32],
        scratch: &mut [f32],
        execution: Execution,
    ) {
        match self {
            WeightGradient::Direct(direct) => direct.run(input, gradient, weight_gradient, scratch, execution),
            WeightGradient::Amx(amx) => amx.run(input, gradient, weight_gradient, scratch, execution),
            WeightGradient::Winograd(winograd) => winograd.run(input, gradient, weight_gradient, scratch, execution),
        }
    }
}
