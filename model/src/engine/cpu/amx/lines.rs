//! Layout of values in bf16 for tiles: lines of 16 pairs, `[planes, groups, height, stride, width / stride, lines, 16]`.
//!
//! A plane is 32 channels, and a line one pixel of an image; in the weight gradient, a plane is 16 channels, and a line
//! one pixel of two images. A group of images has its pixels at the same position next to each other, so a row of pixels
//! of the group fills whole tiles even if images are small. The border is part of height and width. Columns that are the
//! same number modulo the stride are adjacent, so that the lines that a filter element multiplies for a row of output
//! pixels are adjacent too.

use super::super::blocked_shape::{BLOCK, BlockedShape};
use super::super::buffer::SharedMutSlice;
use super::super::simd::{InstructionSet, Kernel, Simd, TILE, TILE_PAIRS};
use super::super::thread_pool::ThreadPool;

/// Number of columns that are rounded together, so that reads and writes both are of adjacent cache lines.
const COLUMNS_PER_STEP: usize = 8;
/// Number of lines after the last plane that a product may read.
const SLACK: usize = 2 * TILE - 1;

/// Conversion of a blocked value to lines.
pub struct Lines {
    shape: BlockedShape,
    content: LineContent,
    stride: usize,
    /// Number of lines of a pixel in a group.
    lines: usize,
    /// Number of columns with the same number modulo the stride.
    columns: usize,
}

/// Values in a line of 16 pairs.
#[derive(Clone, Copy, PartialEq)]
pub enum LineContent {
    /// Pairs of adjacent channels of one image.
    Channels,
    /// The same channel of two adjacent images. Without a second image, it is zero.
    Images,
}

/// Returns the number of lines of a pixel that are grouped, so that rows of `width` output pixels divide into few tiles
/// of `tile` lines. `lines` is the number of lines of a pixel in the batch. Small groups are preferred, because the
/// pixels of different images are far apart in memory.
pub fn lines_per_group(width: usize, lines: usize, tile: usize) -> usize {
    let tiles = |group: usize| lines.div_ceil(group) * (width * group).div_ceil(tile);
    let least = (1..=lines).map(tiles).min().expect("a batch has images");
    (1..=lines).find(|&group| tiles(group) * 20 <= least * 21).expect("the least is one of them")
}

impl Lines {
    /// Returns the conversion of the input of a convolution with a stride. `lines` is the number of lines of a pixel in
    /// a group.
    pub fn new(shape: &BlockedShape, content: LineContent, stride: usize, lines: usize) -> Self {
        let columns = (shape.width + 2 * shape.border).div_ceil(stride);
        Lines { shape: *shape, content, stride, lines, columns }
    }

    /// Returns the number of planes.
    pub fn planes(&self) -> usize {
        match self.content {
            LineContent::Channels => self.shape.channels.div_ceil(2 * BLOCK),
            LineContent::Images => self.shape.channels.div_ceil(BLOCK),
        }
    }

    /// Returns the number of images in a line.
    fn images_per_line(&self) -> usize {
        match self.content {
            LineContent::Channels => 1,
            LineContent::Images => 2,
        }
    }

    /// Returns the number of groups of images.
    pub fn groups(&self) -> usize {
        self.shape.batch.div_ceil(self.lines * self.images_per_line())
    }

    /// Returns the distance from a row of pixels to the next, in pairs.
    pub fn row_stride(&self) -> usize {
        self.stride * self.columns * self.lines * TILE_PAIRS
    }

    /// Returns the distance from a group of images to the next, in pairs.
    pub fn group_stride(&self) -> usize {
        (self.shape.height + 2 * self.shape.border) * self.row_stride()
    }

    /// Returns the distance from a plane to the next, in pairs.
    pub fn plane_stride(&self) -> usize {
        self.groups() * self.group_stride()
    }

    /// Returns the offset of a column in its row, in pairs.
    pub fn column_offset(&self, column: usize) -> usize {
        (column % self.stride * self.columns + column / self.stride) * self.lines * TILE_PAIRS
    }

    /// Returns the number of pairs in memory.
    pub fn len(&self) -> usize {
        self.planes() * self.plane_stride() + SLACK * TILE_PAIRS
    }

    /// Rounds a value to lines.
    ///
    /// # Panics
    /// Panics if the instruction set does not support pairs of bf16.
    pub fn round(&self, values: &[f32], lines: &mut [f32], set: InstructionSet, threads: &ThreadPool) {
        assert!(set.has_bf16_pairs() && values.len() == self.shape.len() && lines.len() >= self.len());
        // Products with these lines are not used, or zero if the lines are finite.
        lines[self.planes() * self.plane_stride()..][..SLACK * TILE_PAIRS].fill(0.0);
        let height = self.shape.height + 2 * self.shape.border;
        let lines = SharedMutSlice::new(lines);
        let groups = self.groups();
        threads.for_each(self.planes() * groups * height, |row| {
            let (group, y) = (row / height, row % height);
            set.run(RoundRow { layout: self, values, lines, plane: group / groups, group: group % groups, y });
        });
    }
}

/// Rounds one row of pixels of a group and plane.
struct RoundRow<'a> {
    layout: &'a Lines,
    values: &'a [f32],
    lines: SharedMutSlice<'a>,
    plane: usize,
    group: usize,
    y: usize,
}

impl Kernel for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Lines { shape, stride, columns, lines, .. } = self.layout;
        let width = shape.width + 2 * shape.border;
        let group = self.plane * self.layout.groups() + self.group;
        let row = group * self.layout.group_stride() + self.y * self.layout.row_stride();
        for first in (0..*columns).step_by(COLUMNS_PER_STEP) {
            for phase in 0..*stride {
                for line in 0..*lines {
                    for column in first..(first + COLUMNS_PER_STEP).min(*columns) {
                        let at = row + ((phase * columns + column) * lines + line) * TILE_PAIRS;
                        let x = column * stride + phase;
                        self.round_line(simd, at, line, (x < width).then_some(x));
                    }
                }
            }
        }
    }
}

impl RoundRow<'_> {
    /// Rounds one line of column `x`, or writes zeros.
    #[inline(always)]
    fn round_line<S: Simd>(&self, simd: S, at: usize, line: usize, x: Option<usize>) {
        if !S::BF16_PAIRS {
            unreachable!("the instruction set does not support pairs of bf16");
        }
        let Lines { shape, content, lines, .. } = self.layout;
        let image = (self.group * lines + line) * self.layout.images_per_line();
        let offset = |block: usize, image: usize, x: usize| {
            // The content of blocks beyond the last channel is unspecified.
            let is_valid = block * BLOCK < shape.channels && image < shape.batch;
            is_valid.then(|| block * shape.block_stride() + shape.offset(image, self.y, x))
        };
        let sources = match (content, x) {
            (_, None) => [None, None],
            (LineContent::Channels, Some(x)) => [0, 1].map(|block| offset(2 * self.plane + block, image, x)),
            (LineContent::Images, Some(x)) => [image, image + 1].map(|image| offset(self.plane, image, x)),
        };
        for pair in (0..TILE_PAIRS).step_by(S::LANES) {
            // SAFETY: `Lines::round` checks that the processor supports pairs of bf16, and the lengths of both values.
            // Offsets are those of pixels inside them, and each task writes its own lines.
            unsafe {
                let read = |source: Option<usize>, lane: usize| match source {
                    Some(source) => simd.read(self.values, source + lane),
                    None => simd.splat(0.0),
                };
                let pairs = match content {
                    LineContent::Channels => {
                        let [low, high] =
                            [2 * pair, 2 * pair + S::LANES].map(|lane| read(sources[lane / BLOCK], lane % BLOCK));
                        simd.round_to_bf16(low, high)
                    }
                    LineContent::Images => simd.zip_to_bf16(read(sources[0], pair), read(sources[1], pair)),
                };
                simd.write(self.lines, at + pair, pairs);
            }
        }
    }
}
