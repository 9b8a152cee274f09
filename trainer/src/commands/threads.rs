//! The flag `--threads`, where a command computes.

use clap::Args;
use model::engine::cpu::CpuOptions;
use std::num::NonZero;

#[derive(Args, Clone, Copy)]
pub struct Threads {
    /// Threads of the device cpu; by default as many as there are cores
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
}

impl From<Threads> for CpuOptions {
    fn from(Threads { threads }: Threads) -> Self {
        CpuOptions { threads, ..CpuOptions::default() }
    }
}
