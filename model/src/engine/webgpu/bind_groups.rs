//! Layouts of the bind groups of all kernels. A kernel binds one output buffer, the buffers that it reads, and
//! optionally the overflow flag.

use std::iter::{once, repeat_n};
use wgpu::{BindGroupLayout, Buffer, Device, PipelineLayout};

/// Maximum number of buffers that a kernel reads: input, weights, residual, and shape parameters.
const MAX_READ_BUFFERS: usize = 4;
/// Maximum number of storage buffers of a kernel: those it reads, its output, and the overflow flag.
pub const MAX_STORAGE_BUFFERS: u32 = MAX_READ_BUFFERS as u32 + 2;

/// The bind group layouts and pipeline layouts of all kernels.
pub struct BindGroupLayouts {
    device: Device,
    /// Indexed by the number of buffers that a kernel reads, and by whether it reports overflow.
    layouts: Vec<[(BindGroupLayout, PipelineLayout); 2]>,
}

impl BindGroupLayouts {
    pub fn new(device: &Device) -> Self {
        let layouts = (0..=MAX_READ_BUFFERS).map(|reads| [false, true].map(|checked| layout(device, reads, checked)));
        BindGroupLayouts { device: device.clone(), layouts: layouts.collect() }
    }

    pub fn pipeline_layout(&self, reads: usize, reports_overflow: bool) -> &PipelineLayout {
        &self.layouts[reads][usize::from(reports_overflow)].1
    }

    /// Binds a kernel's output, the buffers that it reads, and the overflow flag of a kernel that reports overflow.
    pub fn bind(&self, output: &Buffer, reads: &[&Buffer], overflow: Option<&Buffer>) -> wgpu::BindGroup {
        let buffers = once(output).chain(reads.iter().copied()).chain(overflow).enumerate();
        let entries: Vec<_> = buffers
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding: binding as u32,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let layout = &self.layouts[reads.len()][usize::from(overflow.is_some())].0;
        self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
    }
}

/// Returns for each binding whether it is read-only. Binding 0 is the output; the buffers that the kernel reads
/// follow; the last binding of a kernel that reports overflow is the overflow flag, which is written.
pub fn read_only_bindings(reads: usize, reports_overflow: bool) -> impl Iterator<Item = bool> {
    once(false).chain(repeat_n(true, reads)).chain(reports_overflow.then_some(false))
}

fn layout(device: &Device, reads: usize, reports_overflow: bool) -> (BindGroupLayout, PipelineLayout) {
    let entries: Vec<_> = (0..)
        .zip(read_only_bindings(reads, reports_overflow))
        .map(|(binding, read_only)| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        })
        .collect();
    let group = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    let pipeline = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&group)],
        immediate_size: 0,
    });
    (group, pipeline)
}
