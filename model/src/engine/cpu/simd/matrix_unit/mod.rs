//! Products of tiles of bf16, with f32 sums: Intel's AMX (Advanced Matrix Extensions), or its emulation as a reference.
//!
//! A tile has 16 rows of 64 bytes. The instruction `tdpbf16ps` multiplies a tile of 16 rows by 32 values with one of
//! 32 values by 16 columns, whose values are interleaved in pairs of rows, and adds the products to 16×16 sums. It is
//! available on Linux, where a process must ask for permission to use the tile registers. The standard library has no
//! stable intrinsics for it, so it is written in assembly.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod emulation;

use super::super::buffer::SharedMutSlice;
use std::marker::PhantomData;
use std::ops::Range;

/// Number of rows of a tile, and of columns of a tile of sums.
pub const TILE: usize = 16;
/// Number of pairs of bf16 in a row of a tile.
pub const TILE_PAIRS: usize = 16;

/// A unit that multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixUnit {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Amx(amx::Permission),
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    Emulated,
}

impl MatrixUnit {
    /// Returns the unit of this processor, if it has one and the operating system permits its use.
    pub fn detect() -> Option<Self> {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        return amx::Permission::request().map(MatrixUnit::Amx);
        #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
        None
    }

    /// Prepares the tile registers of the calling thread for products, until the value is dropped. A thread may hold only
    /// one such value at a time.
    pub fn configure_tiles(self) -> Tiles {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            MatrixUnit::Amx(permission) => permission.load_configuration(),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            MatrixUnit::Emulated => {}
        }
        Tiles { unit: self, not_send: PhantomData }
    }
}

/// The tile registers of the calling thread, ready for products.
pub struct Tiles {
    unit: MatrixUnit,
    /// The configuration belongs to a thread.
    not_send: PhantomData<*const ()>,
}

/// Offsets of the tiles that are multiplied in one step, from those of the first step, in pairs.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TileStep {
    rows: u32,
    columns: u32,
}

impl TileStep {
    /// # Panics
    /// Panics if an offset exceeds 32 bits.
    pub fn new(rows: usize, columns: usize) -> Self {
        let [rows, columns] = [rows, columns].map(|offset| u32::try_from(offset).expect("at most 16 GiB"));
        TileStep { rows, columns }
    }
}

/// Steps of a product, with the bounds of their offsets.
pub struct TileSteps {
    steps: Vec<TileStep>,
    last: TileStep,
}

impl TileSteps {
    pub fn new(steps: Vec<TileStep>) -> Self {
        let last = |offset: fn(&TileStep) -> u32| steps.iter().map(offset).max().unwrap_or(0);
        let last = TileStep { rows: last(|step| step.rows), columns: last(|step| step.columns) };
        TileSteps { steps, last }
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }
}

/// A product of one or two tiles of rows with two tiles of columns, summed over steps. Offsets and strides are in units
/// of four bytes: pairs of bf16, and f32 sums.
pub struct TileProduct<'a> {
    pub steps: &'a TileSteps,
    /// The steps that are executed.
    pub range: Range<usize>,
    /// Operand with the rows of the sums.
    pub rows: &'a [f32],
    /// Offset of each tile of rows in the first step; with equal offsets, only the first is multiplied.
    pub rows_start: [usize; 2],
    /// Distance between two rows of a tile.
    pub row_stride: usize,
    /// Operand with the columns of the sums, in pairs of rows.
    pub columns: &'a [f32],
    /// Offset of each tile of columns in the first step.
    pub columns_start: [usize; 2],
    pub column_stride: usize,
    pub sums: SharedMutSlice<'a>,
    /// Offset of the sums of each tile of rows. Those of the second tile of columns lie 16 further.
    pub sums_start: [usize; 2],
    pub sums_stride: usize,
    /// Whether the products are added to the sums, instead of replacing them.
    pub accumulate: bool,
}

impl TileProduct<'_> {
    fn row_tiles(&self) -> usize {
        if self.rows_start[0] == self.rows_start[1] { 1 } else { 2 }
    }

    /// # Panics
    /// Panics if a tile lies outside its operand.
    #[inline(always)]
    fn check(&self) {
        let TileSteps { last, ref steps } = *self.steps;
        assert!(self.range.start <= self.range.end && self.range.end <= steps.len());
        let end = |starts: [usize; 2], last: u32, stride: usize, width: usize| {
            starts[0].max(starts[1]) + last as usize + (TILE - 1) * stride + width
        };
        assert!(end(self.rows_start, last.rows, self.row_stride, TILE_PAIRS) <= self.rows.len());
        assert!(end(self.columns_start, last.columns, self.column_stride, TILE) <= self.columns.len());
        assert!(end(self.sums_start, 0, self.sums_stride, 2 * TILE) <= self.sums.len());
    }
}

impl Tiles {
    /// Computes a product.
    ///
    /// # Safety
    /// No other thread accesses the sums at the same time.
    ///
    /// # Panics
    /// Panics if a tile lies outside its operand.
    #[inline]
    pub unsafe fn multiply(&self, product: &TileProduct) {
        product.check();
        match self.unit {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            // SAFETY: the unit proves that the processor has AMX, the tiles are configured, `check` has succeeded, and
            // the caller guarantees that no other thread accesses the sums.
            MatrixUnit::Amx(_) => unsafe { amx::multiply(product) },
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            // SAFETY: as above.
            MatrixUnit::Emulated => unsafe { emulation::multiply(product) },
        }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        match self.unit {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            MatrixUnit::Amx(permission) => permission.release_configuration(),
            #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
            MatrixUnit::Emulated => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::simd::pack_bf16_pair;
    use crate::random::Uniform;

    /// Returns the sums of a product with every option that the kernels use.
    fn multiply(unit: MatrixUnit, row_tiles: usize, accumulate: bool, range: Range<usize>) -> Vec<f32> {
        let pairs = |seed, count: usize| -> Vec<f32> {
            let values: Vec<f32> = Uniform::new(seed).take(2 * count).collect();
            values.chunks_exact(2).map(|pair| pack_bf16_pair(pair[0], pair[1])).collect()
        };
        let (rows, columns) = (pairs(1, 2000), pairs(2, 3000));
        let steps = [(3, 64), (17, 0), (40, 1030), (0, 2)].map(|(rows, columns)| TileStep::new(rows, columns));
        let mut sums: Vec<f32> = Uniform::new(3).take(2000).collect();
        let product = TileProduct {
            steps: &TileSteps::new(steps.to_vec()),
            range,
            rows: &rows,
            rows_start: [5, 5 + 400 * (row_tiles - 1)],
            row_stride: 18,
            columns: &columns,
            columns_start: [1, 17],
            column_stride: 32,
            sums: SharedMutSlice::new(&mut sums),
            sums_start: [8, 900],
            sums_stride: 40,
            accumulate,
        };
        // SAFETY: no other thread accesses the sums.
        unsafe { unit.configure_tiles().multiply(&product) };
        sums
    }

    #[test]
    fn unit_of_the_processor_agrees_with_the_emulation() {
        let Some(unit) = MatrixUnit::detect() else {
            eprintln!("skipped: this processor has no AMX");
            return;
        };
        for (row_tiles, accumulate, range) in [(1, false, 0..4), (2, false, 1..3), (2, true, 0..4), (2, true, 2..2)] {
            let [actual, expected] =
                [unit, MatrixUnit::Emulated].map(|unit| multiply(unit, row_tiles, accumulate, range.clone()));
            for (at, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                assert!((actual - expected).abs() < 1e-5, "{row_tiles} tiles, sum {at}: {actual}, not {expected}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "end(self.rows_start")]
    fn product_outside_an_operand_is_rejected() {
        let steps = TileSteps::new(vec![TileStep::new(0, 0), TileStep::new(1, 0)]);
        let (rows, columns, mut sums) = ([0.0; 256], [0.0; 512], [0.0; 512]);
        let product = TileProduct {
            steps: &steps,
            range: 0..1,
            rows: &rows,
            rows_start: [0, 0],
            row_stride: 16,
            columns: &columns,
            columns_start: [0, 16],
            column_stride: 32,
            sums: SharedMutSlice::new(&mut sums),
            sums_start: [0, 0],
            sums_stride: 32,
            accumulate: false,
        };
        // SAFETY: no other thread accesses the sums.
        unsafe { MatrixUnit::Emulated.configure_tiles().multiply(&product) };
    }
}
