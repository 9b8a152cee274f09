//! Division of a value into tiles of outputs.

use super::super::blocked_shape::BlockedShape;
use crate::engine::winograd::{MAX_ALPHA, WinogradVariant};

/// A number of tiles for each interpolation point in one dimension.
pub type PointCounts = [usize; MAX_ALPHA];

/// A row of tiles.
pub struct TileRow {
    pub image: usize,
    /// First row of its outputs.
    pub y: usize,
    /// Number of rows of its outputs, at most m.
    pub height: usize,
}

/// Horizontal position of a tile in its row.
pub struct TileColumn {
    /// First column of its outputs.
    pub x: usize,
    /// Number of columns of its outputs, at most m.
    pub width: usize,
    /// Number of preceding tiles of the row that have each interpolation point.
    pub preceding: PointCounts,
}

/// Returns the rows of tiles of a batch, image after image.
pub fn tile_rows(output: &BlockedShape, variant: WinogradVariant) -> Vec<TileRow> {
    let rows_per_image = split_side(output.height, variant.m);
    let rows =
        (0..output.batch).flat_map(|image| rows_per_image.iter().map(move |&(y, height)| TileRow { image, y, height }));
    rows.collect()
}

/// Returns the tiles of a row.
pub fn tile_columns(output: &BlockedShape, variant: WinogradVariant) -> Vec<TileColumn> {
    let mut preceding = [0; MAX_ALPHA];
    let columns = split_side(output.width, variant.m).into_iter().map(|(x, width)| {
        let column = TileColumn { x, width, preceding };
        count_points(&mut preceding, variant.alpha(width));
        column
    });
    columns.collect()
}

/// Returns the number of tiles in a row that have each interpolation point.
#[inline(always)]
pub fn tiles_per_row(columns: &[TileColumn], variant: WinogradVariant) -> PointCounts {
    let mut counts = [0; MAX_ALPHA];
    columns.iter().for_each(|column| count_points(&mut counts, variant.alpha(column.width)));
    counts
}

/// Returns the number of rows of tiles that have each interpolation point.
#[inline(always)]
pub fn rows_per_point(rows: &[TileRow], variant: WinogradVariant) -> PointCounts {
    let mut counts = [0; MAX_ALPHA];
    rows.iter().for_each(|row| count_points(&mut counts, variant.alpha(row.height)));
    counts
}

/// Splits a side into tiles of `m` outputs, the last of which may be smaller. Returns the start and the length of each.
fn split_side(side: usize, m: usize) -> Vec<(usize, usize)> {
    (0..side).step_by(m).map(|start| (start, m.min(side - start))).collect()
}

/// Adds a tile with `alpha` interpolation points to the counts.
#[inline(always)]
pub fn count_points(counts: &mut PointCounts, alpha: usize) {
    counts[..alpha].iter_mut().for_each(|count| *count += 1);
}
