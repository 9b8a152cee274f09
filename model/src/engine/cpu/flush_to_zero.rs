//! Makes a thread treat subnormal numbers as zero. Processors compute with them in microcode, ten to a hundred times slower
//! than with other numbers. Results without subnormal inputs and intermediate values are the same to the bit.
//!
//! `_mm_setcsr` was considered: it is deprecated in favour of inline assembly.

/// Treats subnormal inputs and results of all floating-point operations of the current thread as zero from now on. Only
/// for threads that run nothing but kernels, whose results do not depend on subnormal numbers.
pub fn enable() {
    #[cfg(target_arch = "x86_64")]
    {
        /// The bits DAZ (inputs) and FTZ (results) of the register MXCSR.
        const FLAGS: u32 = 1 << 6 | 1 << 15;
        let mut control: u32 = 0;
        // SAFETY: the instructions access only `control` and MXCSR. All x86-64 processors have both bits, and the
        // compiler evaluates no operation of the kernels at compile time, where it would assume the default.
        unsafe {
            std::arch::asm!("stmxcsr [{}]", in(reg) &mut control, options(nostack, preserves_flags));
            control |= FLAGS;
            std::arch::asm!("ldmxcsr [{}]", in(reg) &control, options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        /// The bit FZ of the register FPCR, for inputs and results.
        const FLAG: u64 = 1 << 24;
        let mut control: u64;
        // SAFETY: the instructions access only `control` and FPCR, and the compiler evaluates no operation of the kernels
        // at compile time, where it would assume the default.
        unsafe {
            std::arch::asm!("mrs {}, fpcr", out(reg) control, options(nomem, nostack, preserves_flags));
            control |= FLAG;
            std::arch::asm!("msr fpcr, {}", in(reg) control, options(nomem, nostack, preserves_flags));
        }
    }
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use crate::engine::cpu::thread_pool::ThreadPool;
    use std::hint::black_box;

    #[test]
    fn threads_of_the_engine_treat_subnormal_numbers_as_zero() {
        let input = || black_box(1e-40f32) * black_box(1e10);
        let output = || black_box(1e-20f32) * black_box(1e-20);
        let normal = || black_box(3e-38f32) * black_box(0.5);
        assert!(input() > 0.0 && output() > 0.0);
        let pool = ThreadPool::new(Some(2)).unwrap();
        assert_eq!(pool.install(|| [input(), output(), normal()]), [0.0, 0.0, 1.5e-38]);
        pool.install(|| pool.for_each(8, |_| assert_eq!([input(), output()], [0.0, 0.0])));
        assert!(input() > 0.0 && output() > 0.0, "other threads are unchanged");
    }
}
