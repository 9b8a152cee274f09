//! Profiles: the time and the amount of work of each operation of a run.

use super::super::{EngineError, Input, OperationProfile, Precision};
use super::WebGpuEngine;
use super::dispatch_plan::{DispatchPlan, PlannedDispatch};
use super::kernel_config::Specialisation;
use super::packed_input::PackedInput;
use super::shaders::Shader;
use super::storage::ElementType;
use super::tensor_layout::TensorLayout;
use super::timestamps::{DispatchTimer, durations};
use super::workspace::{Dispatch, Workspace};
use crate::plan::Plan;
use std::time::Duration;

impl WebGpuEngine {
    /// Runs the plan and returns a profile of each operation, in the order of the network, with its time on the GPU, or
    /// `None` if the adapter has no timestamp queries.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run).
    pub async fn profile(&self, input: &Input) -> Result<Option<Vec<OperationProfile>>, EngineError> {
        let [batch, height, width] = input.shape();
        let max_batch_size = self.max_batch_size([height, width])?;
        let mut operations: Vec<OperationProfile> = Vec::with_capacity(self.steps.len() + 1);
        let mut first = 0;
        while first < batch {
            let shape = [max_batch_size.min(batch - first), height, width];
            let workspace = self.acquire_workspace(shape).await?;
            let Some(times) = self.time_dispatches(&workspace, (input, first)).await? else { return Ok(None) };
            let plan = DispatchPlan::new(&self.steps, self.gpu.kind, self.storage, workspace.input_shape);
            // Input that is already normalised has no time for the first dispatch.
            let dispatches = plan.dispatches.iter().skip(plan.dispatches.len() - times.len());
            for (dispatch, time) in dispatches.zip(times) {
                let profile = dispatch.profile(plan.specialisation, time);
                match operations.iter_mut().find(|other| other.name == profile.name) {
                    Some(sum) => sum.add(&profile),
                    None => operations.push(profile),
                }
            }
            first += workspace.input_shape[0];
            self.release_workspace(workspace);
        }
        Ok(Some(operations))
    }

    /// Runs as many images as the workspace is for, and returns the time of each dispatch.
    async fn time_dispatches(
        &self,
        workspace: &Workspace,
        (input, first): (&Input, usize),
    ) -> Result<Option<Vec<Duration>>, EngineError> {
        let packed = PackedInput::new(input, first, workspace.input_shape, &workspace.layouts[Plan::INPUT])?;
        let normalise = matches!(packed, PackedInput::Pixels(_)).then_some(&workspace.normalise);
        let dispatches: Vec<&Dispatch> = normalise.into_iter().chain(&workspace.dispatches).collect();
        let (timer, validation) = self.gpu.with_error_scopes(|| {
            let timer = DispatchTimer::new(&self.gpu, dispatches.len())?;
            self.write_input(workspace, &packed);
            let mut encoder = self.begin_run(workspace);
            for (index, dispatch) in dispatches.iter().enumerate() {
                let timestamp_writes = Some(timer.timestamp_writes(index));
                dispatch.encode(
                    &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes }),
                );
            }
            timer.resolve(&mut encoder);
            self.gpu.queue.submit([encoder.finish()]);
            Some(timer)
        });
        validation.await?;
        let Some(timer) = timer else { return Ok(None) };
        let timestamps = self.gpu.read_buffer(timer.readback()).await?;
        Ok(Some(durations(&timestamps, self.gpu.timestamp_period())))
    }
}

impl PlannedDispatch<'_> {
    /// Returns the profile of a dispatch that took `time`. The algorithm is `direct 8x8`, `tiled 64x64 split 4`, `add
    /// 4`, `winograd 4x4`, `normalise` or `pool`. The tiles of `direct` are pixels by output channels of an
    /// invocation, those of `tiled` are pixels by output channels of a workgroup, and those of `winograd` are pixels.
    pub fn profile(&self, specialisation: Specialisation, time: Duration) -> OperationProfile {
        let bytes = |layouts: &[Option<TensorLayout>]| layouts.iter().flatten().map(TensorLayout::bytes).sum();
        let (algorithm, value_bytes, other_bytes): (_, u64, u64) = match &self.shader {
            Shader::Normalise(output) => {
                let pixels = (output.batch * output.height * output.width) as u64;
                ("normalise".to_owned(), bytes(&[Some(*output)]), 3 * pixels)
            }
            Shader::Convolution(spec) => {
                let values = [Some(spec.input), Some(spec.written()), spec.added_residual()];
                (spec.config.describe(), bytes(&values), spec.weight_bytes())
            }
            Shader::ReduceSplits(spec) => {
                let values = [Some(spec.written()), Some(spec.output), spec.residual];
                (format!("add {}", spec.config.splits), bytes(&values), 0)
            }
            Shader::InputTransform { tiling, input } => {
                (tiling.describe(), bytes(&[Some(*input), Some(tiling.transformed_layout(input.channels))]), 0)
            }
            Shader::OutputTransform { tiling, spec } => {
                let products = tiling.transformed_layout(spec.output.channels);
                (tiling.describe(), bytes(&[Some(products), Some(spec.output), spec.residual]), 0)
            }
            Shader::MaxPool { input, output, .. } => ("pool".to_owned(), bytes(&[Some(*input), Some(*output)]), 0),
            Shader::GlobalAveragePool { input, .. } => ("pool".to_owned(), bytes(&[Some(*input)]), 0),
        };
        // The multiply-adds by definition of a layer that uses Winograd's algorithm are counted once, for its last
        // dispatch.
        let multiply_adds = match &self.shader {
            Shader::Convolution(spec) if spec.winograd_positions.is_some() => 0,
            Shader::OutputTransform { spec, .. } => spec.multiply_adds(),
            _ => self.executed_multiply_adds(),
        };
        let weight_bytes = match &self.shader {
            Shader::Convolution(spec) => spec.weight_bytes(),
            _ => 0,
        };
        let precision = match &self.shader {
            Shader::Convolution(spec) if spec.operand_type(specialisation) == ElementType::F16 => Precision::F16,
            _ => Precision::F32,
        };
        OperationProfile {
            name: self.step.to_owned(),
            algorithm,
            precision,
            time,
            multiply_adds,
            executed_multiply_adds: self.executed_multiply_adds(),
            weight_bytes,
            moved_bytes: Some(value_bytes + other_bytes),
        }
    }
}
