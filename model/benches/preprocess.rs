//! What stands in front of every network: from an encoded photo to the pixels that it sees, decoding and resizing on
//! their own. Beside Pillow: `tests/peers/preprocess.py`.
//!
//! `cargo bench -p model --bench preprocess`

use std::sync::LazyLock;

use divan::{Bencher, black_box};
use image::RgbImage;
use image::imageops::{FilterType, resize};
use libjpeg_turbo_rs::{Encoder, PixelFormat, Subsampling};
use model::preprocess::{Excerpt, Interpolation, Limits, Photo, Preprocessing};

const SAMPLE: &[u8] = include_bytes!("../../samples/palace.jpg");

/// What a camera gives: 12 megapixels. Its EXIF data say 6: to be turned by a quarter.
const SIZE: (u32, u32) = (4000, 3000);
const TURNED: &[u8] = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

fn main() {
    divan::main();
}

/// The sample enlarged, with grain, so that it has something to decode in every block.
static ENLARGED: LazyLock<RgbImage> = LazyLock::new(|| {
    let sample = Photo::decode(SAMPLE, &Limits::default()).expect("a sample");
    let sample = RgbImage::from_raw(sample.width(), sample.height(), sample.pixels().to_vec()).expect("its pixels");
    let mut enlarged = resize(&sample, SIZE.0, SIZE.1, FilterType::CatmullRom);
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i32
    };
    for pixel in enlarged.pixels_mut() {
        // Four even dice make a bell with a standard deviation of 6.
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
        encoder.encode().expect("a picture of this size")
    }
}

#[divan::bench(args = File::ALL, sample_count = 20)]
fn decode(bencher: Bencher, file: File) {
    let (bytes, preprocessing) = (file.bytes(), Preprocessing::default());
    let decode = || Excerpt::decode(black_box(&bytes), &Limits::default(), &preprocessing).expect("a photo");
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
    let excerpt = Excerpt::decode(&file.bytes(), &Limits::default(), &preprocessing).expect("a photo");
    bencher.bench_local(|| black_box(&excerpt).resize());
}
