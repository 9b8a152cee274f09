//! The output of the decoders, before it is turned upright.

use std::ops::Range;

use image::RgbImage;
use image::metadata::Orientation;

use super::resize::ImageView;

/// An opaque RGB image in the orientation in which it is stored, of which some columns may not have been decoded.
#[derive(Clone, Debug)]
pub(super) struct DecodedImage {
    /// Width and height of the whole image, as stored; at least one pixel.
    pub(super) size: (u32, u32),
    /// The transformation that turns the image upright.
    pub(super) orientation: Orientation,
    /// The columns that were decoded.
    pub(super) columns: Range<usize>,
    /// Pixels of the decoded columns, u8 RGB `[height, columns, 3]`.
    pub(super) pixels: Vec<u8>,
}

impl DecodedImage {
    pub(super) fn whole(rgb: RgbImage, orientation: Orientation) -> Self {
        let size = rgb.dimensions();
        DecodedImage { size, orientation, columns: 0..size.0 as usize, pixels: rgb.into_raw() }
    }

    pub(super) fn view(&self) -> ImageView<'_> {
        let DecodedImage { size, orientation, ref columns, ref pixels } = *self;
        ImageView { size, orientation, columns: columns.clone(), pixels }
    }
}
