//! Intel's AMX (Advanced Matrix Extensions): detection, configuration, and products in assembly.

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
