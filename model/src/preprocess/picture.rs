//! What decoders yield.

use std::ops::Range;

use image::RgbImage;
use image::metadata::Orientation;

use super::resize::Stored;

/// An opaque picture as stored, and how to turn it upright.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// Width and height of the whole, at least one pixel.
    pub(super) size: (u32, u32),
    pub(super) orientation: Orientation,
    /// The columns that were decoded.
    pub(super) columns: Range<usize>,
    /// u8 RGB `[height, columns, 3]`
    pub(super) pixels: Vec<u8>,
}

impl Picture {
    pub(super) fn whole(rgb: RgbImage, orientation: Orientation) -> Self {
        let size = rgb.dimensions();
        Picture { size, orientation, columns: 0..size.0 as usize, pixels: rgb.into_raw() }
    }

    pub(super) fn stored(&self) -> Stored<'_> {
        let Picture { size, orientation, ref columns, ref pixels } = *self;
        Stored { size, orientation, columns: columns.clone(), pixels }
    }
}
