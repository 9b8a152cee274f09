//! Splits a Winograd convolution into tiles, blocks of tiles, and rounds of blocks, for values of one shape.

use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::F32_BYTES;
use super::super::microkernel::split_range;
use super::super::simd::InstructionSet;
use super::tiles::{PointCounts, TileColumn, TileRow, rows_per_point, tile_columns, tile_rows, tiles_per_row};
use super::weights::WinogradWeights;
use crate::engine::winograd::WinogradVariant;
use std::collections::BTreeSet;

/// Number of bytes of a core's cache that one block of tiles may take.
const CACHE_BYTES: usize = 512 << 10;
/// Maximum size of the transformed inputs of all blocks in a round, in bytes. A larger batch takes several rounds.
const MAX_TRANSFORMED_BYTES: usize = 4 << 20;

/// The division of a Winograd convolution into tiles, blocks of tiles, and tasks.
pub struct WinogradSchedule {
    /// Rows of tiles of the whole batch.
    pub(super) rows: Vec<TileRow>,
    /// Tiles of a row.
    pub(super) columns: Vec<TileColumn>,
    /// Number of rows of tiles in a block. The last block may have fewer.
    pub(super) rows_per_block: usize,
    /// Number of blocks that are transformed before their products are computed; 1 if `fused`.
    pub(super) blocks_per_round: usize,
    /// Whether one task does all computations of a block.
    pub(super) fused: bool,
    /// Offset of each block of input channels in the transformed inputs of an element, for the microkernel.
    pub(super) runs: Vec<usize>,
    pub(super) products: Vec<ElementProduct>,
}

/// One of the α×α matrix products of a block of tiles.
pub(super) struct ElementProduct {
    /// Index of the element in the transformed tile.
    pub element: usize,
    /// Interpolation points of the element, vertical and horizontal.
    pub points: [usize; 2],
    /// Index of the element in the transformed filter.
    pub filter_element: usize,
}

impl ElementProduct {
    /// Returns all products, in the order of their weights in memory.
    fn all(variant: WinogradVariant) -> Vec<ElementProduct> {
        let alpha = variant.alpha(variant.m);
        let product = |element| {
            let points = [element / alpha, element % alpha];
            let [y, x] = points.map(|point| variant.filter_point(point));
            ElementProduct { element, points, filter_element: y * variant.filter_side() + x }
        };
        let mut products: Vec<ElementProduct> = (0..alpha * alpha).map(product).collect();
        products.sort_by_key(|product| product.filter_element);
        products
    }
}

impl WinogradSchedule {
    /// Builds the schedule for an output of one shape.
    pub fn new(weights: &WinogradWeights, output: &BlockedShape, threads: usize) -> Self {
        let variant = weights.variant;
        let (rows, columns) = (tile_rows(output, variant), tile_columns(output, variant));

        let fused = weights.packed.len() * F32_BYTES <= CACHE_BYTES * 3 / 2;
        let channels = if fused { weights.in_blocks * BLOCK + weights.panel } else { weights.panel };
        let row_bytes = columns.len() * weights.elements() * channels * F32_BYTES;
        let mut rows_per_block = (CACHE_BYTES / 2 / row_bytes).clamp(1, rows.len());
        // Every thread should have work, and the last thread to finish little more than the others.
        let tasks =
            |rows_per_block: usize| rows.len().div_ceil(rows_per_block) * if fused { 1 } else { weights.panels };
        while rows_per_block > 1 && tasks(rows_per_block) < 2 * threads {
            rows_per_block = rows_per_block.div_ceil(2);
        }
        let mut schedule = WinogradSchedule {
            runs: Vec::new(),
            products: ElementProduct::all(variant),
            rows_per_block,
            blocks_per_round: 1,
            fused,
            rows,
            columns,
        };
        let tiles = schedule.tiles_per_block();
        schedule.runs = (0..weights.in_blocks).map(|block| block * tiles * BLOCK).collect();
        if !fused {
            let blocks = schedule.rows.len().div_ceil(rows_per_block);
            let block_bytes = schedule.transformed_len(weights) * F32_BYTES;
            schedule.blocks_per_round = (MAX_TRANSFORMED_BYTES / block_bytes).clamp(1, blocks);
        }
        schedule
    }

    pub(super) fn tiles_per_block(&self) -> usize {
        self.rows_per_block * self.columns.len()
    }

    /// Returns the distance from an element of the transformed inputs to the next. It is one cache line longer than
    /// necessary, so that the elements of a tile do not all fall into the same set of a cache.
    pub(super) fn transformed_stride(&self, weights: &WinogradWeights) -> usize {
        (weights.in_blocks * self.tiles_per_block() + 1) * BLOCK
    }

    /// Returns the distance from an element of the products to the next, with padding for the same reason.
    pub(super) fn products_stride(&self, weights: &WinogradWeights) -> usize {
        self.tiles_per_block() * weights.panel + BLOCK
    }

    /// Returns the number of values of a block's transformed inputs, `[elements, in_blocks, tiles, 16]`.
    pub(super) fn transformed_len(&self, weights: &WinogradWeights) -> usize {
        weights.elements() * self.transformed_stride(weights)
    }

    /// Returns the number of values of a block's products for one panel, `[elements, tiles, panel]`.
    fn products_len(&self, weights: &WinogradWeights) -> usize {
        weights.elements() * self.products_stride(weights)
    }

    /// Returns the number of values of temporary memory that all threads share.
    pub fn shared_len(&self, weights: &WinogradWeights) -> usize {
        if self.fused { 0 } else { self.blocks_per_round * self.transformed_len(weights) }
    }

    /// Returns the number of values of scratch memory for each thread.
    pub fn scratch_len(&self, weights: &WinogradWeights) -> usize {
        self.products_len(weights) + if self.fused { self.transformed_len(weights) } else { 0 }
    }

    /// Returns the number of tiles in a row that have each interpolation point.
    #[inline(always)]
    pub(super) fn tiles_per_row(&self, variant: WinogradVariant) -> PointCounts {
        tiles_per_row(&self.columns, variant)
    }

    /// Returns the heights of all register tiles, in transformed tiles.
    pub fn tile_heights(&self, weights: &WinogradWeights, set: InstructionSet) -> BTreeSet<usize> {
        let tiles_per_row = self.tiles_per_row(weights.variant);
        let mut heights = BTreeSet::new();
        for block in self.rows.chunks(self.rows_per_block) {
            let rows_per_point = rows_per_point(block, weights.variant);
            for ElementProduct { points: [y, x], .. } in &self.products {
                let tiles = rows_per_point[*y] * tiles_per_row[*x];
                let parts = tiles.div_ceil(set.tile_rows());
                heights.extend((0..parts).map(|part| split_range(tiles, parts, part).len()));
            }
        }
        heights
    }

    /// Rows of tiles of block number `index`.
    pub(super) fn block(&self, index: usize) -> &[TileRow] {
        let start = index * self.rows_per_block;
        &self.rows[start..(start + self.rows_per_block).min(self.rows.len())]
    }
}
