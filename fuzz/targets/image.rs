//! Fuzzes the decoding and preprocessing of encoded photos, for inference and for training.
#![cfg_attr(fuzzing, no_main)]

use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::classifier::PreparedPhoto;
use model::preprocess::{LazyImage, Limits, Photo, PhotoError, Preprocessing, Rectangle};

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// 1/200 of the server's default limits on pixels and memory. A file that takes 0.2 s here can take the server 40 s.
const LIMITS: Limits = Limits { bytes: 1 << 20, pixels: 250_000, memory: (512 << 20) / 200 };

/// Memory in bytes that decoders take in addition to the buffers of an image, whatever its size: tables, sliding
/// windows, a copy of their input.
const FIXED_OVERHEAD: u64 = 1 << 20;

/// Maximum size in bytes that a WebP file can declare for a missing partition, which the decoder allocates before it
/// reads it.
const WEBP_PARTITION: u64 = 1 << 24;

/// Checks that a file gives a batch, or an error with a message, within the limits, and that partial decoding gives
/// the same pixels as decoding the whole photo.
pub fn check(bytes: &[u8]) {
    let mut metadata = Metadata::new(Architecture::new("resnet18", 2).expect("a known architecture"));
    metadata.preprocessing = Preprocessing { resize: 24, crop: 16, ..Preprocessing::default() };

    let (prepared, peak) = crate::peak::measure(|| PreparedPhoto::from_bytes(bytes, &LIMITS, &metadata));
    let partition = if prepared.is_err() && bytes.starts_with(b"RIFF") { WEBP_PARTITION } else { 0 };
    let allowed = LIMITS.memory + FIXED_OVERHEAD + partition + bytes.len() as u64;
    assert!(peak as u64 <= allowed, "decoding took {peak} bytes of memory; {allowed} are allowed");
    let whole = Photo::decode(bytes, &LIMITS);
    let prepared = match (prepared, &whole) {
        (Ok(prepared), Ok(_)) => prepared,
        (Err(error), Err(same)) => return assert_same_error(&error, same),
        (prepared, whole) => {
            panic!("{:?} for the crop, {:?} for the whole photo", prepared.err(), whole.as_ref().err())
        }
    };
    let whole = whole.expect("the crop was decoded");

    assert_eq!(prepared.image.shape(), [1, 16, 16]);
    assert!(prepared.image == metadata.preprocessing.apply(&whole), "the crop differs from the whole photo");
    let (width, height) = (whole.width(), whole.height());
    assert_eq!(prepared.region.photo, (width, height));
    assert!(u64::from(width) * u64::from(height) <= LIMITS.pixels);
    check_part(bytes, &whole);
}

/// Checks partial decoding, as training uses it, of the centre of the photo.
fn check_part(bytes: &[u8], whole: &Photo) {
    let middle = |size: u32| (size / 3, size.div_ceil(3));
    let ((left, width), (top, height)) = (middle(whole.width()), middle(whole.height()));
    let part = Rectangle { left, top, width, height };
    let image = LazyImage::open(bytes, &LIMITS).expect("the whole photo was decoded");
    assert_eq!(image.size(), (whole.width(), whole.height()));
    let (decoded, within) = image.decode_part(part).expect("the whole photo was decoded");
    let pixels = |photo: &Photo, part: Rectangle| -> Vec<u8> {
        let row = |y: u32| 3 * (y as usize * photo.width() as usize + part.left as usize);
        let rows = (part.top..part.top + part.height).map(row);
        rows.flat_map(|at| &photo.pixels()[at..][..3 * part.width as usize]).copied().collect()
    };
    assert!(pixels(&decoded, within) == pixels(whole, part), "the part differs from the whole photo");
}

fn assert_same_error(error: &PhotoError, same: &PhotoError) {
    let message = error.to_string();
    assert_eq!(message, same.to_string());
    assert!(!message.is_empty() && message.len() < 1000, "{message:?}");
    // Inputs that make a decoder panic must be rejected before it runs.
    assert!(!message.ends_with("the decoder panicked"), "{message}");
}
