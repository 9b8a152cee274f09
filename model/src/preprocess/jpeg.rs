//! JPEG, decoded as libjpeg-turbo does it and therefore as Pillow does.
//!
//! Not with `image`'s own decoder: its inverse DCT and chroma upsampling differ from libjpeg-turbo's by up to 6 of
//! 255, which survives the resizing of small photos. This one is equal to the bit.

use std::ops::Range;

use image::metadata::Orientation;
use libjpeg_turbo_rs::{DecodeLimits, DecodeWarning, Decoder, FrameHeader, JpegError, PixelFormat};

use super::error::{PhotoError, undecodable};
use super::limits::Limits;
use super::picture::Picture;
use super::{Preprocessing, Rectangle, resize};

const FORMAT: &str = "JPEG";

/// Progressive photos have about ten scans. Each walks the whole picture, so thousands of empty ones are an attack.
const MAX_SCANS: usize = 100;

/// The whole picture, or at least those of its columns that `excerpt` looks at.
pub(super) fn decode(bytes: &[u8], limits: &Limits, excerpt: Option<&Preprocessing>) -> Result<Picture, PhotoError> {
    let encoded = Encoded::open(bytes, limits)?;
    let (size, orientation) = (encoded.size, encoded.orientation);
    let needed = excerpt.map(|preprocessing| resize::columns(preprocessing, size, orientation));
    let columns = needed.and_then(|needed| cut(encoded.decoder.header(), needed)).unwrap_or(0..size.0 as usize);
    let pixels = encoded.decode(columns.clone(), 0..size.1 as usize)?;
    Ok(Picture { size, orientation, columns, pixels })
}

/// A picture whose header was read and found to be acceptable.
pub(super) struct Encoded<'a> {
    bytes: &'a [u8],
    limits: Limits,
    decoder: Decoder<'a>,
    /// Width and height as stored.
    pub(super) size: (u32, u32),
    pub(super) orientation: Orientation,
}

impl<'a> Encoded<'a> {
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, PhotoError> {
        let decode_limits = DecodeLimits {
            // Pixels are checked here, for an error that names them.
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
        let orientation =
            decoder.exif_data().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
        Ok(Encoded { bytes, limits: *limits, decoder, size, orientation })
    }

    /// A picture of at least this part, as stored, and where in it the part lies. It shows what it shows in the whole picture.
    pub(super) fn decode_part(self, part: Rectangle) -> Result<(Picture, Rectangle), PhotoError> {
        let range = |from: u32, size: u32| from as usize..(from + size) as usize;
        let (orientation, rows) = (self.orientation, range(part.top, part.height));
        let columns = cut(self.decoder.header(), range(part.left, part.width)).unwrap_or(0..self.size.0 as usize);
        let pixels = self.decode(columns.clone(), rows.clone())?;
        let within = Rectangle { left: part.left - columns.start as u32, top: 0, ..part };
        let size = (columns.len() as u32, rows.len() as u32);
        Ok((Picture { size, orientation, columns: 0..columns.len(), pixels }, within))
    }

    /// u8 RGB `[rows, columns, 3]`, as stored. Columns have to begin where [`cut`] lets them.
    fn decode(self, columns: Range<usize>, rows: Range<usize>) -> Result<Vec<u8>, PhotoError> {
        let Encoded { bytes, limits, decoder, size, .. } = self;
        let cmyk = decoder.header().components.len() == 4;
        let output = if cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb };
        // Lenient as libjpeg is: after corrupt data it goes on, and a grey patch is still a photo.
        let mut decoder = decoder.with_lenient(true).with_output_format(output);
        if columns.len() < size.0 as usize {
            decoder.set_crop(columns.start, columns.len());
        }
        if rows.len() < size.1 as usize {
            decoder.set_crop_y(rows.start, rows.len());
        }
        let image = decoder.decode_image().map_err(|error| photo_error(error, &limits))?;
        let cut_short = image.warnings.iter().any(|warning| matches!(warning, DecodeWarning::TruncatedData { .. }));
        if cut_short && !is_terminated(bytes) {
            return Err(undecodable(FORMAT, "the file ends before the picture does"));
        }
        let pixels = if cmyk { rgb_from_inverted_cmyk(&image.data) } else { image.data };
        if pixels.len() != columns.len() * rows.len() * 3 {
            return Err(undecodable(FORMAT, "pixels are missing"));
        }
        Ok(pixels)
    }
}

/// Which columns to decode so that those `needed` are the same as in the whole picture; none if that is hardly less
/// than the whole. Brings the colour conversion down to what counts, and the memory that has to be fetched for it.
fn cut(header: &FrameHeader, needed: Range<usize>) -> Option<Range<usize>> {
    /// At its edges a cut shows other colours, for there the decoder interpolates chroma as if the picture ended: a
    /// pixel's worth of chroma, which is 4 pixels at most.
    const MARGIN: usize = 4;
    /// The decoder begins at multiples of the widest interleaved block: 8 pixels times a sampling of 1, 2 or 4.
    const STEP: usize = 32;

    let [luma, blue, red] = header.components.as_slice() else { return None };
    let plain = matches!(luma.horizontal_sampling, 1 | 2 | 4)
        && [blue, red].iter().all(|chroma| (chroma.horizontal_sampling, chroma.vertical_sampling) == (1, 1));
    let width = usize::from(header.width);
    let start = needed.start.saturating_sub(MARGIN) / STEP * STEP;
    let end = (needed.end + MARGIN).min(width);
    (plain && (end - start) * 16 < width * 15).then_some(start..end)
}

/// Output, the components' planes, chroma brought to full size where its factors are unusual, and in progressive
/// files 16-bit coefficients.
fn bytes_per_pixel(header: &FrameHeader) -> u64 {
    let components = header.components.len() as u64;
    let coefficients = if header.is_progressive { 2 * components } else { 0 };
    components.max(3) + components + 2 + coefficients
}

fn check_supported(header: &FrameHeader) -> Result<(), PhotoError> {
    if header.is_lossless || header.precision != 8 {
        return Err(undecodable(FORMAT, "only 8-bit lossy JPEG is supported"));
    }
    // The decoder takes it for granted that black is sampled like the first component, and the other two alike.
    if let [first, second, third, black] = header.components.as_slice() {
        let sampling = [first, second, third, black].map(|c| (c.horizontal_sampling, c.vertical_sampling));
        let divides = |(h, v): (u8, u8)| h > 0 && v > 0 && sampling[0].0 % h == 0 && sampling[0].1 % v == 0;
        if sampling[3] != sampling[0] || sampling[2] != sampling[1] || !divides(sampling[1]) {
            return Err(undecodable(FORMAT, "unusual sampling of its four components"));
        }
    }
    Ok(())
}

/// Whether the last scan has an end-of-image marker behind it: then data that is missing was never written, and
/// libjpeg shows what there is; else the file was cut off.
fn is_terminated(bytes: &[u8]) -> bool {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    last([0xff, 0xd9]) > last([0xff, 0xda])
}

/// u8 CMYK as Adobe stores it, inverted, to RGB with Pillow's rounding.
fn rgb_from_inverted_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let (cmyk, _) = cmyk.as_chunks::<4>();
    let mut rgb = Vec::with_capacity(cmyk.len() * 3);
    for &[cyan, magenta, yellow, light] in cmyk {
        rgb.extend([cyan, magenta, yellow].map(|ink| light - scale(255 - ink, light)));
    }
    rgb
}

/// `a * b / 255`, rounded: Pillow's `MULDIV255`. At most `b`.
fn scale(a: u8, b: u8) -> u8 {
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
