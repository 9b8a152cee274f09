//! The photos to classify: the bundled samples, and one of the size that cameras produce.

use anyhow::Result;
use model::preprocess::{Limits, Photo};
use tests::workspace;

pub const SAMPLES: [&str; 5] = ["cat.jpg", "coffee.jpg", "flower.jpg", "palace.jpg", "rocket.jpg"];
/// Index of the large photo, after the samples.
pub const LARGE_PHOTO: usize = SAMPLES.len();

/// Size of the large photo: twelve megapixels.
const WIDTH: u32 = 4032;
const HEIGHT: u32 = 3024;

/// Returns the encoded photos: the samples in their order, then the large photo.
pub fn all() -> Result<Vec<Vec<u8>>> {
    let mut photos =
        SAMPLES.iter().map(|name| Ok(std::fs::read(workspace::sample(name))?)).collect::<Result<Vec<_>>>()?;
    photos.push(enlarge(&photos[0])?);
    Ok(photos)
}

/// Scales a photo up and adds noise, so that every JPEG block has detail to decode.
fn enlarge(sample: &[u8]) -> Result<Vec<u8>> {
    let sample = Photo::decode(sample, &Limits::default())?;
    let (width, height) = (sample.width(), sample.height());
    let mut state = 1u32;
    let mut rgba = Vec::with_capacity(4 * (WIDTH * HEIGHT) as usize);
    for (y, x) in (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (y, x))) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let offset = 3 * (y * height / HEIGHT * width + x * width / WIDTH) as usize;
        rgba.extend(sample.pixels()[offset..offset + 3].iter().map(|value| value.saturating_add((state >> 28) as u8)));
        rgba.push(255);
    }
    Ok(Photo::from_rgba(WIDTH, HEIGHT, &rgba)?.to_jpeg(90)?)
}
