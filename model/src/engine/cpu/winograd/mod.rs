//! Convolutions of 3x3 by Winograd's minimal filtering: fewer multiplications than there are taps.
//!
//! Tiles of the input are transformed, a block of them at a time; then for every panel of output channels, one matrix
//! product a point; then the products are transformed back into the output. Where the weights fit the cache beside a block,
//! one task does all three for its block. Where they are large, every weight should be read once: then all blocks are
//! transformed first, and each task takes one panel of the weights through a block.

mod points;
mod transform;
mod weights;

use super::blocked::{BLOCK, Blocked};
use super::buffer::{Buffer, Target};
use super::simd::{InstructionSet, Kernel, Simd};
use super::threads::{Scratch, Threads};
use super::tile::{Ahead, Epilogue, Operands, Store, Tile, with_rows};
use crate::plan::FoldedConvolution;
use points::POINTS;
pub use points::Scheme;
use std::ops::Range;
use transform::{Points, Ranks};

/// What of a core's cache may be taken for one block of tiles.
const CACHE: usize = 512 << 10;
/// Transformed inputs of all blocks at once, at most; a larger batch goes in several rounds.
const TRANSFORMED: usize = 4 << 20;
/// Values to bytes.
const F32: usize = size_of::<f32>();

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

    /// `winograd 4x4`, and with a stride of 2 `winograd 2x2/2`.
    pub fn name(&self) -> String {
        let Scheme { tile, stride } = self.scheme;
        let stride = if stride == 1 { String::new() } else { format!("/{stride}") };
        format!("winograd {tile}x{tile}{stride}")
    }

    pub fn packed_len(&self) -> usize {
        self.packed.len()
    }

    /// Multiply-adds for an output.
    pub fn products(&self, output: &Blocked) -> usize {
        let channels = self.packed.len() / self.matrices();
        output.batch * self.scheme.products(output.height) * self.scheme.products(output.width) * channels
    }

    /// Points of a tile's side.
    fn side(&self) -> usize {
        self.scheme.points(self.scheme.tile)
    }

    /// Transformed weights of a pair of channels.
    fn matrices(&self) -> usize {
        self.scheme.weights() * self.scheme.weights()
    }

    /// Points of a tile.
    fn points(&self) -> usize {
        self.side() * self.side()
    }
}

/// How a value of one shape is cut into tiles, blocks of tiles, and tasks.
pub struct Schedule {
    /// Rows of tiles, over the whole batch.
    lines: Vec<Line>,
    /// Tiles of a row.
    columns: Vec<Column>,
    /// Rows of tiles in a block; the last block may have fewer.
    lines_of_a_block: usize,
    /// Blocks transformed before their products are computed; 1 if a task does both.
    blocks_of_a_round: usize,
    fused: bool,
    /// Of a block, for the tile's inner loop.
    runs: Vec<usize>,
    products: Vec<Product>,
}

/// One of the matrix products of a block. They are in the order of their weights in memory.
struct Product {
    point: usize,
    /// The point in a column of points, and in a row.
    rows: [usize; 2],
    /// Which of the transformed weights.
    matrix: usize,
}

impl Product {
    fn all(scheme: Scheme) -> Vec<Product> {
        let side = scheme.points(scheme.tile);
        let product = |point| {
            let rows = [point / side, point % side];
            let [y, x] = rows.map(|point| scheme.weight_of(point));
            Product { point, rows, matrix: y * scheme.weights() + x }
        };
        let mut products: Vec<Product> = (0..side * side).map(product).collect();
        products.sort_by_key(|product| product.matrix);
        products
    }
}

/// A row of tiles.
struct Line {
    image: usize,
    /// The first row of its outputs.
    y: usize,
    height: usize,
}

/// A tile's place in its row.
struct Column {
    x: usize,
    width: usize,
    /// By point: how many tiles before it in the row have that point.
    rank: Ranks,
}

impl Schedule {
    pub fn new(weights: &Weights, output: &Blocked, threads: usize) -> Self {
        let scheme = weights.scheme;
        let row = cut(output.height, scheme.tile);
        let lines = (0..output.batch).flat_map(|image| row.iter().map(move |&(y, height)| Line { image, y, height }));
        let lines: Vec<Line> = lines.collect();
        let mut rank = [0; POINTS];
        let columns = cut(output.width, scheme.tile).into_iter().map(|(x, width)| {
            let column = Column { x, width, rank };
            count(&mut rank, scheme.points(width));
            column
        });
        let columns: Vec<Column> = columns.collect();

        let fused = weights.packed.len() * F32 <= CACHE * 3 / 2;
        let channels = if fused { weights.in_blocks * BLOCK + weights.panel } else { weights.panel };
        let line_bytes = columns.len() * weights.points() * channels * F32;
        let mut lines_of_a_block = (CACHE / 2 / line_bytes).clamp(1, lines.len());
        // Every thread should have work, and the last one to finish not much more than the others.
        let tasks =
            |lines_of_a_block: usize| lines.len().div_ceil(lines_of_a_block) * if fused { 1 } else { weights.panels };
        while lines_of_a_block > 1 && tasks(lines_of_a_block) < 2 * threads {
            lines_of_a_block = lines_of_a_block.div_ceil(2);
        }
        let mut schedule = Schedule {
            runs: Vec::new(),
            products: Product::all(scheme),
            lines_of_a_block,
            blocks_of_a_round: 1,
            fused,
            lines,
            columns,
        };
        let tiles = schedule.tiles_of_a_block();
        schedule.runs = (0..weights.in_blocks).map(|block| block * tiles * BLOCK).collect();
        if !fused {
            let blocks = schedule.lines.len().div_ceil(lines_of_a_block);
            schedule.blocks_of_a_round = (TRANSFORMED / (schedule.transformed(weights) * F32)).clamp(1, blocks);
        }
        schedule
    }

    fn tiles_of_a_block(&self) -> usize {
        self.lines_of_a_block * self.columns.len()
    }

    /// Values of a block's transformed inputs: `[points, in_blocks, tiles, 16]`.
    fn transformed(&self, weights: &Weights) -> usize {
        weights.points() * weights.in_blocks * self.tiles_of_a_block() * BLOCK
    }

    /// Values of a block's products for one panel: `[points, tiles, panel]`.
    fn products(&self, weights: &Weights) -> usize {
        weights.points() * self.tiles_of_a_block() * weights.panel
    }

    /// Values of memory shared by all threads.
    pub fn shared(&self, weights: &Weights) -> usize {
        if self.fused { 0 } else { self.blocks_of_a_round * self.transformed(weights) }
    }

    /// Values of scratch memory for each thread.
    pub fn scratch(&self, weights: &Weights) -> usize {
        self.products(weights) + if self.fused { self.transformed(weights) } else { 0 }
    }

    fn block(&self, index: usize) -> &[Line] {
        let start = index * self.lines_of_a_block;
        &self.lines[start..(start + self.lines_of_a_block).min(self.lines.len())]
    }
}

/// Cuts a side into tiles; the last may be smaller.
fn cut(side: usize, tile: usize) -> Vec<(usize, usize)> {
    (0..side).step_by(tile).map(|start| (start, tile.min(side - start))).collect()
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

/// Counts a tile at each of its points.
#[inline(always)]
fn count(ranks: &mut Ranks, points: usize) {
    ranks[..points].iter_mut().for_each(|rank| *rank += 1);
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
                        let tile = transform::Input::<TILE, STRIDE> {
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

impl Schedule {
    /// By point: how many tiles of a line have it.
    #[inline(always)]
    fn totals(&self, scheme: Scheme) -> Ranks {
        let mut totals = [0; POINTS];
        self.columns.iter().for_each(|column| count(&mut totals, scheme.points(column.width)));
        totals
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
        let (matrices, depth, panel) = (weights.matrices(), weights.in_blocks * BLOCK, weights.panel);
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
                    let (first, end) = (rows * part / parts, rows * (part + 1) / parts);
                    let finish = Store { target, at: (point * tiles + first) * panel };
                    let ahead = Ahead::new(depth * panel, panel, part, parts);
                    let (origin, runs) = (first * BLOCK, &schedule.runs);
                    multiply(
                        simd,
                        end - first,
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
                        let tile = transform::Output::<TILE, STRIDE> {
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
