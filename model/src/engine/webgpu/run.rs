//! Runs a batch: uploads it, submits the dispatches, and reads the results back.

use super::super::{Activation, EngineError, Input, Logits, Output};
use super::WebGpuEngine;
use super::packed_input::PackedInput;
use super::workspace::Workspace;
use crate::plan::{Plan, Tap, TapValues, ValueId};
use wgpu::BufferUsages;

impl WebGpuEngine {
    pub fn tap_values(&self) -> &TapValues {
        &self.tap_values
    }

    /// Executes the plan for a batch of any size. The output also holds the activations at `taps`.
    ///
    /// # Errors
    /// Returns [`EngineError::InvalidInput`] if images are too large or a value is not finite,
    /// [`EngineError::Failed`] if the device fails or a value overflows f16, [`EngineError::NotFinite`] if a logit is
    /// not finite, and [`EngineError::Lost`] if the GPU was lost.
    pub async fn run(&self, input: &Input, taps: &[Tap]) -> Result<Output, EngineError> {
        let [batch, height, width] = input.shape();
        if let Input::Normalised(images) = input
            // A GPU may replace NaN by other values, which would hide it from the check of the logits.
            && let Some(value) = images.values().iter().find(|value| !value.is_finite())
        {
            return Err(EngineError::InvalidInput(format!("value {value} is not finite")));
        }
        let max_batch_size = self.max_batch_size([height, width])?;
        let mut logits = Vec::with_capacity(batch * self.classes);
        let mut activations: Vec<Activation> =
            taps.iter().map(|&tap| Activation { tap, values: Vec::new(), shape: [batch, 0, 0, 0] }).collect();
        let mut first = 0;
        while first < batch {
            let shape = [max_batch_size.min(batch - first), height, width];
            let workspace = self.acquire_workspace(shape).await?;
            self.execute(&workspace, (input, first), (&mut logits, &mut activations)).await?;
            first += workspace.input_shape[0];
            self.release_workspace(workspace);
        }
        let logits = Logits::new(logits, [batch, self.classes], self.gpu.name)?;
        Ok(Output { logits, activations })
    }

    /// Runs the images of an input from index `first` on, as many as the workspace is for, and appends the results.
    async fn execute(
        &self,
        workspace: &Workspace,
        (input, first): (&Input, usize),
        (logits, activations): (&mut Vec<f32>, &mut [Activation]),
    ) -> Result<(), EngineError> {
        let packed = PackedInput::new(input, first, workspace.input_shape, &workspace.layouts[Plan::INPUT])?;
        let (copies, validation) = self.gpu.with_error_scopes(|| self.submit(workspace, &packed, activations));
        // Request all readbacks before waiting for the first.
        let logit_readback = self.gpu.read_buffer(&workspace.readback);
        let activation_readbacks: Vec<_> = copies.iter().map(|copy| self.gpu.read_buffer(copy)).collect();
        validation.await?;
        let logit_layout = workspace.layouts.last().expect("a plan has values");
        let bytes = logit_readback.await?;
        let (values, overflow) = bytes.split_at(logit_layout.bytes() as usize);
        if overflow.iter().any(|byte| *byte != 0) {
            return Err(self.gpu.failure("a value overflows f16, whose largest number is 65504"));
        }
        logits.extend(logit_layout.unpack(values));
        for ((activation, readback), copy) in activations.iter_mut().zip(activation_readbacks).zip(&copies) {
            let layout = &workspace.layouts[self.tap_value(activation.tap)];
            activation.values.extend(layout.unpack(&readback.await?));
            copy.destroy();
            activation.shape[1..].copy_from_slice(&[layout.channels, layout.height, layout.width]);
        }
        Ok(())
    }

    /// Submits all dispatches, and the copying of the logits to the workspace's readback buffer. Returns for each
    /// activation the mappable buffer to which it is copied.
    fn submit(&self, workspace: &Workspace, input: &PackedInput, activations: &[Activation]) -> Vec<wgpu::Buffer> {
        self.write_input(workspace, input);
        let mut encoder = self.begin_run(workspace);
        let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
        let size = |value: ValueId| workspace.layouts[value].bytes();
        let copies: Vec<_> = activations
            .iter()
            .map(|activation| self.gpu.create_buffer("activation", size(self.tap_value(activation.tap)), usage))
            .collect();
        let mut pass = encoder.begin_compute_pass(&Default::default());
        if let PackedInput::Pixels(_) = input {
            workspace.normalise.encode(&mut pass);
        }
        for dispatch in &workspace.dispatches {
            if dispatch.starts_submission {
                drop(pass);
                let finished = std::mem::replace(&mut encoder, self.gpu.create_command_encoder());
                self.gpu.queue.submit([finished.finish()]);
                pass = encoder.begin_compute_pass(&Default::default());
            }
            dispatch.encode(&mut pass);
            // Copy an activation as soon as it is complete, before another value reuses its buffer.
            for (activation, copy) in activations.iter().zip(&copies) {
                let value = self.tap_value(activation.tap);
                if dispatch.completes == Some(value) {
                    drop(pass);
                    encoder.copy_buffer_to_buffer(&workspace.values[value], 0, copy, 0, size(value));
                    pass = encoder.begin_compute_pass(&Default::default());
                }
            }
        }
        drop(pass);
        let logits = workspace.values.last().expect("a plan has values");
        let bytes = size(workspace.values.len() - 1);
        encoder.copy_buffer_to_buffer(logits, 0, &workspace.readback, 0, bytes);
        if let Some(overflow) = &workspace.overflow {
            encoder.copy_buffer_to_buffer(overflow, 0, &workspace.readback, bytes, overflow.size());
        }
        self.gpu.queue.submit([encoder.finish()]);
        copies
    }

    pub(super) fn write_input(&self, workspace: &Workspace, input: &PackedInput) {
        match input {
            PackedInput::Pixels(bytes) => self.gpu.write_buffer(&workspace.upload, bytes),
            PackedInput::Normalised(bytes) => self.gpu.write_buffer(&workspace.values[Plan::INPUT], bytes),
        }
    }

    /// Creates the command encoder of a run, and clears the overflow flag.
    pub(super) fn begin_run(&self, workspace: &Workspace) -> wgpu::CommandEncoder {
        let mut encoder = self.gpu.create_command_encoder();
        if let Some(overflow) = &workspace.overflow {
            encoder.clear_buffer(overflow, 0, None);
        }
        encoder
    }

    fn tap_value(&self, tap: Tap) -> ValueId {
        self.tap_values.get(tap).expect("`Engine::run` accepts only taps of the network")
    }
}
