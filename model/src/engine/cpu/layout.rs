//! A plan for one shape of input: where every value lies, and how every step is cut into tasks.

use super::arena::{Demand, place};
use super::blocked::Blocked;
use super::input::Image;
use super::memory::Size;
use super::simd::InstructionSet;
use super::steps::{Step, Work};
use super::{matrix, winograd};
use crate::plan::{Plan, Value};
use std::ops::Range;

pub struct Layout {
    /// `[batch, height, width]`
    pub shape: [usize; 3],
    pub image: Image,
    /// By value; that of the input is unused.
    pub shapes: Vec<Blocked>,
    /// By value: where in the arena.
    pub places: Vec<Range<usize>>,
    /// By step.
    pub schedules: Vec<Schedule>,
    /// By step: where in the arena it has memory that all threads share while it runs.
    pub shared: Vec<Range<usize>>,
    /// What a run works in.
    pub memory: Size,
}

pub enum Schedule {
    Matrix(matrix::Schedule),
    Winograd(winograd::Schedule),
    Pool,
}

impl Layout {
    pub fn new(
        steps: &[Step],
        last_reads: &[Option<usize>],
        shape: [usize; 3],
        set: InstructionSet,
        threads: usize,
    ) -> Self {
        let [batch, height, width] = shape;
        let image = Image { batch, height, width, border: steps[0].border() };
        let borders = borders(steps);
        let mut shapes = vec![Blocked { channels: 0, batch, height, width, border: 0 }];
        for step in steps {
            let from: Blocked = shapes[step.input];
            let border = borders[step.output];
            let (height, width) = (step.output_size(from.height), step.output_size(from.width));
            let channels = step.out_channels().unwrap_or(from.channels);
            shapes.push(Blocked { channels, batch, height, width, border });
        }

        // A value is alive from the step that writes it to the last that reads it; steps count from 1, behind the input.
        let mut demands: Vec<Demand> = shapes
            .iter()
            .enumerate()
            .map(|(value, shape)| Demand {
                length: if value == Plan::INPUT { image.len() } else { shape.len() },
                alive: (value, last_reads[value].map_or(value, |step| step + 1)),
            })
            .collect();
        let mut scratch = 0;
        let mut schedules = Vec::with_capacity(steps.len());
        for (index, step) in steps.iter().enumerate() {
            let (from, to) = (&shapes[step.input], &shapes[step.output]);
            let (schedule, shared) = match &step.work {
                Work::Matrix(weights, _) if step.input == Plan::INPUT => {
                    (Schedule::Matrix(matrix::Schedule::for_image(weights, &image, to, set, threads)), 0)
                }
                Work::Matrix(weights, _) => {
                    let residual = step.residual.map(|value| &shapes[value]);
                    let schedule = matrix::Schedule::new(weights, from, to, residual, set, threads);
                    (Schedule::Matrix(schedule), matrix::Schedule::shared(weights, from))
                }
                Work::Winograd(weights, _) => {
                    let schedule = winograd::Schedule::new(weights, to, threads);
                    scratch = scratch.max(schedule.scratch(weights));
                    let shared = schedule.shared(weights);
                    (Schedule::Winograd(schedule), shared)
                }
                Work::MaxPool(_) | Work::Average => (Schedule::Pool, 0),
            };
            schedules.push(schedule);
            demands.push(Demand { length: shared, alive: (index + 1, index + 1) });
        }
        let (mut places, arena) = place(&demands);
        let shared = places.split_off(shapes.len());
        Layout { shape, image, shapes, places, schedules, shared, memory: Size { arena, scratch } }
    }
}

/// By value: the widest padding of those who read it.
fn borders(steps: &[Step]) -> Vec<usize> {
    let mut borders = vec![0; steps.len() + 1];
    for step in steps {
        let border: &mut usize = &mut borders[step.input as Value];
        *border = (*border).max(step.border());
    }
    borders
}
