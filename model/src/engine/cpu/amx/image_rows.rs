//! Layout of images in bf16 for tiles, `[batch, height, width * 3 / 2]` in pairs, border included.
//!
//! The 32 values of a tile's row start with one row of the filter window of an output pixel. The values after the window
//! are multiplied by zero.

use super::super::buffer::SharedMutSlice;
use super::super::filter::Filter;
use super::super::padded_image::{COLOURS, PaddedImage};
use super::super::simd::{InstructionSet, Kernel, Simd, TILE_PAIRS};
use super::super::thread_pool::ThreadPool;

/// Number of values in a row of a tile.
const TILE_VALUES: usize = 2 * TILE_PAIRS;

/// Conversion of the input of the stem.
pub struct ImageRows {
    image: PaddedImage,
}

impl ImageRows {
    /// Returns whether tiles can compute a stem: a row of the filter window fits into a row of a tile, and windows start
    /// at whole pairs.
    pub fn supports(filter: &Filter) -> bool {
        filter.in_channels == COLOURS
            && filter.groups == 1
            && filter.elements.len().isqrt() * COLOURS <= TILE_VALUES
            && filter.stride.is_multiple_of(2)
    }

    pub fn new(image: &PaddedImage) -> Self {
        ImageRows { image: *image }
    }

    /// Returns the distance from the window of an output pixel to the next, in pairs.
    pub fn pixel_stride(stride: usize) -> usize {
        stride * COLOURS / 2
    }

    /// Returns the distance from a row to the next, in pairs.
    pub fn row_stride(&self) -> usize {
        self.image.row_stride().div_ceil(2)
    }

    /// Returns the number of rows of an image.
    fn rows(&self) -> usize {
        self.image.height + 2 * self.image.border
    }

    /// Returns the distance from an image to the next, in pairs.
    pub fn image_stride(&self) -> usize {
        self.rows() * self.row_stride()
    }

    /// Returns the number of pairs without those after the last image.
    fn content_len(&self) -> usize {
        self.image.batch * self.image_stride()
    }

    /// Returns the number of pairs in memory, for tiles whose rows are `pixel_stride` pairs apart.
    pub fn len(&self, pixels: usize, pixel_stride: usize) -> usize {
        self.content_len() + pixels * pixel_stride + TILE_PAIRS
    }

    /// Rounds images to pairs of adjacent values.
    ///
    /// # Panics
    /// Panics if the instruction set does not support pairs of bf16.
    pub fn round(&self, values: &[f32], pairs: &mut [f32], set: InstructionSet, threads: &ThreadPool) {
        assert!(set.has_bf16_pairs() && values.len() == self.image.len() && pairs.len() >= self.content_len());
        let (content, rest) = pairs.split_at_mut(self.content_len());
        // Tiles may read these values; they are multiplied by zero, or their products are not used.
        rest.fill(0.0);
        let (row_len, row_stride) = (self.image.row_stride(), self.row_stride());
        let pairs = SharedMutSlice::new(content);
        threads.for_each(self.image.batch, |image| {
            for row in image * self.rows()..(image + 1) * self.rows() {
                set.run(RoundRow { values: &values[row * row_len..][..row_len], pairs, at: row * row_stride });
            }
        });
    }
}

/// Rounds one row.
struct RoundRow<'a> {
    values: &'a [f32],
    pairs: SharedMutSlice<'a>,
    at: usize,
}

impl Kernel for RoundRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if !S::BF16_PAIRS {
            unreachable!("the instruction set does not support pairs of bf16");
        }
        let RoundRow { values, pairs, at } = self;
        assert!(simd.has_bf16_pairs() && at + values.len().div_ceil(2) <= pairs.len());
        let round = |values: &[f32], first: usize| {
            // SAFETY: the processor supports pairs of bf16, and both callers pass two vectors of values.
            unsafe { simd.round_to_bf16(simd.read(values, first), simd.read(values, first + S::LANES)) }
        };
        let whole = values.len() / (2 * S::LANES) * (2 * S::LANES);
        for first in (0..whole).step_by(2 * S::LANES) {
            // SAFETY: the assertion above checks that the pairs of the row lie inside the target. Each task writes its
            // own rows.
            unsafe { simd.write(pairs, at + first / 2, round(values, first)) };
        }
        let mut last = [0.0; TILE_VALUES];
        let rest = &values[whole..];
        last[..rest.len()].copy_from_slice(rest);
        let mut rounded = [0.0; TILE_PAIRS];
        // SAFETY: `rounded` is a vector or longer, and is not shared.
        unsafe { simd.write(SharedMutSlice::new(&mut rounded), 0, round(&last, 0)) };
        for (index, pair) in rounded[..rest.len().div_ceil(2)].iter().enumerate() {
            // SAFETY: as above.
            unsafe { *pairs.as_mut_ptr().add(at + whole / 2 + index) = *pair };
        }
    }
}
