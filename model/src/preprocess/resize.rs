//! Antialiased resizing of the short side followed by a centre crop, with the rounding of Pillow and torchvision.
//!
//! Only the pixels of the crop are computed, so a photo of 1x50000 takes no longer than any other.
//!
//! This is a bit-exact port of Pillow's `Resample.c`. The crate `fast_image_resize` was considered: it runs the two
//! passes in the opposite order and rounds its weights to 16 bits, and differs by up to 29 of 255 at the edges of a
//! bicubic resize.
//!
//! An image that is stored rotated or mirrored is never transformed as a whole: the filter taps are mapped to the
//! stored axes, and only the crop is transposed.

use std::ops::Range;

use image::metadata::Orientation;

use super::convolve::{self, Pixels};
use super::filter_taps::{self, FilterTaps};
use super::parameters::Preprocessing;

/// A borrowed image in its stored orientation, of which some columns may be absent.
pub(super) struct ImageView<'a> {
    /// Width and height of the whole image, as stored.
    pub(super) size: (u32, u32),
    pub(super) orientation: Orientation,
    /// The columns present: at least those of [`source_columns`].
    pub(super) columns: Range<usize>,
    /// Pixels of the present columns, u8 RGB `[height, columns, 3]`.
    pub(super) pixels: &'a [u8],
}

/// Returns the columns that [`resize_and_crop`] reads of an image stored with this size and orientation.
pub(super) fn source_columns(
    preprocessing: &Preprocessing,
    size: (u32, u32),
    orientation: Orientation,
) -> Range<usize> {
    filter_taps::source_range(&ResizePasses::new(preprocessing, size, orientation).columns)
}

/// Resizes the short side of the upright image, and returns the centre crop, u8 RGB `[crop, crop, 3]`.
pub(super) fn resize_and_crop(image: &ImageView, preprocessing: &Preprocessing) -> Vec<u8> {
    let ResizePasses { mut columns, rows, rows_first, transposed } =
        ResizePasses::new(preprocessing, image.size, image.orientation);
    filter_taps::rebase(&mut columns, image.columns.start);
    let source = Pixels { samples: image.pixels, width: image.columns.len() };
    let crop = both_passes(source, columns, rows, rows_first);
    if transposed { transpose(&crop, preprocessing.crop as usize) } else { crop }
}

/// Runs both passes and returns u8 RGB `[rows, columns, 3]`. The first pass computes only what the second one reads.
pub(super) fn both_passes(
    source: Pixels,
    mut columns: Vec<FilterTaps>,
    mut rows: Vec<FilterTaps>,
    rows_first: bool,
) -> Vec<u8> {
    if rows_first {
        let needed = filter_taps::source_range(&columns);
        filter_taps::rebase(&mut columns, needed.start);
        let flat = convolve::vertical(source, needed.clone(), &rows);
        convolve::horizontal(Pixels { samples: &flat, width: needed.len() }, 0..rows.len(), &columns)
    } else {
        let needed = filter_taps::source_range(&rows);
        filter_taps::rebase(&mut rows, needed.start);
        let narrow = convolve::horizontal(source, needed, &columns);
        convolve::vertical(Pixels { samples: &narrow, width: columns.len() }, 0..columns.len(), &rows)
    }
}

/// Returns whether the height is resized before the width. Values are rounded to bytes between the passes, so the order
/// affects the result. Pillow 13 resizes the height first if that removes more than twice as many rows as columns;
/// earlier versions never do.
pub(super) fn height_first((width, height): (u32, u32), resized: (u64, u64)) -> bool {
    let removed = |from: u32, to: u64| i64::from(from) - to as i64;
    let (removed_columns, removed_rows) = (removed(width, resized.0), removed(height, resized.1));
    removed_rows > 0 && removed_rows > 2 * removed_columns
}

/// The filter taps of the two passes, along the axes as stored.
struct ResizePasses {
    columns: Vec<FilterTaps>,
    rows: Vec<FilterTaps>,
    rows_first: bool,
    /// Whether the rows of the upright image are stored as columns, so that the crop has to be transposed.
    transposed: bool,
}

impl ResizePasses {
    fn new(preprocessing: &Preprocessing, (stored_width, stored_height): (u32, u32), orientation: Orientation) -> Self {
        let &Preprocessing { resize, crop, interpolation, .. } = preprocessing;
        let AxisMapping { transposed, mirrored_columns, mirrored_rows } = AxisMapping::of(orientation);
        let (width, height) = upright_size((stored_width, stored_height), orientation);

        let resized = resized_size(width, height, resize);
        let columns = filter_taps::centre_crop_taps(width, resized.0, crop, interpolation);
        let rows = filter_taps::centre_crop_taps(height, resized.1, crop, interpolation);
        let height_first = height_first((width, height), resized);

        let (columns, rows) = if transposed { (rows, columns) } else { (columns, rows) };
        let mirror = |taps, size, mirrored| if mirrored { filter_taps::mirrored(taps, size) } else { taps };
        ResizePasses {
            columns: mirror(columns, stored_width, mirrored_columns),
            rows: mirror(rows, stored_height, mirrored_rows),
            rows_first: height_first != transposed,
            transposed,
        }
    }
}

/// Returns the upright width and height of an image from its stored ones.
pub(super) fn upright_size((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    if AxisMapping::of(orientation).transposed { (height, width) } else { (width, height) }
}

/// The mapping from the axes of an upright image to those of the stored image.
#[derive(Clone, Copy)]
pub(super) struct AxisMapping {
    /// Whether upright rows are stored as columns.
    pub(super) transposed: bool,
    /// Whether the stored columns are in reverse order.
    pub(super) mirrored_columns: bool,
    /// Whether the stored rows are in reverse order.
    pub(super) mirrored_rows: bool,
}

impl AxisMapping {
    pub(super) fn of(orientation: Orientation) -> Self {
        let (transposed, mirrored_columns, mirrored_rows) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (false, true, false),
            Orientation::Rotate180 => (false, true, true),
            Orientation::FlipVertical => (false, false, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270FlipH => (true, true, true),
            Orientation::Rotate270 => (true, true, false),
        };
        AxisMapping { transposed, mirrored_columns, mirrored_rows }
    }
}

/// Transposes u8 RGB `[side, side, 3]`.
fn transpose(pixels: &[u8], side: usize) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<3>();
    (0..side * side).flat_map(|to| pixels[to % side * side + to / side]).collect()
}

/// Returns width and height after resizing the short side to `resize`; the long side is truncated, as by torchvision's
/// `Resize`.
pub(super) fn resized_size(width: u32, height: u32, resize: u32) -> (u64, u64) {
    let (short, long) = (width.min(height), width.max(height));
    let long = (u64::from(resize) * u64::from(long)) / u64::from(short);
    if width <= height { (resize.into(), long) } else { (long, resize.into()) }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, RgbImage};

    use super::*;
    use crate::preprocess::{Interpolation, Photo};

    fn filled(width: u32, height: u32) -> Photo {
        let pixels = (0..width as usize * height as usize * 3).map(|i| (i * 7 % 251) as u8).collect();
        Photo { width, height, pixels }
    }

    fn resize_and_crop(photo: &Photo, resize: u32, crop: u32, interpolation: Interpolation) -> Vec<u8> {
        super::resize_and_crop(&photo.view(), &preprocessing(resize, crop, interpolation))
    }

    fn preprocessing(resize: u32, crop: u32, interpolation: Interpolation) -> Preprocessing {
        Preprocessing { resize, crop, interpolation, ..Preprocessing::default() }
    }

    /// Computed with torchvision 0.29: `_compute_resized_output_size`, and `int(round((size - crop) / 2.0))`.
    #[test]
    fn sizes_and_crop_offsets_equal_torchvision() {
        let table = [
            ((500, 375, 256), (341, 256), (58, 16)),
            ((375, 500, 256), (256, 341), (16, 58)),
            ((333, 500, 256), (256, 384), (16, 80)),
            ((250, 216, 256), (296, 256), (36, 16)),
            ((153, 214, 232), (232, 324), (4, 50)),
            ((1280, 1024, 232), (290, 232), (33, 4)),
            ((256, 256, 256), (256, 256), (16, 16)),
            ((300, 256, 256), (300, 256), (38, 16)),
            ((640, 427, 256), (383, 256), (80, 16)),
            ((257, 256, 224), (224, 224), (0, 0)),
            ((4032, 3024, 232), (309, 232), (42, 4)),
            ((1, 50000, 256), (256, 12_800_000), (16, 6_399_888)),
            ((50000, 1, 224), (11_200_000, 224), (5_599_888, 0)),
        ];
        for ((width, height, resize), size, offsets) in table {
            let resized = resized_size(width, height, resize);
            assert_eq!(resized, size, "{width}x{height} to {resize}");
            assert_eq!(
                (filter_taps::crop_offset(resized.0, 224), filter_taps::crop_offset(resized.1, 224)),
                offsets,
                "{width}x{height}"
            );
        }
    }

    #[test]
    fn photo_of_the_target_size_is_only_cropped() {
        let photo = filled(10, 8);
        let cropped = resize_and_crop(&photo, 8, 4, Interpolation::Bicubic);
        let expected: Vec<u8> = (2..6).flat_map(|y| photo.pixels[(y * 10 + 3) * 3..][..12].to_vec()).collect();
        assert_eq!(cropped, expected);
    }

    #[test]
    fn uniform_colour_is_preserved() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            for (width, height) in [(1, 1), (3, 2), (300, 200), (1, 50_000), (50_000, 1), (1000, 7)] {
                let photo = Photo { width, height, pixels: [201, 0, 255].repeat((width * height) as usize) };
                let cropped = resize_and_crop(&photo, 40, 32, interpolation);
                assert_eq!(cropped, [201, 0, 255].repeat(32 * 32), "{width}x{height} {interpolation:?}");
            }
        }
    }

    #[test]
    fn crop_equals_the_centre_of_the_whole_resized_photo() {
        let photo = filled(90, 60);
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let square = Photo { width: 60, height: 60, pixels: resize_and_crop(&photo, 60, 60, interpolation) };
            let whole = resize_and_crop(&square, 33, 33, interpolation);
            let cropped = resize_and_crop(&square, 33, 21, interpolation);
            let expected: Vec<u8> = (6..27).flat_map(|y| whole[(y * 33 + 6) * 3..][..63].to_vec()).collect();
            assert_eq!(cropped, expected);
        }
    }

    /// The sizes cover both orders of the passes; only the columns that are read are present.
    #[test]
    fn resizing_a_rotated_image_equals_rotating_it_first() {
        for (width, height) in [(90, 60), (60, 90), (200, 61), (61, 200), (33, 33), (5, 300), (300, 5)] {
            let stored = RgbImage::from_raw(width, height, filled(width, height).pixels).unwrap();
            for (exif, interpolation) in (1..=8).flat_map(|exif| {
                [Interpolation::Bilinear, Interpolation::Bicubic].map(|interpolation| (exif, interpolation))
            }) {
                let orientation = Orientation::from_exif(exif).unwrap();
                let mut turned = DynamicImage::from(stored.clone());
                turned.apply_orientation(orientation);
                let turned = turned.into_rgb8();
                let upright = Photo { width: turned.width(), height: turned.height(), pixels: turned.into_raw() };
                let preprocessing = preprocessing(32, 24, interpolation);
                let expected = super::resize_and_crop(&upright.view(), &preprocessing);

                let columns = source_columns(&preprocessing, (width, height), orientation);
                let rows = stored.chunks_exact(width as usize * 3);
                let pixels = rows.flat_map(|row| &row[columns.start * 3..columns.end * 3]).copied().collect::<Vec<_>>();
                let image = ImageView { size: (width, height), orientation, columns, pixels: &pixels };
                let crop = super::resize_and_crop(&image, &preprocessing);
                assert!(crop == expected, "{width}x{height}, orientation {exif}, {interpolation:?}");
            }
        }
    }
}
