//! Emulation of the unit in plain Rust, as a reference.

use super::super::unpack_bf16_pair;
use super::{TILE, TILE_PAIRS, TileProduct};

/// # Safety
/// All tiles of the product lie inside their operands, and no other thread accesses the sums.
pub unsafe fn multiply(product: &TileProduct) {
    let row_tiles = 0..product.row_tiles();
    for (row_tile, column_tile) in row_tiles.flat_map(|row_tile| [(row_tile, 0), (row_tile, 1)]) {
        for (row, column) in (0..TILE).flat_map(|row| (0..TILE).map(move |column| (row, column))) {
            let at = product.sums_start[row_tile] + row * product.sums_stride + column_tile * TILE + column;
            // SAFETY: the caller guarantees that the sums lie inside their slice, and that no other thread accesses
            // them.
            let sum = unsafe { &mut *product.sums.as_mut_ptr().add(at) };
            let mut total = if product.accumulate { *sum } else { 0.0 };
            for step in &product.steps.steps[product.range.clone()] {
                let a = product.rows_start[row_tile] + step.rows as usize + row * product.row_stride;
                let b = product.columns_start[column_tile] + step.columns as usize + column;
                let mut products = [0.0; 2];
                for pair in 0..TILE_PAIRS {
                    let a = unpack_bf16_pair(product.rows[a + pair]);
                    let b = unpack_bf16_pair(product.columns[b + pair * product.column_stride]);
                    products[0] += a[0] * b[0];
                    products[1] += a[1] * b[1];
                }
                total += products[0] + products[1];
            }
            *sum = total;
        }
    }
}
