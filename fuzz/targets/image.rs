//! An encoded photo, on its ways to the network and to the trainer.
#![cfg_attr(fuzzing, no_main)]

use model::architecture::Architecture;
use model::checkpoint::Metadata;
use model::classifier::Prepared;
use model::preprocess::{Encoded, Limits, Photo, PhotoError, Preprocessing, Rectangle};

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// The 200th part of what a server allows: what takes a fifth of a second here takes it most of a minute.
const LIMITS: Limits = Limits { bytes: 1 << 20, pixels: 250_000, memory: (512 << 20) / 200 };

/// What decoders take beside a picture's buffers, whatever its size: tables, windows, their input once more.
const BESIDE: u64 = 1 << 20;

/// What a file of WebP can announce for a partition that is not there, which its decoder finds only when it reads it.
const PARTITION: u64 = 1 << 24;

/// An answer or an error that says something, within the limits; and whoever looks at a part sees what is in the whole.
pub fn check(bytes: &[u8]) {
    let mut metadata = Metadata::new(Architecture::new("resnet18", 2).expect("it is in the table"));
    metadata.preprocessing = Preprocessing { resize: 24, crop: 16, ..Preprocessing::default() };

    let (prepared, taken) = crate::peak::of(|| Prepared::from_bytes(bytes, &LIMITS, &metadata));
    let announced = if prepared.is_err() && bytes.starts_with(b"RIFF") { PARTITION } else { 0 };
    let allowed = LIMITS.memory + BESIDE + announced + bytes.len() as u64;
    assert!(taken as u64 <= allowed, "it took {taken} bytes of memory; {allowed} are allowed");
    let whole = Photo::decode(bytes, &LIMITS);
    let prepared = match (prepared, &whole) {
        (Ok(prepared), Ok(_)) => prepared,
        (Err(error), Err(same)) => return assert_clear(&error, same),
        (prepared, whole) => panic!("{:?} for the crop, {:?} for the whole", prepared.err(), whole.as_ref().err()),
    };
    let whole = whole.expect("the crop was there too");

    assert_eq!(prepared.image.shape(), [1, 16, 16]);
    assert!(prepared.image == metadata.preprocessing.apply(&whole), "the crop shows what is not in the whole");
    let (width, height) = (whole.width(), whole.height());
    assert_eq!(prepared.region.photo, (width, height));
    assert!(u64::from(width) * u64::from(height) <= LIMITS.pixels);
    check_part(bytes, &whole);
}

/// The middle of the photo, as training looks at it.
fn check_part(bytes: &[u8], whole: &Photo) {
    let middle = |size: u32| (size / 3, size.div_ceil(3));
    let ((left, width), (top, height)) = (middle(whole.width()), middle(whole.height()));
    let part = Rectangle { left, top, width, height };
    let encoded = Encoded::open(bytes, &LIMITS).expect("it was decoded");
    assert_eq!(encoded.size(), (whole.width(), whole.height()));
    let (shown, within) = encoded.decode_part(part).expect("the whole was decoded");
    let pixels = |photo: &Photo, part: Rectangle| -> Vec<u8> {
        let row = |y: u32| 3 * (y as usize * photo.width() as usize + part.left as usize);
        let rows = (part.top..part.top + part.height).map(row);
        rows.flat_map(|at| &photo.pixels()[at..][..3 * part.width as usize]).copied().collect()
    };
    assert!(pixels(&shown, within) == pixels(whole, part), "a part shows what is not in the whole");
}

fn assert_clear(error: &PhotoError, same: &PhotoError) {
    let message = error.to_string();
    assert_eq!(message, same.to_string());
    assert!(!message.is_empty() && message.len() < 1000, "{message:?}");
    // The net under the decoders: whatever lands in it is a fault to be guarded against.
    assert!(!message.ends_with("its decoder failed"), "{message}");
}
