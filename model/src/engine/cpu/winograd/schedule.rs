//! How the work of a convolution is cut, for one shape of its values: into tiles, blocks of tiles, and rounds of blocks.

use super::super::blocked::{BLOCK, Blocked};
use super::super::buffer::F32;
use super::transform::Ranks;
use super::{Scheme, Weights};
use crate::engine::winograd::POINTS;

/// What of a core's cache may be taken for one block of tiles.
const CACHE: usize = 512 << 10;
/// Transformed inputs of all blocks at once, at most; a larger batch goes in several rounds.
const TRANSFORMED: usize = 4 << 20;

/// How a value of one shape is cut into tiles, blocks of tiles, and tasks.
pub struct Schedule {
    /// Rows of tiles, over the whole batch.
    pub lines: Vec<Line>,
    /// Tiles of a row.
    pub columns: Vec<Column>,
    /// Rows of tiles in a block; the last block may have fewer.
    pub lines_of_a_block: usize,
    /// Blocks transformed before their products are computed; 1 if a task does both.
    pub blocks_of_a_round: usize,
    pub fused: bool,
    /// Of a block, for the tile's inner loop.
    pub runs: Vec<usize>,
    pub products: Vec<Product>,
}

/// One of the matrix products of a block. They are in the order of their weights in memory.
pub struct Product {
    pub point: usize,
    /// The point in a column of points, and in a row.
    pub rows: [usize; 2],
    /// Which of the transformed weights.
    pub matrix: usize,
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
pub struct Line {
    pub image: usize,
    /// The first row of its outputs.
    pub y: usize,
    pub height: usize,
}

/// A tile's place in its row.
pub struct Column {
    pub x: usize,
    pub width: usize,
    /// By point: how many tiles before it in the row have that point.
    pub rank: Ranks,
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

    pub fn tiles_of_a_block(&self) -> usize {
        self.lines_of_a_block * self.columns.len()
    }

    /// Values of a block's transformed inputs: `[points, in_blocks, tiles, 16]`.
    pub fn transformed(&self, weights: &Weights) -> usize {
        weights.points() * weights.in_blocks * self.tiles_of_a_block() * BLOCK
    }

    /// Values of a block's products for one panel: `[points, tiles, panel]`.
    pub fn products(&self, weights: &Weights) -> usize {
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

    /// By point: how many tiles of a line have it.
    #[inline(always)]
    pub fn totals(&self, scheme: Scheme) -> Ranks {
        let mut totals = [0; POINTS];
        self.columns.iter().for_each(|column| count(&mut totals, scheme.points(column.width)));
        totals
    }

    pub fn block(&self, index: usize) -> &[Line] {
        let start = index * self.lines_of_a_block;
        &self.lines[start..(start + self.lines_of_a_block).min(self.lines.len())]
    }
}

/// Cuts a side into tiles; the last may be smaller.
fn cut(side: usize, tile: usize) -> Vec<(usize, usize)> {
    (0..side).step_by(tile).map(|start| (start, tile.min(side - start))).collect()
}

/// Counts a tile at each of its points.
#[inline(always)]
pub fn count(ranks: &mut Ranks, points: usize) {
    ranks[..points].iter_mut().for_each(|rank| *rank += 1);
}
