//! Direct convolution as matrix products: 1x1 filters with any stride, larger filters without im2col, the stem with
//! its three colour channels, and the classifier, which is a 1x1 convolution of one pixel.

mod schedule;
mod weights;

pub use schedule::DirectSchedule;
pub use weights::{DirectWeights, PanelLayout};

use super::bf16_pairs;
use super::blocked_shape::{BLOCK, BlockedShape};
use super::convolution_output::ConvolutionOutput;
use super::filter::Filter;
use super::microkernel::{Microkernel, Operands, WeightPrefetch, WritePixels, split_range, with_rows};
use super::padded_image::COLOURS;
use super::simd::{InstructionSet, Kernel, Simd};
use super::thread_pool::ThreadPool;
use std::ops::Range;
use weights::InputFormat;

/// A direct convolution of one input.
pub struct DirectConvolution<'a> {
    pub weights: &'a DirectWeights,
    pub schedule: &'a DirectSchedule,
    /// Input, `[in_channels / 16, batch, height, width, 16]` with a border of at least the padding, or for the stem a
    /// [`PaddedImage`](super::padded_image::PaddedImage).
    pub input: &'a [f32],
    pub output: ConvolutionOutput<'a>,
}

impl DirectConvolution<'_> {
    /// Computes the convolution. `shared` has room for [`DirectSchedule::shared_len`] values.
    pub fn run(&self, set: InstructionSet, threads: &ThreadPool, shared: &mut [f32]) {
        let input = match self.weights.input_format {
            InputFormat::Blocked | InputFormat::Rgb => self.input,
            InputFormat::Bf16Pairs => {
                bf16_pairs::round_to_pairs(self.input, shared, set, threads);
                shared
            }
        };
        let convolution = &DirectConvolution { input, ..*self };
        let DirectSchedule { ref rows, tiles_per_row, tile_parts, panel_parts, .. } = *self.schedule;
        let tiles = rows.count * tiles_per_row;
        self.output.check(self.weights.panels() * self.weights.layout.panel);
        assert_eq!(rows.count * rows.length, self.output.shape.batch * self.output.grid.pixels());
        threads.for_each(tile_parts * panel_parts, |task| {
            set.run(Task {
                convolution,
                tiles: split_range(tiles, tile_parts, task % tile_parts),
                panels: split_range(self.weights.panels(), panel_parts, task / tile_parts),
            });
        });
    }
}

/// Computes some tiles for some panels of output channels.
struct Task<'a> {
    convolution: &'a DirectConvolution<'a>,
    tiles: Range<usize>,
    panels: Range<usize>,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let DirectConvolution { weights, schedule, input, output } = *self.convolution;
        let DirectSchedule { ref runs, ref rows, tiles_per_row, .. } = *schedule;
        let depth = weights.packed.len() / weights.panels();
        for panel in self.panels {
            let packed = &weights.packed[panel * depth..][..depth];
            let first_block = weights.layout.first_blocks[panel] * schedule.block_stride;
            for tile in self.tiles.clone() {
                let prefetch =
                    WeightPrefetch::new(depth, weights.layout.panel, tile - self.tiles.start, self.tiles.len());
                let (row, part) = (tile / tiles_per_row, tile % tiles_per_row);
                let pixels = split_range(rows.length, tiles_per_row, part);
                let (image, y) = (row / rows.per_image, row % rows.per_image);
                let origin = first_block + rows.start + image * rows.image_stride + y * rows.row_stride;
                let offset = |shape: &BlockedShape| output.grid.offset(shape, image, y, pixels.start);
                let (at, residual_at) = (offset(output.shape), output.residual.map_or(0, |(_, shape)| offset(shape)));
                let epilogue = WritePixels { output, channel: panel * weights.layout.panel, at, residual_at };
                let operands = Operands { input, origin, runs, weights: packed, prefetch };
                run_microkernel(simd, weights, pixels, operands, epilogue);
            }
        }
    }
}

/// Computes one register tile, some pixels of a row, with the microkernel for which the weights are packed. `row` are
/// the operands of the first pixel of the row.
#[inline(always)]
fn run_microkernel<S: Simd>(
    simd: S,
    weights: &DirectWeights,
    pixels: Range<usize>,
    row: Operands,
    epilogue: WritePixels,
) {
    macro_rules! tile {
        ($columns:literal, $pixel_stride:expr, $run_length:expr, $pairs:literal) => {{
            let operands = Operands { origin: row.origin + pixels.start * $pixel_stride, ..row };
            with_rows!(pixels.len(), ROWS => {
                simd.vectorize(Microkernel::<_, ROWS, $columns, { $pixel_stride }, { $run_length }, $pairs> { operands, epilogue })
            })
        }};
    }
    macro_rules! columns {
        ($pixel_stride:expr, $run_length:expr, $pairs:literal) => {
            match weights.layout.columns {
                1 => tile!(1, $pixel_stride, $run_length, $pairs),
                2 => tile!(2, $pixel_stride, $run_length, $pairs),
                4 => tile!(4, $pixel_stride, $run_length, $pairs),
                columns => unreachable!("no register tile is {columns} vectors wide"),
            }
        };
    }
    let Filter { stride, ref elements, .. } = weights.layout.filter;
    match (weights.input_format, elements.len(), stride) {
        (InputFormat::Blocked, _, 1) => columns!(BLOCK, BLOCK, false),
        (InputFormat::Blocked, _, 2) => columns!(2 * BLOCK, BLOCK, false),
        (InputFormat::Bf16Pairs, _, 1) if S::BF16_PAIRS => columns!(BLOCK / 2, BLOCK / 2, true),
        (InputFormat::Bf16Pairs, _, 2) if S::BF16_PAIRS => columns!(BLOCK, BLOCK / 2, true),
        (InputFormat::Rgb, 49, 2) => columns!(2 * COLOURS, 7 * COLOURS, false),
        (InputFormat::Rgb, 49, 1) => columns!(COLOURS, 7 * COLOURS, false),
        (InputFormat::Rgb, 9, 1) => columns!(COLOURS, 3 * COLOURS, false),
        (InputFormat::Bf16Pairs, ..) => {
            unreachable!("weights are packed as pairs only if the instruction set supports them")
        }
        (_, elements, stride) => {
            unreachable!("no architecture has a filter of {elements} elements with stride {stride} and this input")
        }
    }
}
