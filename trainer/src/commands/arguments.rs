//! Where and how a command computes.

use anyhow::{Result, bail};
use clap::Args;
use model::engine::{self, Device, EngineOptions, Precision};
use std::num::NonZero;

#[derive(Args, Clone, Copy)]
pub struct Processor {
    /// Where to compute: cpu or flex, or if they were built in, webgpu[:N], wgpu[:N] and cuda[:N] (the N-th GPU)
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Threads of the device cpu; by default as many as there are cores
    #[arg(long, value_name = "N", value_parser = engine::threads)]
    threads: Option<NonZero<usize>>,
    /// What is multiplied: f32; bf16 on the device cpu, if the processor has AVX512-BF16; f16 on the device webgpu, for GPUs
    /// with shader-f16 (answers differ a little)
    #[arg(long, value_name = "NAME", default_value_t)]
    precision: Precision,
}

impl Processor {
    pub fn precision(self) -> Precision {
        self.precision
    }
}

impl From<Processor> for EngineOptions {
    fn from(Processor { threads, precision, .. }: Processor) -> Self {
        EngineOptions { threads, precision, ..EngineOptions::default() }
    }
}

/// Parses a fraction strictly between 0 and 1.
pub fn fraction(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(fraction),
        _ => bail!("a fraction between 0 and 1 is expected, such as 0.1"),
    }
}
