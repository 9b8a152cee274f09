//! The coefficients of a batch norm that its passes use.

use crate::engine::cpu::blocked_shape::BLOCK;
use crate::engine::cpu::simd::Simd;

/// Coefficients of all channels, each padded to whole blocks.
pub struct Coefficients {
    pub mean: Vec<f32>,
    /// `gamma / sqrt(variance + epsilon)`: the normalised value is `scale * (value - mean) + beta`.
    pub scale: Vec<f32>,
    pub beta: Vec<f32>,
    /// The gradient of the value is `scale * gradient + slope * (value - mean) + offset`.
    pub slope: Vec<f32>,
    pub offset: Vec<f32>,
}

/// The coefficients of the normalisation for some channels.
pub struct Normalisation<V> {
    pub mean: V,
    pub scale: V,
    pub beta: V,
}

impl Coefficients {
    pub fn zeros(channels: usize) -> Self {
        let zeros = || vec![0.0; channels.next_multiple_of(BLOCK)];
        Coefficients { mean: zeros(), scale: zeros(), beta: zeros(), slope: zeros(), offset: zeros() }
    }

    /// Returns the coefficients of the normalisation for the channels from `channel` on.
    #[inline(always)]
    pub fn normalisation<S: Simd>(&self, simd: S, channel: usize) -> Normalisation<S::Vector> {
        let [mean, scale, beta] = [&self.mean, &self.scale, &self.beta].map(|values| read(simd, values, channel));
        Normalisation { mean, scale, beta }
    }

    /// Returns slope and offset of the gradient for the channels from `channel` on.
    #[inline(always)]
    pub fn gradient<S: Simd>(&self, simd: S, channel: usize) -> [S::Vector; 2] {
        [&self.slope, &self.offset].map(|values| read(simd, values, channel))
    }
}

impl<V: Copy> Normalisation<V> {
    /// Normalises a value.
    #[inline(always)]
    pub fn apply<S: Simd<Vector = V>>(&self, simd: S, value: V) -> V {
        simd.multiply_add(self.scale, simd.subtract(value, self.mean), self.beta)
    }
}

#[inline(always)]
fn read<S: Simd>(simd: S, values: &[f32], at: usize) -> S::Vector {
    assert!(at + S::LANES <= values.len());
    // SAFETY: the assertion checks that there are enough values.
    unsafe { simd.read(values, at) }
}
