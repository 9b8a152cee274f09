//! Numbers from a formula, the same on every machine: for tests and measurements, where no trained weights are wanted.

use crate::architecture::{Architecture, TensorKind, TensorSpec};
use crate::checkpoint::{Checkpoint, Metadata};

/// Uniform in -1..1, by splitmix64 (Steele, Lea and Flood, 2014); never ends. Equal seeds give equal numbers.
#[derive(Clone, Debug)]
pub struct Uniform(u64);

impl Uniform {
    pub fn new(seed: u64) -> Self {
        Uniform(seed)
    }
}

impl Iterator for Uniform {
    type Item = f32;

    fn next(&mut self) -> Option<f32> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
    }
}

/// So many bytes, uniform: `count` is the product of a shape.
pub fn pixels(seed: u64, count: usize) -> Vec<u8> {
    Uniform::new(seed).take(count).map(|x| (127.5 + 127.5 * x) as u8).collect()
}

/// Weights scaled as by He et al. (2015), so that activations neither vanish nor explode, and running statistics far
/// from their initial values, so that a batch norm folded wrongly shows.
pub fn checkpoint(architecture: Architecture) -> Checkpoint {
    let mut random = Uniform::new(architecture.parameter_count() as u64);
    let tensors = architecture.tensors().into_iter().map(|spec| (spec.name.clone(), values(&spec, &mut random)));
    Checkpoint::new(Metadata::new(architecture), tensors.collect()).expect("the tensors are those of the architecture")
}

fn values(spec: &TensorSpec, random: &mut Uniform) -> Vec<f32> {
    let fan_in: usize = spec.shape[1..].iter().product();
    let values = random.take(spec.shape.iter().product());
    match spec.kind {
        TensorKind::Matrix => values.map(|x| x * (6.0 / fan_in as f32).sqrt()).collect(),
        TensorKind::Statistic if spec.name.ends_with("running_var") => values.map(|x| 2.5 + 2.0 * x).collect(),
        TensorKind::Vector if spec.name.ends_with("weight") => values.map(|x| 1.0 + 0.5 * x).collect(),
        TensorKind::Vector | TensorKind::Statistic => values.collect(),
    }
}
