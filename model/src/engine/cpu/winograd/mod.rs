//! Convolutions of 3x3 by Winograd's minimal filtering: fewer multiplications than there are taps.
//!
//! Tiles of the input are transformed, a block of them at a time; then for every panel of output channels, one matrix
//! product a point; then the products are transformed back into the output. Where the weights fit the cache beside a block,
//! one task does all three for its block. Where they are large, every weight should be read once: then all blocks are
//! transformed first, and each task takes one panel of the weights through a block.

mod schedule;
mod transform;
mod weights;

use super::blocked::{BLOCK, Blocked};
use super::buffer::{Buffer, Target};
use super::choice::Algorithm;
use super::simd::{InstructionSet, Kernel, Simd};
use super::threads::{Scratch, Threads};
use super::tile::{Ahead, Epilogue, Operands, Store, Tile, piece, with_rows};
use crate::engine::winograd::{POINTS, Scheme};
use crate::plan::FoldedConvolution;
pub use schedule::Schedule;
use schedule::{Column, Line, Product, count};
use std::ops::Range;
use transform::{InputTransform, OutputTransform, Points};

/// A convolution's transformed weights.
pub struct Weights {
    packed: Buffer,
    scheme: Scheme,
    in_blocks: usize,
    panels: usize,
    panel: usize,
}

impl Weights {
    pub fn pack(convolution: &FoldedConvolution, scheme: Scheme, set: InstructionSet) -> Self {
        let [out_channels, in_channels, ..] = convolution.layer.weight_shape();
        let panel = set.panel();
        Weights {
            packed: weights::pack(convolution, scheme, panel),
            scheme,
            in_blocks: in_channels.div_ceil(BLOCK),
            panels: out_channels.div_ceil(panel),
            panel,
        }
    }

    pub fn algorithm(&self) -> Algorithm {
        Algorithm::Winograd(self.scheme)
    }

    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }

    /// Multiply-adds for an output.
    pub fn products(&self, output: &Blocked) -> usize {
        let channels = self.packed.len() / self.scheme.matrices();
        output.batch * self.scheme.products(output.height) * self.scheme.products(output.width) * channels
    }

    /// Points of a tile's side.
    fn side(&self) -> usize {
        self.scheme.points(self.scheme.tile)
    }

    /// Points of a tile.
    fn points(&self) -> usize {
        self.side() * self.side()
    }
}

/// One convolution, ready to run.
pub struct Convolution<'a> {
    pub weights: &'a Weights,
    pub schedule: &'a Schedule,
    /// The input with a border of at least 1.
    pub input: &'a [f32],
    pub input_shape: &'a Blocked,
    pub epilogue: Epilogue<'a>,
}

impl Convolution<'_> {
    /// `shared` has room for [`Schedule::shared`] values, `scratch` for [`Schedule::scratch`].
    pub fn run(&self, set: InstructionSet, threads: &Threads, shared: &mut [f32], scratch: &Scratch) {
        let Convolution { weights, schedule, .. } = *self;
        self.epilogue.check(weights.panels * weights.panel);
        assert_eq!(self.input.len(), self.input_shape.len());
        assert!(self.input_shape.border > 0 && shared.len() >= schedule.shared(weights));
        let blocks = schedule.lines.len().div_ceil(schedule.lines_of_a_block);
        if schedule.fused {
            threads.for_each_with(scratch, blocks, |block, scratch| {
                let (transformed, products) = scratch.split_at_mut(schedule.transformed(weights));
                set.run(Task { convolution: self, block, work: Work::All { transformed, products } });
            });
            return;
        }
        let size = schedule.transformed(weights);
        for round in (0..blocks).step_by(schedule.blocks_of_a_round) {
            let count = schedule.blocks_of_a_round.min(blocks - round);
            let transformed = Target::new(shared);
            threads.for_each(count * weights.in_blocks, |task| {
                let (block, channels) = (task / weights.in_blocks, task % weights.in_blocks);
                let work = Work::Transform { transformed, at: block * size, channels: channels..channels + 1 };
                set.run(Task { convolution: self, block: round + block, work });
            });
            let transformed = &*shared;
            threads.for_each_with(scratch, count * weights.panels, |task, products| {
                // Tasks that follow each other share a panel's weights.
                let (panel, block) = (task / count, task % count);
                let transformed = &transformed[block * size..][..size];
                let work = Work::Multiply { transformed, products, panels: panel..panel + 1 };
                set.run(Task { convolution: self, block: round + block, work });
            });
        }
    }
}

/// What a thread does at once.
struct Task<'a> {
    convolution: &'a Convolution<'a>,
    block: usize,
    work: Work<'a>,
}

enum Work<'a> {
    /// Some blocks of channels of the input, to `at`.
    Transform { transformed: Target<'a>, at: usize, channels: Range<usize> },
    /// Some panels of the output.
    Multiply { transformed: &'a [f32], products: &'a mut [f32], panels: Range<usize> },
    /// Everything for a block.
    All { transformed: &'a mut [f32], products: &'a mut [f32] },
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.convolution.weights.scheme {
            Scheme { tile: 2, stride: 1 } => self.run_with::<S, 2, 1>(simd),
            Scheme { tile: 3, stride: 1 } => self.run_with::<S, 3, 1>(simd),
            Scheme { tile: 4, stride: 1 } => self.run_with::<S, 4, 1>(simd),
            Scheme { tile: 2, stride: 2 } => self.run_with::<S, 2, 2>(simd),
            scheme => unreachable!("{scheme:?}"),
        }
    }
}

impl Task<'_> {
    #[inline(always)]
    fn run_with<S: Simd, const TILE: usize, const STRIDE: usize>(self, simd: S) {
        let Task { convolution, block, work } = self;
        let lines = convolution.schedule.block(block);
        match work {
            Work::Transform { transformed, at, channels } => {
                simd.vectorize(Transform::<TILE, STRIDE> { convolution, lines, transformed, at, channels });
            }
            Work::Multiply { transformed, products, panels } => {
                simd.vectorize(Multiply::<TILE, STRIDE> { convolution, lines, transformed, products, panels });
            }
            Work::All { transformed, products } => {
                let channels = 0..convolution.weights.in_blocks;
                let target = Target::new(transformed);
                simd.vectorize(Transform::<TILE, STRIDE> { convolution, lines, transformed: target, at: 0, channels });
                let panels = 0..convolution.weights.panels;
                simd.vectorize(Multiply::<TILE, STRIDE> { convolution, lines, transformed, products, panels });
            }
        }
    }
}

/// Transforms a block's inputs to `[points, in_blocks, tiles, 16]`.
struct Transform<'a, const TILE: usize, const STRIDE: usize> {
    convolution: &'a Convolution<'a>,
    lines: &'a [Line],
    transformed: Target<'a>,
    at: usize,
    channels: Range<usize>,
}

impl<const TILE: usize, const STRIDE: usize> Kernel for Transform<'_, TILE, STRIDE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Transform { convolution: Convolution { weights, schedule, input, input_shape, .. }, .. } = self;
        let tiles = schedule.tiles_of_a_block();
        let totals = schedule.totals(weights.scheme);
        let inset = input_shape.border - 1;
        for block in self.channels {
            let mut lines = [0; POINTS];
            for line in self.lines {
                for column in &schedule.columns {
                    let corner = block * input_shape.plane()
                        + input_shape.offset(line.image, line.y * STRIDE + inset, column.x * STRIDE + inset);
                    for lane in (0..BLOCK).step_by(S::LANES) {
                        let points = Points {
                            start: self.at + block * tiles * BLOCK + lane,
                            point: weights.in_blocks * tiles * BLOCK,
                            tile: BLOCK,
                            lines: &lines,
                            columns: &column.rank,
                            totals: &totals,
                        };
                        let tile = InputTransform::<TILE, STRIDE> {
                            size: [line.height, column.width],
                            input,
                            corner: corner + lane,
                            pitch: input_shape.pitch(),
                            target: self.transformed,
                            points,
                        };
                        tile.run(simd);
                    }
                }
                count(&mut lines, weights.scheme.points(line.height));
            }
        }
    }
}

/// Multiplies a block's transformed inputs by panels of the weights, and transforms the products to outputs.
struct Multiply<'a, const TILE: usize, const STRIDE: usize> {
    convolution: &'a Convolution<'a>,
    lines: &'a [Line],
    transformed: &'a [f32],
    /// `[points, tiles, panel]`
    products: &'a mut [f32],
    panels: Range<usize>,
}

impl<const TILE: usize, const STRIDE: usize> Kernel for Multiply<'_, TILE, STRIDE> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Convolution { weights, schedule, epilogue, input_shape, .. } = self.convolution;
        let totals = schedule.totals(weights.scheme);
        let mut line_totals = [0; POINTS];
        self.lines.iter().for_each(|line| count(&mut line_totals, weights.scheme.points(line.height)));
        let tiles = schedule.tiles_of_a_block();
        let (matrices, depth, panel) = (weights.scheme.matrices(), weights.in_blocks * BLOCK, weights.panel);
        debug_assert_eq!(input_shape.batch, epilogue.shape.batch);
        let residual_shape = epilogue.residual.map(|(_, shape)| shape);

        for index in self.panels {
            let target = Target::new(self.products);
            for &Product { point, rows: [y, x], matrix } in &schedule.products {
                let rows = line_totals[y] * totals[x];
                let packed = &weights.packed[(index * matrices + matrix) * depth * panel..][..depth * panel];
                let inputs = &self.transformed[point * depth * tiles..][..depth * tiles];
                let parts = rows.div_ceil(S::ROWS);
                for part in 0..parts {
                    let tiles_of_part = piece(rows, parts, part);
                    let finish = Store { target, at: (point * tiles + tiles_of_part.start) * panel };
                    let ahead = Ahead::new(depth * panel, panel, part, parts);
                    let (origin, runs) = (tiles_of_part.start * BLOCK, &schedule.runs);
                    multiply(
                        simd,
                        tiles_of_part.len(),
                        Operands { input: inputs, origin, runs, weights: packed, ahead },
                        finish,
                    );
                }
            }

            let mut lines = [0; POINTS];
            for line in self.lines {
                for column in &schedule.columns {
                    for lane in (0..panel).step_by(S::LANES) {
                        let points = Points {
                            start: lane,
                            point: tiles * panel,
                            tile: panel,
                            lines: &lines,
                            columns: &column.rank,
                            totals: &totals,
                        };
                        let tile = OutputTransform::<TILE, STRIDE> {
                            size: [line.height, column.width],
                            products: self.products,
                            points,
                            epilogue: *epilogue,
                            channel: index * panel + lane,
                            corner: corner(epilogue.shape, line, column),
                            residual_corner: residual_shape.map_or(0, |shape| corner(shape, line, column)),
                        };
                        tile.run(simd);
                    }
                }
                count(&mut lines, weights.scheme.points(line.height));
            }
        }
    }
}

/// The offset of a tile's first pixel in a plane.
#[inline(always)]
fn corner(shape: &Blocked, line: &Line, column: &Column) -> usize {
    shape.offset(line.image, line.y + shape.border, column.x + shape.border)
}

/// A tile of sums with as many columns as the registers hold.
#[inline(always)]
fn multiply<S: Simd>(simd: S, rows: usize, operands: Operands, finish: Store) {
    with_rows!(rows, ROWS => match S::COLUMNS {
        2 => simd.vectorize(Tile::<_, ROWS, 2, BLOCK, BLOCK> { operands, finish }),
        4 => simd.vectorize(Tile::<_, ROWS, 4, BLOCK, BLOCK> { operands, finish }),
        columns => unreachable!("tiles of {columns} vectors"),
    });
}
