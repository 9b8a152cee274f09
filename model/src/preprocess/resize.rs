//! Antialiased resizing to a short side and the crop from the middle, with the rounding of Pillow and torchvision.
//!
//! Only what the crop shows is computed, so a photo of 1x50000 costs no more than its neighbours. Written here to follow
//! Pillow's `Resample.c` to the bit: `fast_image_resize` takes its two passes in the other order and its weights in 16
//! bits, and is up to 29 of 255 away at the edges of a bicubic.
//!
//! A picture that is stored turned or mirrored is never turned as a whole: its windows are laid over the axes as they
//! are stored, and only the crop is transposed.

use std::ops::Range;

use image::metadata::Orientation;

use super::Preprocessing;
use super::convolve::{self, Pixels};
use super::windows::{self, Window};

/// A picture as stored, of which only some columns may be at hand.
pub(super) struct Stored<'a> {
    /// Of the whole.
    pub(super) size: (u32, u32),
    pub(super) orientation: Orientation,
    /// At least those that [`columns`] names.
    pub(super) columns: Range<usize>,
    /// u8 RGB `[height, columns, 3]`
    pub(super) pixels: &'a [u8],
}

/// What columns of a picture, stored with this size and orientation, [`resize_and_crop`] looks at.
pub(super) fn columns(preprocessing: &Preprocessing, size: (u32, u32), orientation: Orientation) -> Range<usize> {
    windows::span(&Passes::new(preprocessing, size, orientation).columns)
}

/// u8 RGB `[crop, crop, 3]`: the middle of the upright picture after its short side was resized.
pub(super) fn resize_and_crop(picture: &Stored, preprocessing: &Preprocessing) -> Vec<u8> {
    let Passes { mut columns, rows, rows_first, transposed } =
        Passes::new(preprocessing, picture.size, picture.orientation);
    windows::rebase(&mut columns, picture.columns.start);
    let whole = Pixels { samples: picture.pixels, width: picture.columns.len() };
    let crop = both_passes(whole, columns, rows, rows_first);
    if transposed { transpose(&crop, preprocessing.crop as usize) } else { crop }
}

/// u8 RGB `[rows, columns, 3]`, a pixel for each pair of windows; the first pass does no more than the second looks at.
pub(super) fn both_passes(whole: Pixels, mut columns: Vec<Window>, mut rows: Vec<Window>, rows_first: bool) -> Vec<u8> {
    if rows_first {
        let needed = windows::span(&columns);
        windows::rebase(&mut columns, needed.start);
        let flat = convolve::vertical(whole, needed.clone(), &rows);
        convolve::horizontal(Pixels { samples: &flat, width: needed.len() }, 0..rows.len(), &columns)
    } else {
        let needed = windows::span(&rows);
        windows::rebase(&mut rows, needed.start);
        let narrow = convolve::horizontal(whole, needed, &columns);
        convolve::vertical(Pixels { samples: &narrow, width: columns.len() }, 0..columns.len(), &rows)
    }
}

/// Between the passes the values are bytes again, so their order shows. Pillow 13 shrinks the height first where that
/// drops more than twice as many rows as columns; before, it never did.
pub(super) fn height_first((width, height): (u32, u32), resized: (u64, u64)) -> bool {
    let dropped = |from: u32, to: u64| i64::from(from) - to as i64;
    let (fewer_columns, fewer_rows) = (dropped(width, resized.0), dropped(height, resized.1));
    fewer_rows > 0 && fewer_rows > 2 * fewer_columns
}

/// One pass along each axis as stored.
struct Passes {
    columns: Vec<Window>,
    rows: Vec<Window>,
    rows_first: bool,
    /// The upright picture's rows are stored as columns, so the crop has to be transposed.
    transposed: bool,
}

impl Passes {
    fn new(preprocessing: &Preprocessing, (stored_width, stored_height): (u32, u32), orientation: Orientation) -> Self {
        let &Preprocessing { resize, crop, interpolation, .. } = preprocessing;
        let (transposed, mirrored_columns, mirrored_rows) = as_stored(orientation);
        let (width, height) = upright((stored_width, stored_height), orientation);

        let resized = resized_size(width, height, resize);
        let columns = windows::windows(width, resized.0, crop, interpolation);
        let rows = windows::windows(height, resized.1, crop, interpolation);
        let height_first = height_first((width, height), resized);

        let (columns, rows) = if transposed { (rows, columns) } else { (columns, rows) };
        let mirror = |windows, size, mirrored| if mirrored { windows::mirrored(windows, size) } else { windows };
        Passes {
            columns: mirror(columns, stored_width, mirrored_columns),
            rows: mirror(rows, stored_height, mirrored_rows),
            rows_first: height_first != transposed,
            transposed,
        }
    }
}

/// Width and height of a picture that is stored with these, once it is turned.
pub(super) fn upright((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    let (transposed, ..) = as_stored(orientation);
    if transposed { (height, width) } else { (width, height) }
}

/// Whether upright rows are stored as columns, and whether stored columns and stored rows run the other way.
pub(super) fn as_stored(orientation: Orientation) -> (bool, bool, bool) {
    match orientation {
        Orientation::NoTransforms => (false, false, false),
        Orientation::FlipHorizontal => (false, true, false),
        Orientation::Rotate180 => (false, true, true),
        Orientation::FlipVertical => (false, false, true),
        Orientation::Rotate90FlipH => (true, false, false),
        Orientation::Rotate90 => (true, false, true),
        Orientation::Rotate270FlipH => (true, true, true),
        Orientation::Rotate270 => (true, true, false),
    }
}

/// u8 RGB `[side, side, 3]`
fn transpose(pixels: &[u8], side: usize) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<3>();
    (0..side * side).flat_map(|to| pixels[to % side * side + to / side]).collect()
}

/// Width and height with the short side at `resize`, the long one truncated, as torchvision's `Resize` has it.
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
        super::resize_and_crop(&photo.stored(), &preprocessing(resize, crop, interpolation))
    }

    fn preprocessing(resize: u32, crop: u32, interpolation: Interpolation) -> Preprocessing {
        Preprocessing { resize, crop, interpolation, ..Preprocessing::default() }
    }

    /// Computed with torchvision 0.29: `_compute_resized_output_size`, and `int(round((size - crop) / 2.0))`.
    #[test]
    fn sizes_and_offsets_are_those_of_torchvision() {
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
                (windows::crop_offset(resized.0, 224), windows::crop_offset(resized.1, 224)),
                offsets,
                "{width}x{height}"
            );
        }
    }

    #[test]
    fn a_photo_of_the_right_size_is_only_cropped() {
        let photo = filled(10, 8);
        let cropped = resize_and_crop(&photo, 8, 4, Interpolation::Bicubic);
        let expected: Vec<u8> = (2..6).flat_map(|y| photo.pixels[(y * 10 + 3) * 3..][..12].to_vec()).collect();
        assert_eq!(cropped, expected);
    }

    #[test]
    fn one_colour_stays_that_colour() {
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            for (width, height) in [(1, 1), (3, 2), (300, 200), (1, 50_000), (50_000, 1), (1000, 7)] {
                let photo = Photo { width, height, pixels: [201, 0, 255].repeat((width * height) as usize) };
                let cropped = resize_and_crop(&photo, 40, 32, interpolation);
                assert_eq!(cropped, [201, 0, 255].repeat(32 * 32), "{width}x{height} {interpolation:?}");
            }
        }
    }

    #[test]
    fn the_crop_is_what_the_whole_would_show() {
        let photo = filled(90, 60);
        for interpolation in [Interpolation::Bilinear, Interpolation::Bicubic] {
            let square = Photo { width: 60, height: 60, pixels: resize_and_crop(&photo, 60, 60, interpolation) };
            let whole = resize_and_crop(&square, 33, 33, interpolation);
            let cropped = resize_and_crop(&square, 33, 21, interpolation);
            let expected: Vec<u8> = (6..27).flat_map(|y| whole[(y * 33 + 6) * 3..][..63].to_vec()).collect();
            assert_eq!(cropped, expected);
        }
    }

    /// In all shapes, so that each order of the passes occurs, and with no more than the columns that count.
    #[test]
    fn a_picture_stored_turned_gives_what_turning_it_first_gives() {
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
                let expected = super::resize_and_crop(&upright.stored(), &preprocessing);

                let columns = columns(&preprocessing, (width, height), orientation);
                let rows = stored.chunks_exact(width as usize * 3);
                let pixels = rows.flat_map(|row| &row[columns.start * 3..columns.end * 3]).copied().collect::<Vec<_>>();
                let picture = Stored { size: (width, height), orientation, columns, pixels: &pixels };
                let crop = super::resize_and_crop(&picture, &preprocessing);
                assert!(crop == expected, "{width}x{height}, orientation {exif}, {interpolation:?}");
            }
        }
    }
}
