//! What is dispatched for one shape of input, in order: from shapes and the kind of adapter alone, before anything is asked
//! of a GPU.

use super::super::winograd::Scheme;
use super::choice::{AdapterKind, Choice};
use super::planes::Planes;
use super::shaders::{Code, Problem, Shader, Tiling};
use super::steps::{Step, Winograd, Work};
use super::storage::{Element, Storage};
use crate::architecture::Convolution;
use crate::plan::{Plan, Value};

/// Workgroups in a dimension of a dispatch, in WebGPU's default limits.
const MOST_WORKGROUPS: usize = 65_535;

/// Words in front of the bytes of an upload: mean and standard deviation by colour.
pub const HEADER: usize = 6;

pub struct Listing<'a> {
    /// `[batch, height, width]`
    pub shape: [usize; 3],
    /// By value.
    pub values: Vec<Planes>,
    /// The first normalises bytes.
    pub dispatches: Vec<Planned<'a>>,
    /// How kernels are written.
    pub code: Code,
}

/// What a kernel reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The bytes of images.
    Upload,
    Value(Value),
    /// Those of a step.
    Weights(usize),
    /// What lies between the dispatches of a step, which are three at most.
    Scratch(Between),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// The first and the next one.
    First,
    /// That one and the last.
    Second,
}

/// One kernel and the buffers that it is dispatched on.
pub struct Planned<'a> {
    /// `normalise` or the name of a step.
    pub layer: &'a str,
    pub shader: Shader<'a>,
    pub output: Slot,
    pub reads: Vec<Slot>,
}

impl<'a> Listing<'a> {
    /// For `[batch, height, width]`.
    pub fn new(steps: &'a [Step], kind: AdapterKind, storage: Storage, shape: [usize; 3]) -> Self {
        let choose = |layer: &Convolution, to: &Planes, of_points| match of_points {
            true => Choice::of_points(kind, layer, to),
            false => Choice::new(kind, layer, to),
        };
        Listing::choosing(steps, storage, kind.code(), shape, choose)
    }

    /// The same, with somebody's choice for each convolution with outputs of a shape, or products of Winograd's points.
    pub fn choosing(
        steps: &'a [Step],
        storage: Storage,
        code: Code,
        shape: [usize; 3],
        choice: impl Fn(&Convolution, &Planes, bool) -> Choice,
    ) -> Self {
        let values = values(steps, storage, shape);
        let normalise = Planned {
            layer: "normalise",
            shader: Shader::Normalise(values[Plan::INPUT]),
            output: Slot::Value(Plan::INPUT),
            reads: vec![Slot::Upload],
        };
        let mut dispatches = vec![normalise];
        for (index, step) in steps.iter().enumerate() {
            let (from, to) = (values[step.input], values[step.output]);
            let (input, output) = (Slot::Value(step.input), Slot::Value(step.output));
            let mut push =
                |shader, reads, output| dispatches.push(Planned { layer: step.name(), shader, output, reads });
            match &step.work {
                Work::Convolution { layer, residual, relu, winograd } => {
                    let weights = Slot::Weights(index);
                    let [first, second] = [Between::First, Between::Second].map(Slot::Scratch);
                    let last = |from| [from, weights].into_iter().chain(residual.map(Slot::Value)).collect();
                    let whole = |choice, points| {
                        let (residual, relu) = (residual.map(|value| values[value]), *relu);
                        Problem { layer, choice, storage, from, to, residual, relu, points }
                    };
                    if let Some(Winograd { scheme, products: layer }) = winograd.as_deref() {
                        let tiling = Tiling::new(*scheme, &to);
                        let [values, sums] = tiling.points(layer);
                        let whole = whole(choice(layer, &sums, true), Some(scheme.matrices()));
                        let products =
                            Problem { layer, from: values, to: sums, residual: None, relu: false, ..whole.clone() };
                        push(Shader::InputTransform { tiling, from }, vec![input], first);
                        push(Shader::Convolution(products), vec![first, weights], second);
                        push(Shader::OutputTransform { tiling, problem: whole }, last(second), output);
                        continue;
                    }
                    let problem = whole(choice(layer, &to, false), None);
                    if problem.choice.pieces == 1 {
                        push(Shader::Convolution(problem), last(input), output);
                    } else {
                        push(Shader::Convolution(problem.clone()), vec![input, weights], first);
                        push(Shader::AddPieces(problem), last(first), output);
                    }
                }
                Work::MaxPool(pool) => push(Shader::MaxPool { pool: *pool, from, to }, vec![input], output),
                Work::Average => push(Shader::AveragePool { from, to }, vec![input], output),
            }
        }
        Listing { shape, values, dispatches, code }
    }

    /// Whole words.
    pub fn upload_bytes(&self) -> u64 {
        let bytes: u64 = self.shape.map(|side| side as u64).iter().product::<u64>() * 3;
        (HEADER as u64 + bytes.div_ceil(4)) * 4
    }

    /// Of the one buffer that lies there in all steps; 0 if none needs it.
    pub fn scratch_bytes(&self, between: Between) -> u64 {
        let writers = self.dispatches.iter().filter(|planned| planned.output == Slot::Scratch(between));
        writers.filter_map(Planned::scratch).map(|written| written.bytes()).max().unwrap_or(0)
    }

    /// By dispatch, whether a submission starts with it: once one more would be too much for the one before. Only large
    /// images take several.
    pub fn submissions(&self, kind: AdapterKind) -> Vec<bool> {
        let most = kind.multiply_adds_of_a_submission();
        let mut submitted = 0;
        let starts = |planned: &Planned| {
            let products = planned.products();
            let starts = submitted > 0 && submitted + products > most;
            submitted = products + if starts { 0 } else { submitted };
            starts
        };
        self.dispatches.iter().map(starts).collect()
    }

    /// Whether buffers of this size, and as many workgroups as WebGPU allows, suffice.
    pub fn fits(&self, largest_buffer: u64) -> bool {
        let workgroups = self.dispatches.iter().flat_map(|planned| planned.shader.workgroups()).max();
        let values = self.values.iter().map(Planes::bytes);
        let scratch = [Between::First, Between::Second].map(|between| self.scratch_bytes(between));
        let buffers = values.chain([self.upload_bytes()]).chain(scratch).max();
        buffers <= Some(largest_buffer) && workgroups <= Some(MOST_WORKGROUPS)
    }
}

impl Planned<'_> {
    /// What it writes, if that lies between dispatches of a step.
    fn scratch(&self) -> Option<Planes> {
        match &self.shader {
            Shader::Convolution(problem) => Some(problem.written()),
            Shader::InputTransform { tiling, from } => Some(tiling.planes(from.channels)),
            _ => None,
        }
    }

    /// Multiply-adds that are carried out.
    pub fn products(&self) -> u64 {
        match &self.shader {
            Shader::Convolution(problem) => problem.multiply_adds(),
            _ => 0,
        }
    }
}

/// Images that should run at once: as many as buffers hold and a submission should take. 0 if a buffer does not hold one.
pub fn images_at_once(
    steps: &[Step],
    kind: AdapterKind,
    storage: Storage,
    largest_buffer: u64,
    [height, width]: [usize; 2],
) -> u64 {
    // Every run asks: so nothing is chosen for it, and pieces of sums, which are of small values, are left out.
    let values = values(steps, storage, [1, height, width]);
    let points = steps.iter().filter_map(|step| step.points(&values[step.output])).flatten();
    let largest = values.iter().copied().chain(points).map(|planes| planes.bytes()).max().expect("a plan has values");
    let of_a_buffer = largest_buffer / largest;
    let multiply_adds: u64 = steps.iter().map(|step| step.multiply_adds(&values[step.output])).sum();
    of_a_buffer.min((kind.multiply_adds_of_a_submission() / multiply_adds.max(1)).max(1))
}

/// The steps of a plan, 3x3s by Winograd's filtering where `scheme` says so: of a layer and its outputs for one image of
/// side `side`.
pub fn steps(
    plan: &Plan,
    storage: Storage,
    side: usize,
    scheme: impl Fn(&Convolution, &Planes) -> Option<Scheme>,
) -> Vec<Step> {
    let mut steps: Vec<Step> = plan.operations.iter().map(Step::new).collect();
    let values = values(&steps, storage, [1, side, side]);
    steps.iter_mut().for_each(|step| step.filter(|layer, output| scheme(layer, &values[output])));
    steps
}

/// By value. A border is as wide as the widest padding of those who read it. The last one, the logits, is f32 always.
fn values(steps: &[Step], storage: Storage, [batch, height, width]: [usize; 3]) -> Vec<Planes> {
    let mut borders = vec![0; steps.len() + 1];
    for step in steps {
        borders[step.input] = step.border().max(borders[step.input]);
    }
    let mut values =
        vec![Planes { channels: 3, batch, height, width, border: borders[Plan::INPUT], element: storage.values() }];
    for step in steps {
        let from: Planes = values[step.input];
        let (height, width) = (step.output_size(from.height), step.output_size(from.width));
        let channels = step.out_channels().unwrap_or(from.channels);
        values.push(Planes { channels, batch, height, width, border: borders[step.output], element: storage.values() });
    }
    values.last_mut().expect("the input at least").element = Element::F32;
    values
}

#[cfg(test)]
mod tests {
    use super::super::choice;
    use super::*;
    use crate::architecture::Architecture;
    use std::time::Duration;

    const LARGEST: u64 = 128 << 20;

    /// As an adapter of that kind gets them.
    fn steps_of(network: &str, kind: AdapterKind) -> Vec<Step> {
        let plan = Plan::outline(Architecture::new(network, 1000).unwrap());
        steps(&plan, Storage::F32, 224, |layer, to| choice::scheme(kind, Storage::F32, LARGEST, layer, to))
    }

    const KINDS: [AdapterKind; 3] = [AdapterKind::Software, AdapterKind::Direct, AdapterKind::Tiled];

    #[test]
    fn every_value_is_written_once_and_before_it_is_read() {
        for (kind, side) in KINDS.into_iter().flat_map(|kind| [224, 32].map(|side| (kind, side))) {
            let steps = steps_of("resnet50", kind);
            let listing = Listing::new(&steps, kind, Storage::F32, [2, side, side]);
            let mut written = vec![Slot::Upload];
            written.extend((0..steps.len()).map(Slot::Weights));
            for (index, planned) in listing.dispatches.iter().enumerate() {
                if let Shader::Convolution(problem) = &planned.shader
                    && problem.choice.pieces > 1
                {
                    let next = &listing.dispatches[index + 1];
                    assert!(matches!(next.shader, Shader::AddPieces(_)), "{kind:?}, {side}: {}", planned.layer);
                    assert_eq!(next.reads[0], planned.output);
                }
                assert!(planned.reads.iter().all(|slot| written.contains(slot)), "{}", planned.layer);
                assert!(!planned.reads.contains(&planned.output));
                assert_eq!(planned.shader.kernel(Code::Specialised).reads, planned.reads.len(), "{}", planned.layer);
                if !matches!(planned.output, Slot::Scratch(_)) {
                    assert!(!written.contains(&planned.output), "{}", planned.layer);
                }
                written.push(planned.output);
            }
            assert!((0..listing.values.len()).all(|value| written.contains(&Slot::Value(value))));
        }
    }

    #[test]
    fn the_profiles_are_of_the_whole_network() {
        for (kind, kernel, matrices) in
            [(KINDS[0], "winograd 2x2", 16), (KINDS[1], "direct", 9), (KINDS[2], "tiled", 9)]
        {
            let steps = steps_of("resnet18", kind);
            let listing = Listing::new(&steps, kind, Storage::F32, [1, 224, 224]);
            let profiles: Vec<_> =
                listing.dispatches.iter().map(|planned| planned.profile(listing.code, Duration::ZERO)).collect();
            assert_eq!(profiles.iter().map(|profile| profile.multiply_adds).sum::<u64>(), 1_814_073_344);
            assert_eq!(profiles.first().unwrap().name, "normalise");
            assert_eq!(profiles.last().unwrap().name, "fc");
            let of_last = profiles.into_iter().filter(|profile| profile.name == "layer4.1.conv2");
            let last = of_last.reduce(|mut sum, part| {
                sum.add(&part);
                sum
            });
            let last = last.unwrap();
            assert!(last.algorithm.starts_with(kernel), "{last:?}");
            assert_eq!(last.multiply_adds, 9 * 512 * 512 * 7 * 7);
            // And the biases.
            assert_eq!(last.weight_bytes, 4 * 512 * (matrices * 512 + 1));
            // Weights above all.
            assert!(
                (last.weight_bytes..last.weight_bytes + 4_000_000).contains(&last.moved_bytes.unwrap()),
                "{last:?}"
            );
        }
    }

    #[test]
    fn emulated_adapters_filter_3x3s_and_split_nothing() {
        let steps = steps_of("resnet50", AdapterKind::Software);
        let listing = Listing::new(&steps, AdapterKind::Software, Storage::F32, [1, 224, 224]);
        let count = |is: fn(&Shader) -> bool| listing.dispatches.iter().filter(|planned| is(&planned.shader)).count();
        assert_eq!(count(|shader| matches!(shader, Shader::AddPieces(_))), 0);
        // All but the three with a stride.
        assert_eq!(count(|shader| matches!(shader, Shader::InputTransform { .. })), 13);
        assert_eq!(count(|shader| matches!(shader, Shader::OutputTransform { .. })), 13);
        assert_eq!(listing.dispatches.len(), 1 + steps.len() + 2 * 13);
        // 36 points of 14x14 tiles of 64 channels, in front of the products and behind them.
        let bytes = 36 * 64 * 14 * 14 * 4 + 512;
        assert_eq!([Between::First, Between::Second].map(|between| listing.scratch_bytes(between)), [bytes, bytes]);
    }

    #[test]
    fn a_submission_takes_as_many_images_as_its_time_and_buffers_allow() {
        let of = |kind, largest, side| {
            images_at_once(&steps_of("resnet18", kind), kind, Storage::F32, largest, [side, side])
        };
        assert_eq!(of(AdapterKind::Direct, 128 << 20, 224), 9);
        assert_eq!(of(AdapterKind::Tiled, 128 << 20, 224), 37);
        // 64 channels of 112x112.
        assert_eq!(of(AdapterKind::Tiled, 10 << 20, 224), 3);
        assert_eq!(of(AdapterKind::Tiled, 3 << 20, 224), 0);
        assert_eq!(of(AdapterKind::Direct, 128 << 20, 1000), 1);
    }

    #[test]
    fn a_large_image_takes_several_submissions() {
        let kind = AdapterKind::Direct;
        let steps = steps_of("resnet50", kind);
        let of = |side| Listing::new(&steps, kind, Storage::F32, [1, side, side]);
        assert!(of(224).submissions(kind).iter().all(|starts| !starts));
        let listing = of(1000);
        let mut submissions = vec![0];
        for (planned, starts) in listing.dispatches.iter().zip(listing.submissions(kind)) {
            if starts {
                submissions.push(0);
            }
            *submissions.last_mut().unwrap() += planned.products();
        }
        assert!(submissions.len() > 4 && submissions.iter().all(|&sum| sum <= 16 << 30), "{submissions:?}");
    }

    #[test]
    fn more_workgroups_than_webgpu_allows_do_not_fit() {
        for kind in KINDS {
            let steps = steps_of("resnet18", kind);
            for (shape, fits) in [([1, 224, 224], true), ([1, 65_536, 4], false), ([65_536, 1, 1], false)] {
                assert_eq!(Listing::new(&steps, kind, Storage::F32, shape).fits(u64::MAX), fits, "{kind:?}, {shape:?}");
            }
        }
    }
}
