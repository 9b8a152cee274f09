//! Arguments that several sub-commands share.

use anyhow::{Result, bail};
use clap::Args;
use model::engine::{self, Device, EngineOptions, Precision};
use std::num::NonZero;

/// Where and how a command runs a network.
#[derive(Args, Clone, Copy)]
pub struct DeviceArgs {
    /// Device to run on: cpu, flex, or, if compiled in, webgpu[:N], wgpu[:N] or cuda[:N], where N is the GPU's index
    #[arg(long, default_value_t)]
    pub device: Device,
    /// Number of threads of device cpu [default: number of cores]
    #[arg(long, value_name = "N", value_parser = engine::parse_thread_count)]
    threads: Option<NonZero<usize>>,
    /// Precision of convolutions and matrix products: f32, bf16 (device cpu with AVX512-BF16) or f16 (device webgpu with
    /// shader-f16); bf16 and f16 change predictions slightly
    #[arg(long, value_name = "NAME", default_value_t)]
    pub precision: Precision,
}

impl From<DeviceArgs> for EngineOptions {
    fn from(DeviceArgs { threads, precision, .. }: DeviceArgs) -> Self {
        EngineOptions { threads, precision, ..EngineOptions::default() }
    }
}

/// Parses a fraction strictly between 0 and 1.
pub fn fraction(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(fraction),
        _ => bail!("expected a fraction between 0 and 1, such as 0.1"),
    }
}
