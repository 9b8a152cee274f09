//! Products of tiles of bf16, with f32 sums: Intel's AMX (Advanced Matrix Extensions), or its emulation as a reference.
//!
//! A tile has 16 rows of 64 bytes. The instruction `tdpbf16ps` multiplies a tile of 16 rows by 32 values with one of
//! 32 values by 16 columns, whose values are interleaved in pairs of rows, and adds the products to 16×16 sums. It is
//! available on Linux, where a process must ask for permission to use the tile registers. The standard library has no
//! stable intrinsics for it, so it is written in assembly.

use super::super::buffer::SharedMutSlice;
use std::marker::PhantomData;

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
    pub range: std::ops::Range<usize>,
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

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use super::{TILE, TileProduct};
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    /// Proof that the processor multiplies tiles of bf16, and that the process may use the tile registers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Permission(());

    impl Permission {
        /// Asks the operating system for permission, once per process.
        pub fn request() -> Option<Self> {
            static GRANTED: OnceLock<bool> = OnceLock::new();
            let granted = GRANTED.get_or_init(|| {
                const AMX_BF16: u32 = 1 << 22;
                const AMX_TILE: u32 = 1 << 24;
                const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
                const XTILEDATA: libc::c_long = 18;
                let features = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).edx } else { 0 };
                features & (AMX_BF16 | AMX_TILE) == AMX_BF16 | AMX_TILE
                    // SAFETY: the call only changes which registers the kernel lets this process use.
                    && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) } == 0
            });
            granted.then_some(Permission(()))
        }

        /// Gives all tiles 16 rows of 64 bytes.
        pub fn load_configuration(self) {
            #[repr(C, align(64))]
            struct Configuration {
                palette: u8,
                start_row: u8,
                reserved: [u8; 14],
                row_bytes: [u16; 16],
                rows: [u8; 16],
            }
            let mut configuration =
                Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
            configuration.row_bytes[..8].fill(64);
            configuration.rows[..8].fill(TILE as u8);
            // SAFETY: `self` proves that the processor has AMX and that its use is permitted. The instruction reads 64
            // bytes.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, readonly, preserves_flags));
            }
        }

        /// Releases the tile registers, so that the operating system need not save them.
        pub fn release_configuration(self) {
            // SAFETY: `self` proves that the processor has AMX and that its use is permitted.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
        }
    }

    /// Addresses and strides in bytes, as the assembly reads them.
    #[repr(C)]
    struct Addresses {
        sums: [*mut f32; 2],
        sums_stride: usize,
        columns: [*const f32; 2],
        accumulate: usize,
    }

    /// # Safety
    /// The processor has AMX, the tiles are configured, all tiles of the product lie inside their operands, and no other
    /// thread accesses the sums.
    pub unsafe fn multiply(product: &TileProduct) {
        const BYTES: usize = size_of::<f32>();
        let steps = product.steps.steps[product.range.clone()].as_ptr_range();
        // SAFETY: the caller guarantees that the offsets lie inside the operands.
        let (rows, addresses) = unsafe {
            let rows = product.rows_start.map(|start| product.rows.as_ptr().add(start));
            let addresses = Addresses {
                sums: product.sums_start.map(|start| product.sums.as_mut_ptr().add(start)),
                sums_stride: product.sums_stride * BYTES,
                columns: product.columns_start.map(|start| product.columns.as_ptr().add(start)),
                accumulate: usize::from(product.accumulate),
            };
            (rows, addresses)
        };
        // Sums are in tmm0 to tmm3, rows in tmm4 and tmm5, columns in tmm6 and tmm7. If both tiles of rows are the same,
        // the second is skipped.
        // SAFETY: the caller guarantees that the processor executes the instructions, and that the tiles lie inside
        // their operands.
        unsafe {
            asm!(
                "mov {first}, [{addresses}]",
                "mov {second}, [{addresses} + 8]",
                "mov {offset}, [{addresses} + 16]",
                "cmp qword ptr [{addresses} + 40], 0",
                "je 2f",
                "tileloadd tmm0, [{first} + {offset}*1]",
                "tileloadd tmm1, [{first} + {offset}*1 + 64]",
                "tileloadd tmm2, [{second} + {offset}*1]",
                "tileloadd tmm3, [{second} + {offset}*1 + 64]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "3:",
                "mov {first}, [{addresses} + 24]",
                "mov {second}, [{addresses} + 32]",
                "cmp {step}, {end}",
                "je 6f",
                "4:",
                "mov {offset:e}, [{step}]",
                "lea {tile}, [{first_rows} + {offset}*4]",
                "tileloadd tmm4, [{tile} + {row_stride}*1]",
                "lea {tile}, [{second_rows} + {offset}*4]",
                "mov {offset:e}, [{step} + 4]",
                "lea {columns}, [{first} + {offset}*4]",
                "tileloadd tmm6, [{columns} + {column_stride}*1]",
                "lea {columns}, [{second} + {offset}*4]",
                "tileloadd tmm7, [{columns} + {column_stride}*1]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "cmp {first_rows}, {second_rows}",
                "je 5f",
                "tileloadd tmm5, [{tile} + {row_stride}*1]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "5:",
                "add {step}, 8",
                "cmp {step}, {end}",
                "jne 4b",
                "6:",
                "mov {first}, [{addresses}]",
                "mov {second}, [{addresses} + 8]",
                "mov {offset}, [{addresses} + 16]",
                "tilestored [{first} + {offset}*1], tmm0",
                "tilestored [{first} + {offset}*1 + 64], tmm1",
                "cmp {first_rows}, {second_rows}",
                "je 7f",
                "tilestored [{second} + {offset}*1], tmm2",
                "tilestored [{second} + {offset}*1 + 64], tmm3",
                "7:",
                addresses = in(reg) &raw const addresses,
                first_rows = in(reg) rows[0],
                second_rows = in(reg) rows[1],
                row_stride = in(reg) product.row_stride * BYTES,
                column_stride = in(reg) product.column_stride * BYTES,
                step = inout(reg) steps.start => _,
                end = in(reg) steps.end,
                first = out(reg) _,
                second = out(reg) _,
                offset = out(reg) _,
                tile = out(reg) _,
                columns = out(reg) _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// Emulates the unit in plain Rust.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod emulation {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cpu::simd::pack_bf16_pair;
    use crate::random::Uniform;

    /// Returns the sums of a product with every option that the kernels use.
    fn multiply(unit: MatrixUnit, row_tiles: usize, accumulate: bool, range: std::ops::Range<usize>) -> Vec<f32> {
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
