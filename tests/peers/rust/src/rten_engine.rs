//! rten, with weights packed when the model is loaded, which makes its runs faster.

use crate::{Model, Network};
use anyhow::{Context, Result};
use rten::{ModelOptions, RunOptions, ThreadPool};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, TensorView};
use std::sync::Arc;

pub fn load(model: &Model, threads: usize) -> Result<Network> {
    let path = model.path();
    let network = ModelOptions::with_all_ops().prepack_weights(true).load_file(&path);
    let network = network.with_context(|| format!("cannot load {}", path.display()))?;
    let input = NdTensor::from_data(model.shape(), model.input()?);
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    Ok(Box::new(move || {
        let options = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let output = network.run_one(input.view().into(), Some(options))?;
        let output: TensorView<f32> = output.as_tensor_view().context("rten's output is not f32")?;
        Ok(output.to_vec())
    }))
}
