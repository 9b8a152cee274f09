//! The dispatches for one shape of input, in order. They are derived from shapes and the kind of adapter, without a
//! GPU.

use super::super::AdapterKind;
use super::super::winograd::WinogradVariant;
use super::convolution_spec::ConvolutionSpec;
use super::kernel_config::{KernelConfig, Specialisation};
use super::kernel_selection::{select_kernel, select_product_kernel};
use super::packed_input::upload_bytes;
use super::shaders::Shader;
use super::steps::{Step, StepKind};
use super::storage::{ElementType, StorageFormat};
use super::tensor_layout::TensorLayout;
use super::winograd_tiling::WinogradTiling;
use crate::architecture::Convolution;
use crate::plan::{Plan, ValueId};

/// Maximum number of workgroups in a dimension of a dispatch, by WebGPU's default limits.
const MAX_WORKGROUPS: usize = 65_535;

/// The dispatches of a run, and the layouts of the values that they read and write.
pub struct DispatchPlan<'a> {
    /// Shape of the input, `[batch, height, width]`.
    pub input_shape: [usize; 3],
    /// Layout of each value of the plan.
    pub values: Vec<TensorLayout>,
    /// Dispatches in order. The first one normalises pixels.
    pub dispatches: Vec<PlannedDispatch<'a>>,
    pub specialisation: Specialisation,
}

/// A buffer that a kernel reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferSlot {
    /// The pixels of images.
    Upload,
    Value(ValueId),
    /// The weights of the step with this index.
    Weights(usize),
    Scratch(ScratchSlot),
}

/// A buffer between the dispatches of a step, of which there are at most three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScratchSlot {
    /// Written by the first dispatch of a step and read by the second.
    First,
    /// Written by the second dispatch of a step and read by the third.
    Second,
}

/// A kernel and the buffers that it reads and writes.
pub struct PlannedDispatch<'a> {
    /// Name of the step, or `normalise`.
    pub step: &'a str,
    pub shader: Shader<'a>,
    pub output: BufferSlot,
    pub reads: Vec<BufferSlot>,
}

impl<'a> DispatchPlan<'a> {
    /// Plans a run for inputs of shape `[batch, height, width]`.
    pub fn new(steps: &'a [Step], kind: AdapterKind, storage: StorageFormat, input_shape: [usize; 3]) -> Self {
        let select = |layer: &Convolution, output: &TensorLayout, is_product| match is_product {
            true => select_product_kernel(kind, layer, output),
            false => select_kernel(kind, layer, output),
        };
        DispatchPlan::with_configs(steps, storage, kind.specialisation(), input_shape, select)
    }

    /// Plans a run with the configurations that `select` returns for a layer, the layout of its outputs, and whether
    /// it is the product layer of Winograd's algorithm.
    pub fn with_configs(
        steps: &'a [Step],
        storage: StorageFormat,
        specialisation: Specialisation,
        input_shape: [usize; 3],
        select: impl Fn(&Convolution, &TensorLayout, bool) -> KernelConfig,
    ) -> Self {
        let values = value_layouts(steps, storage, input_shape);
        let normalise = PlannedDispatch {
            step: "normalise",
            shader: Shader::Normalise(values[Plan::INPUT]),
            output: BufferSlot::Value(Plan::INPUT),
            reads: vec![BufferSlot::Upload],
        };
        let mut dispatches = vec![normalise];
        for (index, step) in steps.iter().enumerate() {
            let (input, output) = (values[step.input], values[step.output]);
            let (input_slot, output_slot) = (BufferSlot::Value(step.input), BufferSlot::Value(step.output));
            let mut push =
                |shader, reads, output| dispatches.push(PlannedDispatch { step: step.name(), shader, output, reads });
            match &step.kind {
                StepKind::Convolution { layer, residual, relu, winograd } => {
                    let weights = BufferSlot::Weights(index);
                    let [first, second] = [ScratchSlot::First, ScratchSlot::Second].map(BufferSlot::Scratch);
                    // The dispatch that writes the outputs also reads the biases and the residual.
                    let last_reads =
                        |first_read| [first_read, weights].into_iter().chain(residual.map(BufferSlot::Value)).collect();
                    let spec = |config, winograd_positions| {
                        let (residual, relu) = (residual.map(|value| values[value]), *relu);
                        ConvolutionSpec { layer, config, storage, input, output, residual, relu, winograd_positions }
                    };
                    if let Some(winograd) = winograd.as_deref() {
                        let (variant, layer) = (winograd.variant, &winograd.product_layer);
                        let tiling = WinogradTiling::new(variant, &output);
                        let [transformed, products] = tiling.transformed(layer);
                        let spec = spec(select(layer, &products, true), Some(variant.filter_elements()));
                        let product_spec = ConvolutionSpec {
                            layer,
                            input: transformed,
                            output: products,
                            residual: None,
                            relu: false,
                            ..spec.clone()
                        };
                        push(Shader::InputTransform { tiling, input }, vec![input_slot], first);
                        push(Shader::Convolution(product_spec), vec![first, weights], second);
                        push(Shader::OutputTransform { tiling, spec }, last_reads(second), output_slot);
                        continue;
                    }
                    let spec = spec(select(layer, &output, false), None);
                    if spec.config.splits == 1 {
                        push(Shader::Convolution(spec), last_reads(input_slot), output_slot);
                    } else {
                        push(Shader::Convolution(spec.clone()), vec![input_slot, weights], first);
                        push(Shader::ReduceSplits(spec), last_reads(first), output_slot);
                    }
                }
                StepKind::MaxPool(pool) => {
                    push(Shader::MaxPool { pool: *pool, input, output }, vec![input_slot], output_slot);
                }
                StepKind::GlobalAveragePool => {
                    push(Shader::GlobalAveragePool { input, output }, vec![input_slot], output_slot);
                }
            }
        }
        DispatchPlan { input_shape, values, dispatches, specialisation }
    }

    /// Returns the size of a scratch buffer, which all steps share, in bytes; 0 if no step needs it.
    pub fn scratch_bytes(&self, slot: ScratchSlot) -> u64 {
        let writers = self.dispatches.iter().filter(|dispatch| dispatch.output == BufferSlot::Scratch(slot));
        writers.filter_map(PlannedDispatch::scratch_layout).map(|layout| layout.bytes()).max().unwrap_or(0)
    }

    /// Returns for each dispatch whether a new submission starts with it, because the previous one would become too
    /// long. Only large images take several submissions.
    pub fn submission_starts(&self, kind: AdapterKind) -> Vec<bool> {
        let limit = kind.max_multiply_adds_per_submission();
        let mut submitted = 0;
        let starts = |dispatch: &PlannedDispatch| {
            let multiply_adds = dispatch.executed_multiply_adds();
            let starts = submitted > 0 && submitted + multiply_adds > limit;
            submitted = multiply_adds + if starts { 0 } else { submitted };
            starts
        };
        self.dispatches.iter().map(starts).collect()
    }

    /// Returns whether no buffer is larger than `max_buffer_size` bytes, and no dispatch has more workgroups than
    /// WebGPU allows.
    pub fn fits(&self, max_buffer_size: u64) -> bool {
        let workgroups = self.dispatches.iter().flat_map(|dispatch| dispatch.shader.workgroups()).max();
        let values = self.values.iter().map(TensorLayout::bytes);
        let scratch = [ScratchSlot::First, ScratchSlot::Second].map(|slot| self.scratch_bytes(slot));
        let largest_buffer = values.chain([upload_bytes(self.input_shape)]).chain(scratch).max();
        largest_buffer <= Some(max_buffer_size) && workgroups <= Some(MAX_WORKGROUPS)
    }
}

impl PlannedDispatch<'_> {
    /// Returns the layout of the output, if it is written to a scratch buffer.
    fn scratch_layout(&self) -> Option<TensorLayout> {
        match &self.shader {
            Shader::Convolution(spec) => Some(spec.written()),
            Shader::InputTransform { tiling, input } => Some(tiling.transformed_layout(input.channels)),
            _ => None,
        }
    }

    /// Returns the number of multiply-adds that the kernel executes, without those of transforms.
    pub fn executed_multiply_adds(&self) -> u64 {
        match &self.shader {
            Shader::Convolution(spec) => spec.multiply_adds(),
            _ => 0,
        }
    }
}

impl AdapterKind {
    /// Returns the maximum number of multiply-adds of a submission: enough to keep a GPU busy, and few enough for the
    /// weakest GPU of the kind to finish well within a second, so that the driver's watchdog does not reset it and the
    /// screen is redrawn. Software adapters have no watchdog.
    fn max_multiply_adds_per_submission(self) -> u64 {
        match self {
            AdapterKind::Software | AdapterKind::Direct => 16 << 30,
            AdapterKind::Tiled => 64 << 30,
        }
    }
}

/// Returns the number of images that should run at once, limited by the size of buffers and the length of a
/// submission; 0 if an image does not fit into a buffer.
pub fn max_batch_size(
    steps: &[Step],
    kind: AdapterKind,
    storage: StorageFormat,
    max_buffer_size: u64,
    [height, width]: [usize; 2],
) -> u64 {
    // This is computed for every run, so it selects no kernels, and ignores the sums of splits, which are small.
    let values = value_layouts(steps, storage, [1, height, width]);
    let winograd = steps.iter().filter_map(|step| step.winograd_layouts(&values[step.output])).flatten();
    let buffers = values.iter().copied().chain(winograd);
    let largest = buffers.map(|layout| layout.bytes()).max().expect("a plan has values");
    let multiply_adds: u64 = steps.iter().map(|step| step.multiply_adds(&values[step.output])).sum();
    (max_buffer_size / largest).min((kind.max_multiply_adds_per_submission() / multiply_adds.max(1)).max(1))
}

/// Creates the steps of a plan. `select_winograd` decides how 3x3 convolutions are computed, from the layer and the
/// layout of its outputs for one image of side `nominal_side`.
pub fn steps(
    plan: &Plan,
    storage: StorageFormat,
    nominal_side: usize,
    select_winograd: impl Fn(&Convolution, &TensorLayout) -> Option<WinogradVariant>,
) -> Vec<Step> {
    let mut steps: Vec<Step> = plan.operations.iter().map(Step::new).collect();
    let values = value_layouts(&steps, storage, [1, nominal_side, nominal_side]);
    steps.iter_mut().for_each(|step| step.set_winograd(|layer, output| select_winograd(layer, &values[output])));
    steps
}

/// Returns the layout of each value. Its border is as wide as the largest padding of the steps that read it. The last
/// value, the logits, is always f32.
fn value_layouts(steps: &[Step], storage: StorageFormat, [batch, height, width]: [usize; 3]) -> Vec<TensorLayout> {
    let mut borders = vec![0; steps.len() + 1];
    for step in steps {
        borders[step.input] = step.input_border().max(borders[step.input]);
    }
    let element = storage.value_type();
    let mut values = vec![TensorLayout { channels: 3, batch, height, width, border: borders[Plan::INPUT], element }];
    for step in steps {
        let input: TensorLayout = values[step.input];
        let (height, width) = (step.output_size(input.height), step.output_size(input.width));
        let channels = step.out_channels().unwrap_or(input.channels);
        values.push(TensorLayout { channels, batch, height, width, border: borders[step.output], element });
    }
    values.last_mut().expect("a plan has at least its input").element = ElementType::F32;
    values
}

#[cfg(test)]
mod tests {
    use super::super::kernel_selection::select_winograd;
    use super::*;
    use crate::architecture::Architecture;
    use std::time::Duration;

    const MAX_BUFFER_SIZE: u64 = 128 << 20;

    const KINDS: [AdapterKind; 3] = [AdapterKind::Software, AdapterKind::Direct, AdapterKind::Tiled];

    /// Steps of a network on an adapter of this kind.
    fn steps_on(kind: AdapterKind, network: &str) -> Vec<Step> {
        let plan = Plan::without_weights(Architecture::new(network, 1000).unwrap());
        steps(&plan, StorageFormat::F32, 224, |layer, output| {
            select_winograd(kind, StorageFormat::F32, MAX_BUFFER_SIZE, layer, output)
        })
    }

    #[test]
    fn every_value_is_written_once_and_before_it_is_read() {
        for (kind, side) in KINDS.into_iter().flat_map(|kind| [224, 32].map(|side| (kind, side))) {
            let steps = steps_on(kind, "resnet50");
            let plan = DispatchPlan::new(&steps, kind, StorageFormat::F32, [2, side, side]);
            let mut written = vec![BufferSlot::Upload];
            written.extend((0..steps.len()).map(BufferSlot::Weights));
            for (index, dispatch) in plan.dispatches.iter().enumerate() {
                if let Shader::Convolution(spec) = &dispatch.shader
                    && spec.config.splits > 1
                {
                    let next = &plan.dispatches[index + 1];
                    assert!(matches!(next.shader, Shader::ReduceSplits(_)), "{kind:?}, {side}: {}", dispatch.step);
                    assert_eq!(next.reads[0], dispatch.output);
                }
                assert!(dispatch.reads.iter().all(|slot| written.contains(slot)), "{}", dispatch.step);
                assert!(!dispatch.reads.contains(&dispatch.output));
                let kernel = dispatch.shader.kernel(Specialisation::PerShape);
                assert_eq!(kernel.reads, dispatch.reads.len(), "{}", dispatch.step);
                if !matches!(dispatch.output, BufferSlot::Scratch(_)) {
                    assert!(!written.contains(&dispatch.output), "{}", dispatch.step);
                }
                written.push(dispatch.output);
            }
            assert!((0..plan.values.len()).all(|value| written.contains(&BufferSlot::Value(value))));
        }
    }

    #[test]
    fn profiles_cover_the_whole_network() {
        for kind in KINDS {
            let steps = steps_on(kind, "resnet18");
            let plan = DispatchPlan::new(&steps, kind, StorageFormat::F32, [1, 224, 224]);
            let profiles: Vec<_> =
                plan.dispatches.iter().map(|dispatch| dispatch.profile(plan.specialisation, Duration::ZERO)).collect();
            assert_eq!(profiles.iter().map(|profile| profile.multiply_adds).sum::<u64>(), 1_814_073_344);
            assert_eq!(profiles.first().unwrap().name, "normalise");
            assert_eq!(profiles.last().unwrap().name, "fc");
            let of_last_3x3 = profiles.into_iter().filter(|profile| profile.name == "layer4.1.conv2");
            let last_3x3 = of_last_3x3.reduce(|mut sum, part| {
                sum.add(&part);
                sum
            });
            let last_3x3 = last_3x3.unwrap();
            assert_eq!(last_3x3.multiply_adds, 9 * 512 * 512 * 7 * 7);
            // The total includes the biases.
            let step = steps.iter().find(|step| step.name() == "layer4.1.conv2").unwrap();
            let matrices = match &step.kind {
                StepKind::Convolution { winograd: Some(winograd), .. } => winograd.variant.filter_elements() as u64,
                _ => 9,
            };
            assert_eq!(last_3x3.weight_bytes, 4 * 512 * (matrices * 512 + 1));
            // Weights dominate the traffic of this layer.
            assert!(
                (last_3x3.weight_bytes..last_3x3.weight_bytes + 4_000_000).contains(&last_3x3.moved_bytes.unwrap()),
                "{last_3x3:?}"
            );
        }
    }

    #[test]
    fn winograd_takes_three_dispatches_and_two_scratch_buffers() {
        let network = Plan::without_weights(Architecture::new("resnet50", 1000).unwrap());
        let steps = steps(&network, StorageFormat::F32, 224, |layer, _| {
            ([layer.kernel, layer.stride] == [3, 1]).then_some(WinogradVariant { m: 4, stride: 1 })
        });
        let plan = DispatchPlan::new(&steps, AdapterKind::Software, StorageFormat::F32, [1, 224, 224]);
        let count = |is: fn(&Shader) -> bool| plan.dispatches.iter().filter(|dispatch| is(&dispatch.shader)).count();
        // All 3x3 convolutions but the three with stride 2.
        assert_eq!(count(|shader| matches!(shader, Shader::InputTransform { .. })), 13);
        assert_eq!(count(|shader| matches!(shader, Shader::OutputTransform { .. })), 13);
        assert_eq!(plan.dispatches.len(), 1 + steps.len() + 2 * 13);
        // 36 positions of 14x14 tiles of 64 channels, before and after the products.
        let bytes = 36 * 64 * 14 * 14 * 4 + 512;
        assert_eq!([ScratchSlot::First, ScratchSlot::Second].map(|slot| plan.scratch_bytes(slot)), [bytes, bytes]);
    }

    #[test]
    fn software_adapters_use_no_splits() {
        let steps = steps_on(AdapterKind::Software, "resnet50");
        for side in [32, 224] {
            let plan = DispatchPlan::new(&steps, AdapterKind::Software, StorageFormat::F32, [1, side, side]);
            assert!(plan.dispatches.iter().all(|dispatch| !matches!(dispatch.shader, Shader::ReduceSplits(_))));
        }
    }

    #[test]
    fn batches_are_as_large_as_a_submission_and_buffers_allow() {
        for (kind, max_buffer_size, side) in [
            (AdapterKind::Direct, MAX_BUFFER_SIZE, 224),
            (AdapterKind::Tiled, MAX_BUFFER_SIZE, 224),
            (AdapterKind::Tiled, 10 << 20, 224),
            (AdapterKind::Tiled, 3 << 20, 224),
            (AdapterKind::Direct, MAX_BUFFER_SIZE, 1000),
        ] {
            let steps = steps_on(kind, "resnet18");
            let largest = max_batch_size(&steps, kind, StorageFormat::F32, max_buffer_size, [side, side]);
            let plan_for = |batch| DispatchPlan::new(&steps, kind, StorageFormat::F32, [batch as usize, side, side]);
            let fits = |plan: &DispatchPlan| {
                let multiply_adds: u64 = steps.iter().map(|step| step.multiply_adds(&plan.values[step.output])).sum();
                let is_short = multiply_adds <= kind.max_multiply_adds_per_submission() || plan.input_shape[0] == 1;
                plan.fits(max_buffer_size) && is_short
            };
            let case = format!("{largest} on {kind:?}, {max_buffer_size}, {side}");
            assert!(!fits(&plan_for(largest + 1)), "too small: {case}");
            if largest > 0 {
                let plan = plan_for(largest);
                assert!(fits(&plan), "too large: {case}");
                assert!(largest == 1 || !plan.submission_starts(kind).contains(&true), "several submissions: {case}");
            }
        }
    }

    #[test]
    fn large_images_take_several_submissions() {
        let kind = AdapterKind::Direct;
        let steps = steps_on(kind, "resnet50");
        let plan_for = |side| DispatchPlan::new(&steps, kind, StorageFormat::F32, [1, side, side]);
        assert!(plan_for(224).submission_starts(kind).iter().all(|starts| !starts));
        let plan = plan_for(1000);
        let mut submissions = vec![0];
        for (dispatch, starts) in plan.dispatches.iter().zip(plan.submission_starts(kind)) {
            if starts {
                submissions.push(0);
            }
            *submissions.last_mut().unwrap() += dispatch.executed_multiply_adds();
        }
        assert!(submissions.len() > 4 && submissions.iter().all(|&sum| sum <= 16 << 30), "{submissions:?}");
    }

    #[test]
    fn plans_with_more_workgroups_than_webgpu_allows_do_not_fit() {
        for kind in KINDS {
            let steps = steps_on(kind, "resnet18");
            for (shape, fits) in [([1, 224, 224], true), ([1, 65_536, 4], false), ([65_536, 1, 1], false)] {
                let plan = DispatchPlan::new(&steps, kind, StorageFormat::F32, shape);
                assert_eq!(plan.fits(u64::MAX), fits, "{kind:?}, {shape:?}");
            }
        }
    }
}
