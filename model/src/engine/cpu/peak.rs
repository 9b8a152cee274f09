//! Measures the peak throughput of the processor.

use super::super::EngineOptions;
use super::simd::{InstructionSet, Kernel, Simd};
use super::thread_pool::ThreadPool;
use std::hint::black_box;
use std::num::NonZero;
use web_time::Instant;

/// Measures the peak throughput of all threads, in f32 multiply-adds per second, with all operands in registers.
///
/// # Errors
/// Returns an error if threads cannot be started.
pub fn measure_peak(options: EngineOptions) -> Result<f64, String> {
    let threads = ThreadPool::new(options.threads.map(NonZero::get))?;
    let set = options.instruction_set.unwrap_or_else(InstructionSet::best);
    let tasks = 64 * threads.count();
    let time = |steps: usize| {
        threads.install(|| {
            let start = Instant::now();
            threads.for_each(tasks, |_| {
                black_box(set.run(MultiplyAddChains { steps: black_box(steps) }));
            });
            start.elapsed().as_secs_f64()
        })
    };
    let mut steps = 1 << 10;
    while time(steps) < 0.02 {
        steps *= 2;
    }
    let best = (0..10).map(|_| time(steps)).fold(f64::INFINITY, f64::min);
    Ok((tasks * steps * CHAINS * set.lanes()) as f64 / best)
}

/// Number of independent sums: enough to hide the latency of a multiply-add, few enough to stay in registers.
const CHAINS: usize = 14;

/// Chains of dependent multiply-adds.
struct MultiplyAddChains {
    steps: usize,
}

impl Kernel for MultiplyAddChains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (factor, term) = (simd.splat(black_box(0.5)), simd.splat(black_box(1.0)));
        let mut chains = [simd.splat(0.0); CHAINS];
        for _ in 0..self.steps {
            for chain in &mut chains {
                *chain = simd.multiply_add(*chain, factor, term);
            }
        }
        let mut sum = chains[0];
        for &chain in &chains[1..] {
            sum = simd.add(sum, chain);
        }
        let mut lanes = [0.0; 16];
        // SAFETY: `lanes` has room for 16 values, and no vector has more than 16 lanes.
        unsafe { simd.store(lanes.as_mut_ptr(), sum) };
        lanes[0]
    }
}
