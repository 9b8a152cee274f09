//! Everything that depends on the shape of the input: where each value lies in memory, and how each step is split into
//! tasks.

use super::amx::AmxSchedule;
use super::arena::{AllocationRequest, allocate};
use super::blocked_shape::BlockedShape;
use super::convolution_output::PixelGrid;
use super::direct_conv::DirectSchedule;
use super::padded_image::PaddedImage;
use super::simd::InstructionSet;
use super::steps::{PackedOperation, Step};
use super::winograd::WinogradSchedule;
use super::workspace::WorkspaceSize;
use crate::plan::{Plan, ValueId};
use std::ops::Range;

/// Memory layout and schedules for inputs of one shape.
pub struct ExecutionLayout {
    /// Shape of the input, `[batch, height, width]`.
    pub shape: [usize; 3],
    pub image: PaddedImage,
    /// Shape of each value. The entry of the input is unused.
    pub shapes: Vec<BlockedShape>,
    /// Range of each value in the arena.
    pub ranges: Vec<Range<usize>>,
    /// Schedule of each step.
    pub schedules: Vec<StepSchedule>,
    /// Range in the arena of each step's temporary memory, which all threads share.
    pub shared_ranges: Vec<Range<usize>>,
    /// Size of the workspace that a run needs.
    pub workspace_size: WorkspaceSize,
}

/// The division of a step into tasks.
pub enum StepSchedule {
    Direct(DirectSchedule),
    Amx(AmxSchedule),
    Winograd(WinogradSchedule),
    Pool,
}

impl ExecutionLayout {
    pub fn new(
        steps: &[Step],
        last_reads: &[Option<usize>],
        shape: [usize; 3],
        set: InstructionSet,
        threads: usize,
    ) -> Self {
        let [batch, height, width] = shape;
        let image = PaddedImage { batch, height, width, border: steps[0].border() };
        let borders = borders(steps);
        let mut shapes = vec![BlockedShape { channels: 0, batch, height, width, border: 0 }];
        for step in steps {
            let from: BlockedShape = shapes[step.input];
            let border = borders[step.output];
            let (height, width) = (step.output_size(from.height), step.output_size(from.width));
            let channels = step.out_channels().unwrap_or(from.channels);
            shapes.push(BlockedShape { channels, batch, height, width, border });
        }

        // A value must be preserved from the step that writes it to the last step that reads it. Steps are numbered
        // from 1, because step 0 writes the input.
        let mut requests: Vec<AllocationRequest> = shapes
            .iter()
            .enumerate()
            .map(|(value, shape)| AllocationRequest {
                length: if value == Plan::INPUT { image.len() } else { shape.len() },
                lifetime: (value, last_reads[value].map_or(value, |step| step + 1)),
            })
            .collect();
        let mut scratch = 0;
        let mut schedules = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            let (from, to) = (&shapes[step.input], &shapes[step.output]);
            let (schedule, shared) = match &step.operation {
                PackedOperation::Direct(weights, _) if step.input == Plan::INPUT => {
                    (StepSchedule::Direct(DirectSchedule::for_image(weights, &image, to, set, threads)), 0)
                }
                PackedOperation::Direct(weights, _) => {
                    let residual = step.residual.map(|value| &shapes[value]);
                    let grid = PixelGrid::all(to);
                    let schedule = DirectSchedule::new(weights, from, to, &grid, residual, set, threads);
                    (StepSchedule::Direct(schedule), DirectSchedule::shared_len(weights, from))
                }
                PackedOperation::Amx(weights, _) => {
                    let schedule = if step.input == Plan::INPUT {
                        AmxSchedule::for_image(weights, &image, to, threads)
                    } else {
                        AmxSchedule::new(weights, from, &PixelGrid::all(to), threads)
                    };
                    let shared = schedule.shared_len();
                    (StepSchedule::Amx(schedule), shared)
                }
                PackedOperation::Winograd(weights, _) => {
                    let schedule = WinogradSchedule::new(weights, to, threads);
                    scratch = scratch.max(schedule.scratch_len(weights));
                    let shared = schedule.shared_len(weights);
                    (StepSchedule::Winograd(schedule), shared)
                }
                PackedOperation::MaxPool(_) | PackedOperation::GlobalAveragePool => (StepSchedule::Pool, 0),
            };
            schedules.push(schedule);
            requests.push(AllocationRequest { length: shared, lifetime: (index + 1, index + 1) });
        }
        let (mut ranges, arena) = allocate(&requests);
        let shared_ranges = ranges.split_off(shapes.len());
        let workspace_size = WorkspaceSize { arena, scratch };
        ExecutionLayout { shape, image, shapes, ranges, schedules, shared_ranges, workspace_size }
    }
}

/// Returns the border of each value: the largest padding of the steps that read it.
fn borders(steps: &[Step]) -> Vec<usize> {
    let mut borders = vec![0; steps.len() + 1];
    for step in steps {
        let border: &mut usize = &mut borders[step.input as ValueId];
        *border = (*border).max(step.border());
    }
    borders
}
