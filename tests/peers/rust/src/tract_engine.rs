//! tract, with matrix products on several threads.

use crate::{Model, Network};
use anyhow::Result;
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::*;

pub fn load(model: &Model, threads: usize) -> Result<Network> {
    set_default_executor(Executor::multithread(threads));
    let network = tract_onnx::onnx().model_for_path(model.path())?;
    let network = network.with_input_fact(0, f32::fact(model.shape()).into())?.into_optimized()?.into_runnable()?;
    let input: TValue = Tensor::from_shape(&model.shape(), &model.input()?)?.into();
    Ok(Box::new(move || {
        let output = network.run(tvec!(input.clone()))?;
        Ok(output[0].to_plain_array_view::<f32>()?.iter().copied().collect())
    }))
}
