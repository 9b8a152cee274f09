//! Benchmarks of preprocessing: decoding and resizing of photos, measured separately. `tests/peers/preprocess.py`
//! compares it with Pillow.
//!
//! `cargo bench -p model --bench preprocess`

use std::sync::LazyLock;

use divan::{Bencher, black_box};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
use model::preprocess::{CroppedDecode, Interpolation, Limits, Photo, Preprocessing};

const SAMPLE: &[u8] = include_bytes!("../../samples/palace.jpg");

/// Width and height of a camera's photo of 12 megapixels.
const SIZE: (u32, u32) = (4000, 3000);

/// An EXIF header with orientation 6, a rotation by 90 degrees.
const TURNED: &[u8] = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

fn main() {
    divan::main();
}

/// The sample photo enlarged, with added grain, so that every block has coefficients to decode.
static ENLARGED: LazyLock<RgbImage> = LazyLock::new(|| {
    let sample = Photo::decode(SAMPLE, &Limits::default()).expect("the sample is a valid photo");
    let sample = RgbImage::from_raw(sample.width(), sample.height(), sample.pixels().to_vec())
        .expect("the number of pixels matches the size");
    let mut enlarged = resize(&sample, SIZE.0, SIZE.1, FilterType::CatmullRom);
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i32
    };
    for pixel in enlarged.pixels_mut() {
        // The sum of four uniform numbers is bell-shaped; it is scaled to a standard deviation of 6.
        let grain = ((0..4).map(|_| random()).sum::<i32>() - 510) * 6 / 148;
        pixel.0 = pixel.0.map(|value| (i32::from(value) + grain).clamp(0, 255) as u8);
    }
    enlarged
});

#[derive(Clone, Copy, Debug)]
enum File {
    Sample,
    Large,
    LargeTurned,
    LargeFullChroma,
    LargeProgressive,
}

impl File {
    const ALL: [File; 5] =
        [File::Sample, File::Large, File::LargeTurned, File::LargeFullChroma, File::LargeProgressive];

    fn bytes(self) -> Vec<u8> {
        let (width, height) = (SIZE.0 as usize, SIZE.1 as usize);
        let encoder = || Encoder::new(&ENLARGED, width, height, PixelFormat::Rgb).quality(90);
        let encoder = match self {
            File::Sample => return SAMPLE.to_vec(),
            File::Large => encoder().subsampling(Subsampling::S420),
            File::LargeTurned => encoder().subsampling(Subsampling::S420).exif_data(TURNED),
            File::LargeFullChroma => encoder().subsampling(Subsampling::S444),
            File::LargeProgressive => encoder().subsampling(Subsampling::S420).progressive(true),
        };
        encoder.encode().expect("the photo can be encoded")
    }
}

#[divan::bench(args = File::ALL, sample_count = 20)]
fn decode(bencher: Bencher, file: File) {
    let (bytes, preprocessing) = (file.bytes(), Preprocessing::default());
    let decode =
        || CroppedDecode::decode(black_box(&bytes), &Limits::default(), &preprocessing).expect("a valid photo");
    bencher.bench_local(decode);
}

#[divan::bench(args = [File::Sample, File::Large, File::LargeTurned])]
fn resize_bilinear(bencher: Bencher, file: File) {
    resize_with(bencher, file, Interpolation::Bilinear);
}

#[divan::bench(args = [File::Sample, File::Large, File::LargeTurned])]
fn resize_bicubic(bencher: Bencher, file: File) {
    resize_with(bencher, file, Interpolation::Bicubic);
}

fn resize_with(bencher: Bencher, file: File, interpolation: Interpolation) {
    let preprocessing = Preprocessing { interpolation, ..Preprocessing::default() };
    let decoded = CroppedDecode::decode(&file.bytes(), &Limits::default(), &preprocessing).expect("a valid photo");
    bencher.bench_local(|| black_box(&decoded).resize());
}
