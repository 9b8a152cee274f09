//! JPEG decoding that is bit-identical to libjpeg-turbo, and therefore to Pillow, by the crate `libjpeg-turbo-rs`.
//!
//! `image`'s own decoder was considered: its inverse DCT and chroma upsampling differ from libjpeg-turbo's by up to 6
//! of 255, which is still visible after resizing small photos.

use std::ops::Range;

use image::metadata::Orientation;
use libjpeg_turbo_rs::{DecodeLimits, DecodeWarning, Decoder, FrameHeader, JpegError, PixelFormat};

use super::decoded_image::DecodedImage;
use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::parameters::Preprocessing;
use super::rectangle::Rectangle;
use super::{orientation, resize};

const FORMAT: &str = "JPEG";

/// Maximum number of scans. Progressive photos have about ten; each one traverses the whole image, so thousands of
/// empty scans are an attack.
const MAX_SCANS: usize = 100;

/// Decodes the whole image, or, given `crop`, at least the columns that this preprocessing reads.
pub(super) fn decode(bytes: &[u8], limits: &Limits, crop: Option<&Preprocessing>) -> Result<DecodedImage, PhotoError> {
    let jpeg = JpegImage::open(bytes, limits)?;
    let (size, orientation) = (jpeg.size, jpeg.orientation);
    let needed = crop.map(|preprocessing| resize::source_columns(preprocessing, size, orientation));
    let columns = needed.and_then(|needed| decodable_columns(jpeg.decoder.header(), needed));
    let columns = columns.unwrap_or(0..size.0 as usize);
    let pixels = jpeg.decode(columns.clone(), 0..size.1 as usize)?;
    Ok(DecodedImage { size, orientation, columns, pixels })
}

/// A JPEG whose header has been read and accepted, before its pixels are decoded.
pub(super) struct JpegImage<'a> {
    bytes: &'a [u8],
    limits: Limits,
    decoder: Decoder<'a>,
    /// Width and height as stored.
    pub(super) size: (u32, u32),
    pub(super) orientation: Orientation,
}

impl<'a> JpegImage<'a> {
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, PhotoError> {
        let decode_limits = DecodeLimits {
            // The number of pixels is checked below, so that the error states it.
            max_width: usize::MAX,
            max_height: usize::MAX,
            max_pixels: u64::MAX,
            max_scans: MAX_SCANS,
            max_memory: Some(limits.memory),
        };
        let decoder = Decoder::new_with_limits(bytes, decode_limits).map_err(|error| photo_error(error, limits))?;
        let header = decoder.header();
        let size = (u32::from(header.width), u32::from(header.height));
        limits.check(size, bytes_per_pixel(header), FORMAT)?;
        check_supported(header)?;
        let orientation = orientation::from_exif(decoder.exif_data().unwrap_or_default());
        Ok(JpegImage { bytes, limits: *limits, decoder, size, orientation })
    }

    /// Decodes at least `part` of the stored image. Returns what was decoded, and the position of `part` in it; its
    /// pixels are those of the whole image.
    pub(super) fn decode_part(self, part: Rectangle) -> Result<(DecodedImage, Rectangle), PhotoError> {
        let range = |from: u32, size: u32| from as usize..(from + size) as usize;
        let (orientation, rows) = (self.orientation, range(part.top, part.height));
        let columns = decodable_columns(self.decoder.header(), range(part.left, part.width));
        let columns = columns.unwrap_or(0..self.size.0 as usize);
        let pixels = self.decode(columns.clone(), rows.clone())?;
        let within = Rectangle { left: part.left - columns.start as u32, top: 0, ..part };
        let size = (columns.len() as u32, rows.len() as u32);
        Ok((DecodedImage { size, orientation, columns: 0..columns.len(), pixels }, within))
    }

    /// Decodes to u8 RGB `[rows, columns, 3]`, in the stored orientation. `columns` must come from
    /// [`decodable_columns`], or be all columns.
    fn decode(self, columns: Range<usize>, rows: Range<usize>) -> Result<Vec<u8>, PhotoError> {
        let JpegImage { bytes, limits, decoder, size, .. } = self;
        let cmyk = decoder.header().components.len() == 4;
        let output = if cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb };
        // Lenient like libjpeg, which continues after corrupt data: a photo with a grey patch is still a photo.
        let mut decoder = decoder.with_lenient(true).with_output_format(output);
        if columns.len() < size.0 as usize {
            decoder.set_crop(columns.start, columns.len());
        }
        if rows.len() < size.1 as usize {
            decoder.set_crop_y(rows.start, rows.len());
        }
        let image = decoder.decode_image().map_err(|error| photo_error(error, &limits))?;
        let truncated = image.warnings.iter().any(|warning| matches!(warning, DecodeWarning::TruncatedData { .. }));
        if truncated && !is_terminated(bytes) {
            return Err(undecodable(FORMAT, "the file is truncated"));
        }
        let pixels = if cmyk { rgb_from_inverted_cmyk(&image.data) } else { image.data };
        if pixels.len() != columns.len() * rows.len() * 3 {
            return Err(undecodable(FORMAT, "pixels are missing"));
        }
        Ok(pixels)
    }
}

/// Returns the columns to decode so that those `needed` have the same values as in the whole image, or `None` if that
/// is hardly fewer than all columns. Decoding fewer columns saves colour conversion, and memory traffic for its
/// output.
fn decodable_columns(header: &FrameHeader, needed: Range<usize>) -> Option<Range<usize>> {
    /// Columns whose colours are wrong at the edges of the decoded range, since the decoder interpolates chroma there
    /// as if the image ended: the width of one chroma sample, which is at most 4 pixels.
    const MARGIN: usize = 4;
    /// The decoder starts at multiples of the widest interleaved block: 8 pixels times a sampling factor of 1, 2 or 4.
    const STEP: usize = 32;

    let [luma, blue, red] = header.components.as_slice() else { return None };
    let common_sampling = matches!(luma.horizontal_sampling, 1 | 2 | 4)
        && [blue, red].iter().all(|chroma| (chroma.horizontal_sampling, chroma.vertical_sampling) == (1, 1));
    let width = usize::from(header.width);
    let start = needed.start.saturating_sub(MARGIN) / STEP * STEP;
    let end = (needed.end + MARGIN).min(width);
    (common_sampling && (end - start) * 16 < width * 15).then_some(start..end)
}

/// Returns the number of bytes per pixel of all buffers: the output, the components' planes, chroma upsampled to full
/// size if its sampling factors are unusual, and in progressive files 16-bit coefficients.
fn bytes_per_pixel(header: &FrameHeader) -> u64 {
    let components = header.components.len() as u64;
    let coefficients = if header.is_progressive { 2 * components } else { 0 };
    components.max(3) + components + 2 + coefficients
}

fn check_supported(header: &FrameHeader) -> Result<(), PhotoError> {
    if header.is_lossless || header.precision != 8 {
        return Err(undecodable(FORMAT, "only 8-bit lossy JPEG is supported"));
    }
    // The decoder assumes that black is sampled like the first component, and the other two components alike.
    if let [first, second, third, black] = header.components.as_slice() {
        let sampling = [first, second, third, black].map(|c| (c.horizontal_sampling, c.vertical_sampling));
        let divides = |(h, v): (u8, u8)| h > 0 && v > 0 && sampling[0].0 % h == 0 && sampling[0].1 % v == 0;
        if sampling[3] != sampling[0] || sampling[2] != sampling[1] || !divides(sampling[1]) {
            return Err(undecodable(FORMAT, "unsupported sampling factors of its four components"));
        }
    }
    Ok(())
}

/// Returns whether an end-of-image marker follows the last scan. If so, missing data was never written, and libjpeg
/// shows the data that is present; otherwise the file is truncated.
fn is_terminated(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    last([0xff, 0xd9]) > last([0xff, 0xda])
}

/// Converts u8 CMYK, inverted as Adobe stores it (255 means no ink), to RGB with Pillow's rounding.
fn rgb_from_inverted_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let (cmyk, _) = cmyk.as_chunks::<4>();
    let mut rgb = Vec::with_capacity(cmyk.len() * 3);
    for &[cyan, magenta, yellow, black] in cmyk {
        rgb.extend([cyan, magenta, yellow].map(|ink| black - muldiv255(255 - ink, black)));
    }
    rgb
}

/// Returns `a * b / 255`, rounded like Pillow's `MULDIV255`. The result is at most `b`.
fn muldiv255(a: u8, b: u8) -> u8 {
    let product = u32::from(a) * u32::from(b) + 128;
    (((product >> 8) + product) >> 8) as u8
}

fn photo_error(error: JpegError, limits: &Limits) -> PhotoError {
    match error {
        JpegError::LimitExceeded { what, .. } if what.contains("scan count") => {
            undecodable(FORMAT, format!("it has more than {MAX_SCANS} scans"))
        }
        JpegError::LimitExceeded { .. } | JpegError::AllocationFailed { .. } => {
            PhotoError::TooMuchMemory { limit: limits.memory }
        }
        other => undecodable(FORMAT, other),
    }
}
