//! Files of every format, whole and broken, made on the spot.

use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{DynamicImage, GrayImage, ImageBuffer, ImageEncoder, ImageFormat, LumaA, Rgb, RgbImage, Rgba, RgbaImage};
use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress, compress_progressive};

use super::*;
use crate::preprocess::Photo;

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const WHITE: [u8; 3] = [255; 3];

fn decode(bytes: &[u8]) -> Result<Photo, PhotoError> {
    Photo::decode(bytes, &Limits::default())
}

fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// 32x16: red, green over blue, white.
fn quarters() -> RgbImage {
    RgbImage::from_fn(32, 16, |x, y| {
        Rgb(match (x < 16, y < 8) {
            (true, true) => RED,
            (false, true) => GREEN,
            (true, false) => BLUE,
            (false, false) => WHITE,
        })
    })
}

fn jpeg(rgb: &RgbImage) -> Vec<u8> {
    let (width, height) = (rgb.width() as usize, rgb.height() as usize);
    compress(rgb, width, height, PixelFormat::Rgb, 100, Subsampling::S444).unwrap()
}

/// A TIFF header with the one entry that EXIF readers look for.
fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    tiff.extend([orientation, 0, 0, 0, 0, 0, 0]);
    tiff
}

fn with_exif(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut segment = b"Exif\0\0".to_vec();
    segment.extend(exif(orientation));
    let length = segment.len() as u16 + 2;
    [&jpeg[..2], &[0xff, 0xe1], &length.to_be_bytes(), &segment, &jpeg[2..]].concat()
}

/// The frame header's offset: length, precision, height, width, components.
fn frame_header(jpeg: &[u8]) -> usize {
    jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap() + 2
}

fn pixel(photo: &Photo, x: u32, y: u32) -> [u8; 3] {
    photo.pixels.as_chunks().0[(y * photo.width + x) as usize]
}

fn corners(photo: &Photo) -> [[u8; 3]; 4] {
    let (right, bottom) = (photo.width - 2, photo.height - 2);
    [(1, 1), (right, 1), (1, bottom), (right, bottom)].map(|(x, y)| {
        // JPEG moves pure colours by a step or two.
        pixel(photo, x, y).map(|value| if value > 128 { 255 } else { 0 })
    })
}

#[test]
fn orientation_turns_the_photo_upright() {
    let stored = jpeg(&quarters());
    let expected = [
        (0, [RED, GREEN, BLUE, WHITE]),
        (1, [RED, GREEN, BLUE, WHITE]),
        (2, [GREEN, RED, WHITE, BLUE]),
        (3, [WHITE, BLUE, GREEN, RED]),
        (4, [BLUE, WHITE, RED, GREEN]),
        (5, [RED, BLUE, GREEN, WHITE]),
        (6, [BLUE, RED, WHITE, GREEN]),
        (7, [WHITE, GREEN, BLUE, RED]),
        (8, [GREEN, WHITE, RED, BLUE]),
        (9, [RED, GREEN, BLUE, WHITE]),
    ];
    for (orientation, corners_expected) in expected {
        let photo = decode(&with_exif(&stored, orientation)).unwrap();
        let size = if (5..=8).contains(&orientation) { (16, 32) } else { (32, 16) };
        assert_eq!((photo.width, photo.height), size, "orientation {orientation}");
        assert_eq!(corners(&photo), corners_expected, "orientation {orientation}");
    }
}

#[test]
fn orientation_counts_in_png_and_webp_too() {
    let image = quarters();
    let (mut png, mut webp, mut prefixed) = (Vec::new(), Vec::new(), Vec::new());
    let mut encoder = PngEncoder::new(&mut png);
    encoder.set_exif_metadata(exif(6)).unwrap();
    encoder.write_image(&image, 32, 16, image::ExtendedColorType::Rgb8).unwrap();
    let mut encoder = WebPEncoder::new_lossless(&mut webp);
    encoder.set_exif_metadata(exif(6)).unwrap();
    encoder.write_image(&image, 32, 16, image::ExtendedColorType::Rgb8).unwrap();
    let mut encoder = WebPEncoder::new_lossless(&mut prefixed);
    encoder.set_exif_metadata([b"Exif\0\0", exif(6).as_slice()].concat()).unwrap();
    encoder.write_image(&image, 32, 16, image::ExtendedColorType::Rgb8).unwrap();
    for file in [png, webp, prefixed] {
        assert_eq!(corners(&decode(&file).unwrap()), [BLUE, RED, WHITE, GREEN]);
    }
}

#[test]
fn lossless_formats_keep_every_pixel() {
    let image = RgbImage::from_fn(37, 23, |x, y| Rgb([x as u8 * 6, y as u8 * 10, (x * y) as u8]));
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
        let photo = decode(&encode(image.clone(), format)).unwrap();
        assert_eq!((photo.width, photo.height), (37, 23));
        assert_eq!(photo.pixels, *image.as_raw(), "{format:?}");
    }
}

#[test]
fn alpha_is_laid_over_white() {
    let image = RgbaImage::from_fn(4, 1, |x, _| Rgba([10, 100, 200, [0, 64, 128, 255][x as usize]]));
    let expected = [WHITE, [194, 216, 241], [132, 177, 227], [10, 100, 200]];
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        assert_eq!(decode(&encode(image.clone(), format)).unwrap().pixels, expected.as_flattened(), "{format:?}");
    }
    assert_eq!(Photo::from_rgba(4, 1, &image).unwrap().pixels, expected.as_flattened());

    let grey = ImageBuffer::<LumaA<u8>, _>::from_raw(2, 1, vec![50, 255, 50, 0]).unwrap();
    assert_eq!(decode(&encode(grey, ImageFormat::Png)).unwrap().pixels, [50, 50, 50, 255, 255, 255]);
}

#[test]
fn a_gif_shows_its_first_frame_over_white() {
    let transparent = RgbaImage::from_fn(6, 2, |x, _| if x < 3 { Rgba([255, 0, 0, 255]) } else { Rgba([0; 4]) });
    let mut file = Vec::new();
    let mut encoder = image::codecs::gif::GifEncoder::new(&mut file);
    encoder.encode_frames([transparent, RgbaImage::new(6, 2)].map(image::Frame::new)).unwrap();
    drop(encoder);
    let photo = decode(&file).unwrap();
    assert_eq!([pixel(&photo, 0, 0), pixel(&photo, 5, 1)], [RED, WHITE]);
}

#[test]
fn sixteen_bits_are_scaled() {
    let samples = vec![0u16, 128, 129, 32767, 65406, 65535];
    let image = ImageBuffer::<Rgb<u16>, _>::from_raw(2, 1, samples).unwrap();
    assert_eq!(decode(&encode(image, ImageFormat::Png)).unwrap().pixels, [0, 0, 1, 127, 254, 255]);
}

#[test]
fn grey_becomes_rgb() {
    let ramp = GrayImage::from_fn(16, 8, |x, _| image::Luma([x as u8 * 16]));
    let file = compress(&ramp, 16, 8, PixelFormat::Grayscale, 100, Subsampling::S444).unwrap();
    for file in [file, encode(ramp.clone(), ImageFormat::Png)] {
        let photo = decode(&file).unwrap();
        let grey = photo.pixels.as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b);
        assert!(grey && pixel(&photo, 0, 0)[0] <= 1 && pixel(&photo, 15, 7)[0] >= 239);
    }
}

#[test]
fn progressive_is_equal_to_baseline() {
    let image = RgbImage::from_fn(61, 47, |x, y| Rgb([(x * 4) as u8, (y * 5) as u8, (x * y) as u8]));
    for subsampling in [Subsampling::S444, Subsampling::S422, Subsampling::S420] {
        let baseline = compress(&image, 61, 47, PixelFormat::Rgb, 85, subsampling).unwrap();
        let progressive = compress_progressive(&image, 61, 47, PixelFormat::Rgb, 85, subsampling).unwrap();
        assert_eq!(decode(&baseline).unwrap(), decode(&progressive).unwrap());
    }
}

/// Inks as Adobe stores them: 255 is none.
fn cmyk(stored: [u8; 4]) -> Vec<u8> {
    compress(&stored.repeat(64), 8, 8, PixelFormat::Cmyk, 100, Subsampling::S444).unwrap()
}

#[test]
fn cmyk_is_converted_as_pillow_does() {
    // What Pillow's convert("RGB") gives for the inverse of each.
    let table = [
        ([255, 255, 255, 255], [255, 255, 255]),
        ([0, 255, 255, 255], [0, 255, 255]),
        ([200, 100, 50, 128], [100, 50, 25]),
        ([255, 255, 255, 0], [0, 0, 0]),
    ];
    for (stored, expected) in table {
        let photo = decode(&cmyk(stored)).unwrap();
        let off = pixel(&photo, 4, 4).iter().zip(expected).map(|(&got, want)| got.abs_diff(want)).max();
        assert!(off <= Some(1), "{stored:?}: {:?}", pixel(&photo, 4, 4));
    }
}

#[test]
fn unusual_sampling_of_black_is_refused() {
    let mut file = cmyk([200, 100, 50, 128]);
    let factors = frame_header(&file) + 8 + 1;
    file[factors] = 0x22;
    assert!(matches!(decode(&file), Err(PhotoError::Undecodable { format: "JPEG", .. })));
}

#[test]
fn endless_scans_are_refused() {
    let file = compress_progressive(&quarters(), 32, 16, PixelFormat::Rgb, 90, Subsampling::S420).unwrap();
    let last = file.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap();
    let (scans, end) = file.split_at(file.len() - 2);
    let bomb = [scans, &scans[last..].repeat(100), end].concat();
    let error = decode(&bomb).unwrap_err().to_string();
    assert!(error.contains("more than 100 scans"), "{error}");
}

#[test]
fn size_limits_are_checked_before_decoding() {
    let mut bomb = jpeg(&quarters());
    let frame = frame_header(&bomb);
    bomb[frame + 3..frame + 7].copy_from_slice(&[0xfe, 0xdc, 0xfe, 0xdc]);
    assert!(matches!(decode(&bomb), Err(PhotoError::TooManyPixels { width: 0xfedc, height: 0xfedc, .. })));

    let mut bomb = encode(DynamicImage::from(quarters()).into_rgba8(), ImageFormat::Gif);
    bomb[6..10].fill(0xff);
    assert!(matches!(decode(&bomb), Err(PhotoError::TooManyPixels { width: 65535, height: 65535, .. })));
}

#[test]
fn a_gif_hides_no_larger_frame_behind_its_screen() {
    let mut bomb = encode(DynamicImage::from(quarters()).into_rgba8(), ImageFormat::Gif);
    // The frame's descriptor: a comma, its place, its width and height.
    let frame = bomb.windows(9).position(|bytes| bytes == [b',', 0, 0, 0, 0, 32, 0, 16, 0]).unwrap();
    bomb[frame + 6] = 1;
    let limits = Limits { pixels: 1000, ..Limits::default() };
    assert!(matches!(Photo::decode(&bomb, &limits), Err(PhotoError::TooMuchMemory { .. })));
}

#[test]
fn each_limit_has_its_error() {
    let rgba = DynamicImage::from(quarters()).into_rgba8();
    let formats = [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp];
    let files = formats.map(|format| encode(rgba.clone(), format)).into_iter().chain([jpeg(&quarters())]);
    for file in files {
        let bytes = Limits { bytes: file.len() - 1, ..Limits::default() };
        assert!(matches!(Photo::decode(&file, &bytes), Err(PhotoError::TooManyBytes { .. })));
        let pixels = Limits { pixels: 32 * 16 - 1, ..Limits::default() };
        assert!(matches!(Photo::decode(&file, &pixels), Err(PhotoError::TooManyPixels { width: 32, height: 16, .. })));
        let memory = Limits { memory: 32 * 16 * 6 - 1, ..Limits::default() };
        assert!(matches!(Photo::decode(&file, &memory), Err(PhotoError::TooMuchMemory { .. })));
        let enough = Limits { bytes: file.len(), pixels: 32 * 16, memory: 1 << 20 };
        assert!(Photo::decode(&file, &enough).is_ok());
    }
}

#[test]
fn what_is_no_photo_is_said_to_be_none() {
    assert!(matches!(decode(b""), Err(PhotoError::Empty)));
    for other in [&b"hello"[..], b"\0\0\0\0", b"<svg/>", b"II\x2a\0\x08\0\0\0", b"%PDF-1.7", b"\xff\xd8"] {
        assert!(matches!(decode(other), Err(PhotoError::UnsupportedFormat)), "{other:?}");
    }
    for (width, height, bytes) in [(0, 0, 0), (0, 5, 0), (2, 2, 15), (2, 2, 17), (u32::MAX, u32::MAX, 4)] {
        assert!(matches!(Photo::from_rgba(width, height, &vec![0; bytes]), Err(PhotoError::PixelCount { .. })));
    }
}

/// Every prefix, and bytes flipped: an error or a photo, never a panic.
#[test]
fn broken_files_end_in_an_error_or_a_photo() {
    let formats = [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Bmp];
    let rgba = DynamicImage::from(quarters()).into_rgba8();
    let mut files: Vec<Vec<u8>> = formats.map(|format| encode(rgba.clone(), format)).into();
    files.extend([with_exif(&jpeg(&quarters()), 6), cmyk([200, 100, 50, 128])]);
    files.push(compress_progressive(&quarters(), 32, 16, PixelFormat::Rgb, 90, Subsampling::S420).unwrap());
    // Wide enough for columns to be left out.
    files.push(compress(&[9; 160 * 8 * 3], 160, 8, PixelFormat::Rgb, 90, Subsampling::S420).unwrap());

    let small = Limits { pixels: 1 << 16, memory: 1 << 24, ..Limits::default() };
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize
    };
    // Called without the net of `Photo::decode`, which would turn a panic into an error.
    let excerpt = Preprocessing { resize: 8, crop: 6, ..Preprocessing::default() };
    let bare = |bytes: &[u8]| match image::guess_format(bytes) {
        Ok(ImageFormat::Jpeg) => {
            jpeg::decode(bytes, &small, None).and(jpeg::decode(bytes, &small, Some(&excerpt))).err()
        }
        Ok(format) => raster::decode(bytes, format, "", &small).err(),
        Err(_) => None,
    };
    for file in &files {
        let truncated: Vec<_> = (0..file.len() / 2).map(|length| Photo::decode(&file[..length], &small)).collect();
        assert!(truncated.iter().all(Result::is_err));
        for length in 0..file.len() {
            bare(&file[..length]);
        }
        for _ in 0..500 {
            let mut broken = file.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % broken.len();
                broken[at] = random() as u8;
            }
            bare(&broken);
        }
    }
}
