//! What is asked about: the bundled samples, and a photo as large as a camera's.

use anyhow::Result;
use model::preprocess::{Limits, Photo};
use tests::workspace;

pub const SAMPLES: [&str; 5] = ["cat.jpg", "coffee.jpg", "flower.jpg", "palace.jpg", "rocket.jpg"];
/// The large one's place, behind the samples.
pub const LARGE: usize = SAMPLES.len();

/// Twelve megapixels.
const WIDTH: u32 = 4032;
const HEIGHT: u32 = 3024;

/// The files, in their order.
pub fn all() -> Result<Vec<Vec<u8>>> {
    let mut photos =
        SAMPLES.iter().map(|name| Ok(std::fs::read(workspace::sample(name))?)).collect::<Result<Vec<_>>>()?;
    photos.push(enlarged(&photos[0])?);
    Ok(photos)
}

/// With grain, so that there is something to decode in every block.
fn enlarged(sample: &[u8]) -> Result<Vec<u8>> {
    let sample = Photo::decode(sample, &Limits::default())?;
    let (width, height) = (sample.width(), sample.height());
    let mut state = 1u32;
    let mut rgba = Vec::with_capacity(4 * (WIDTH * HEIGHT) as usize);
    for (y, x) in (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (y, x))) {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let place = 3 * (y * height / HEIGHT * width + x * width / WIDTH) as usize;
        rgba.extend(sample.pixels()[place..place + 3].iter().map(|value| value.saturating_add((state >> 28) as u8)));
        rgba.push(255);
    }
    Ok(Photo::from_rgba(WIDTH, HEIGHT, &rgba)?.to_jpeg(90)?)
}
