//! Generates the WGSL source of kernels. What depends on the tile of an invocation is unrolled, because only
//! variables that are not array elements reliably stay in registers.

mod buffer_types;
mod convolution;
mod direct;
mod template;
mod tiled;
mod winograd;

use super::convolution_spec::ConvolutionSpec;
use super::kernel_config::{KernelFamily, LINEAR_WORKGROUP, Specialisation};
use super::storage::ElementType;
use super::tensor_layout::TensorLayout;
use super::winograd_tiling::WinogradTiling;
use crate::architecture::MaxPool;
use buffer_types::BufferTypes;
use template::ShaderSource;

/// The computation of a dispatch.
#[derive(Clone, Debug, PartialEq)]
pub enum Shader<'a> {
    /// Normalises pixels into the network's input, which has this layout.
    Normalise(TensorLayout),
    /// A convolution, the sums of its splits, or the products of Winograd's algorithm.
    Convolution(ConvolutionSpec<'a>),
    /// Adds up the sums of the splits of a convolution.
    ReduceSplits(ConvolutionSpec<'a>),
    /// Winograd's input transform. The input has a border of at least 1.
    InputTransform {
        tiling: WinogradTiling,
        input: TensorLayout,
    },
    /// Winograd's output transform, which completes a convolution.
    OutputTransform {
        tiling: WinogradTiling,
        spec: ConvolutionSpec<'a>,
    },
    /// Max-pooling. The input is the output of a ReLU, and its border is at least as wide as the pool's padding.
    MaxPool {
        pool: MaxPool,
        input: TensorLayout,
        output: TensorLayout,
    },
    GlobalAveragePool {
        input: TensorLayout,
        output: TensorLayout,
    },
}

/// The source of a kernel, and how it is dispatched.
#[derive(Clone, Debug, PartialEq)]
pub struct Kernel {
    pub source: String,
    pub workgroups: [u32; 3],
    /// Content of the last buffer that the kernel reads, if it reads its shape from a buffer.
    pub shape_parameters: Option<Vec<u32>>,
    /// Number of buffers that the kernel reads. It writes one output buffer.
    pub reads: usize,
    /// Whether the kernel sets the overflow flag if a value overflows f16.
    pub reports_overflow: bool,
}

impl Shader<'_> {
    /// Returns the number of workgroups in each dimension.
    pub fn workgroups(&self) -> [usize; 3] {
        match self {
            Shader::Normalise(output) => [output.width.div_ceil(LINEAR_WORKGROUP), output.height, output.batch],
            Shader::Convolution(spec) => match spec.config.family {
                KernelFamily::Direct => direct::workgroups(spec),
                KernelFamily::Tiled => tiled::workgroups(spec),
            },
            Shader::ReduceSplits(spec) => [spec.output.interior_blocks().div_ceil(LINEAR_WORKGROUP), 1, 1],
            Shader::InputTransform { tiling, input } => winograd::input_transform_workgroups(tiling, input),
            Shader::OutputTransform { tiling, spec } => winograd::output_transform_workgroups(tiling, &spec.output),
            Shader::MaxPool { output, .. } => {
                [output.width.div_ceil(LINEAR_WORKGROUP), output.height, output.batch * output.blocks()]
            }
            Shader::GlobalAveragePool { input, .. } => {
                [(input.batch * input.blocks()).div_ceil(LINEAR_WORKGROUP), 1, 1]
            }
        }
    }

    /// Returns the number of buffers that the kernel reads, without shape parameters.
    fn reads(&self) -> usize {
        match self {
            Shader::Convolution(spec) => 2 + usize::from(spec.added_residual().is_some()),
            Shader::ReduceSplits(spec) | Shader::OutputTransform { spec, .. } => {
                2 + usize::from(spec.residual.is_some())
            }
            Shader::Normalise(_)
            | Shader::InputTransform { .. }
            | Shader::MaxPool { .. }
            | Shader::GlobalAveragePool { .. } => 1,
        }
    }

    /// Returns whether the kernel checks its outputs for overflow. Pools need no check: their outputs are no larger
    /// than their inputs.
    fn reports_overflow(&self) -> bool {
        let written = match self {
            Shader::Normalise(output) => output.element,
            Shader::Convolution(spec) => spec.written().element,
            Shader::ReduceSplits(spec) | Shader::OutputTransform { spec, .. } => spec.output.element,
            Shader::InputTransform { .. } | Shader::MaxPool { .. } | Shader::GlobalAveragePool { .. } => return false,
        };
        written == ElementType::F16
    }

    /// Returns whether the kernel can read its shape from a buffer: only kernels of which a network has many need to be
    /// shared.
    fn can_be_shared(&self) -> bool {
        match self {
            Shader::Convolution(spec) => spec.config.family == KernelFamily::Direct,
            Shader::InputTransform { .. } | Shader::OutputTransform { .. } => true,
            Shader::Normalise(_)
            | Shader::ReduceSplits(_)
            | Shader::MaxPool { .. }
            | Shader::GlobalAveragePool { .. } => false,
        }
    }

    /// Generates the kernel. A kernel that cannot be shared is specialised per shape regardless of `specialisation`.
    pub fn kernel(&self, specialisation: Specialisation) -> Kernel {
        let specialisation = if self.can_be_shared() { specialisation } else { Specialisation::PerShape };
        // Binding 0 is the output. The buffers that the kernel reads follow, the last of which holds the shape
        // parameters, and then the overflow flag.
        let reads = self.reads() + usize::from(specialisation == Specialisation::Shared);
        let shape_binding = reads;
        let reports_overflow = self.reports_overflow();
        let overflow_binding = reports_overflow.then_some(1 + reads);
        let ShaderSource { text: source, shape_parameters } = match self {
            Shader::Normalise(output) => normalise(output, overflow_binding),
            Shader::Convolution(spec) => match spec.config.family {
                KernelFamily::Direct => direct::source(spec, overflow_binding, specialisation, shape_binding),
                KernelFamily::Tiled => tiled::source(spec, overflow_binding),
            },
            Shader::ReduceSplits(spec) => convolution::reduce_splits(spec, overflow_binding),
            Shader::InputTransform { tiling, input } => {
                winograd::input_transform(tiling, input, specialisation, shape_binding)
            }
            Shader::OutputTransform { tiling, spec } => {
                winograd::output_transform(tiling, spec, overflow_binding, specialisation, shape_binding)
            }
            Shader::MaxPool { pool, input, output } => max_pool(pool, input, output),
            Shader::GlobalAveragePool { input, output } => global_average_pool(input, output),
        };
        let workgroups = self.workgroups().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        Kernel { source, workgroups, shape_parameters, reads, reports_overflow }
    }
}

fn normalise(output: &TensorLayout, overflow_binding: Option<usize>) -> ShaderSource {
    let types = BufferTypes { overflow_binding, ..BufferTypes::without_weights(output.element, output.element) };
    let constants = [
        ("HEIGHT", output.height),
        ("WIDTH", output.width),
        ("OUTPUT_IMAGE_STRIDE", output.image_stride()),
        ("OUTPUT_INTERIOR", output.interior_offset()),
        ("OUTPUT_ROW_STRIDE", output.row_stride()),
    ];
    ShaderSource::new(&types, &constants, include_str!("normalise.wgsl"))
}

fn max_pool(pool: &MaxPool, input: &TensorLayout, output: &TensorLayout) -> ShaderSource {
    let types = BufferTypes::without_weights(input.element, output.element);
    let constants = [
        ("KERNEL", pool.kernel),
        ("STRIDE", pool.stride),
        ("INPUT_PLANE_STRIDE", input.plane_stride()),
        ("INPUT_ROW_STRIDE", input.row_stride()),
        ("WINDOW_OFFSET", input.window_offset(pool.padding)),
        ("OUTPUT_PLANE_STRIDE", output.plane_stride()),
        ("OUTPUT_INTERIOR", output.interior_offset()),
        ("OUTPUT_ROW_STRIDE", output.row_stride()),
        ("OUTPUT_WIDTH", output.width),
    ];
    ShaderSource::new(&types, &constants, include_str!("max_pool.wgsl"))
}

fn global_average_pool(input: &TensorLayout, output: &TensorLayout) -> ShaderSource {
    let types = BufferTypes::without_weights(input.element, output.element);
    let constants = [
        ("PLANES", input.batch * input.blocks()),
        ("HEIGHT", input.height),
        ("WIDTH", input.width),
        ("INPUT_PLANE_STRIDE", input.plane_stride()),
        ("INPUT_ROW_STRIDE", input.row_stride()),
        ("INPUT_INTERIOR", input.interior_offset()),
    ];
    ShaderSource::new(&types, &constants, include_str!("global_average_pool.wgsl"))
}
