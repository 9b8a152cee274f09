//! Division of a value into regions, each of which one task processes.

use super::super::value::Execution;
use crate::engine::cpu::blocked_shape::{BLOCK, BlockedShape};
use crate::engine::cpu::buffer::SharedMutSlice;
use std::ops::Range;

/// Number of values that a task processes at least, unless the batch has fewer.
const VALUES_PER_TASK: usize = 16 << 10;

/// The division of a value into tasks.
pub struct Tasks {
    /// Number of blocks of channels.
    blocks: usize,
    batch: usize,
    images_per_group: usize,
    /// Number of groups of images.
    pub groups: usize,
    pixels_per_image: usize,
}

/// Part of a value that a task processes: some images of one block of channels.
pub struct Region {
    pub block: usize,
    pub images: Range<usize>,
}

impl Tasks {
    pub fn new(shape: &BlockedShape) -> Self {
        let pixels_per_image = shape.height * shape.width;
        let images_per_group = VALUES_PER_TASK.div_ceil(pixels_per_image * BLOCK).min(shape.batch);
        Tasks {
            blocks: shape.channels.div_ceil(BLOCK),
            batch: shape.batch,
            images_per_group,
            groups: shape.batch.div_ceil(images_per_group),
            pixels_per_image,
        }
    }

    fn images(&self, group: usize) -> Range<usize> {
        let first = group * self.images_per_group;
        first..(first + self.images_per_group).min(self.batch)
    }

    /// Returns the number of pixels in a group of images.
    pub fn pixels(&self, group: usize) -> usize {
        self.images(group).len() * self.pixels_per_image
    }

    /// Calls `task` with the index and the region of each task.
    pub fn for_each(&self, execution: Execution, task: impl Fn(usize, Region) + Sync) {
        execution.threads.for_each(self.blocks * self.groups, |index| {
            task(index, Region { block: index / self.groups, images: self.images(index % self.groups) });
        });
    }

    /// Calls `task` with each region, and the offset in `sums` where it writes its two sums per channel.
    pub fn sum_up(
        &self,
        execution: Execution,
        sums: &mut Vec<f32>,
        task: impl Fn(Region, SharedMutSlice, usize) + Sync,
    ) {
        sums.resize(self.blocks * self.groups * 2 * BLOCK, 0.0);
        let sums = SharedMutSlice::new(sums);
        self.for_each(execution, |index, region| task(region, sums, index * 2 * BLOCK));
    }
}

impl Region {
    /// Calls `row` with the offset of every row in a value of each of the shapes, which may differ only in their border.
    #[inline(always)]
    pub fn for_each_row<const N: usize>(&self, shapes: [&BlockedShape; N], mut row: impl FnMut([usize; N])) {
        let size = |shape: &BlockedShape| BlockedShape { border: 0, ..*shape };
        assert!(shapes.iter().all(|shape| size(shape) == size(shapes[0])));
        for image in self.images.clone() {
            for y in 0..shapes[0].height {
                row(shapes.map(|shape| {
                    self.block * shape.block_stride() + shape.offset(image, y + shape.border, shape.border)
                }));
            }
        }
    }
}
