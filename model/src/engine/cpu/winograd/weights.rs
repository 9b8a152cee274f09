//! Transformed weights, packed once: `[panels, weights of a tile, channels, panel]`.

use super::super::blocked::BLOCK;
use super::super::buffer::Buffer;
use crate::engine::winograd::{POINTS, Scheme};
use crate::plan::FoldedConvolution;

/// `G g G^T` of a convolution, channels counted up to blocks and panels with zeros.
pub fn pack(convolution: &FoldedConvolution, scheme: Scheme, panel: usize) -> Buffer {
    let [out_channels, in_channels, ..] = convolution.layer.weight_shape();
    let depth = in_channels.next_multiple_of(BLOCK);
    let side = scheme.weights();
    let points = side * side;
    let mut packed = Buffer::zeroed(out_channels.div_ceil(panel) * points * depth * panel);
    let transform = scheme.weight();
    for (index, packed) in packed.chunks_exact_mut(points * depth * panel).enumerate() {
        let columns = panel.min(out_channels - index * panel);
        for channel in 0..in_channels {
            // By tap, the weights of the panel's output channels, so that what follows runs over neighbours.
            let mut taps = [[0.0; PANEL]; 9];
            for column in 0..columns {
                let at = ((index * panel + column) * in_channels + channel) * 9;
                for (tap, &weight) in taps.iter_mut().zip(&convolution.weight[at..at + 9]) {
                    tap[column] = f64::from(weight);
                }
            }
            let mut rows = [[[0.0; PANEL]; 3]; POINTS];
            for (row, factors) in rows.iter_mut().zip(&transform[..side]) {
                for (x, sums) in row.iter_mut().enumerate() {
                    for (y, factor) in factors.iter().enumerate() {
                        for (sum, weight) in sums[..columns].iter_mut().zip(&taps[y * 3 + x]) {
                            *sum += factor * weight;
                        }
                    }
                }
            }
            for (y, row) in rows[..side].iter().enumerate() {
                for (x, factors) in transform[..side].iter().enumerate() {
                    let at = ((y * side + x) * depth + channel) * panel;
                    for (column, packed) in packed[at..at + columns].iter_mut().enumerate() {
                        let sum = factors.iter().zip(row).map(|(factor, row)| factor * row[column]).sum::<f64>();
                        *packed = sum as f32;
                    }
                }
            }
        }
    }
    packed
}

/// The widest panel.
const PANEL: usize = 32;
