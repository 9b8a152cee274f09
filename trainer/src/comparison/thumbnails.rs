//! Small photos for the page.

use super::disagreement::Disagreement;
use crate::data::SampleLocation;
use crate::photos::LIMITS;
use model::preprocess::{CroppedDecode, Photo, Preprocessing};
use rayon::prelude::*;

/// Width and height, in pixels.
const SIDE: u32 = 128;
/// Quality of the JPEG files, as that of libjpeg.
const QUALITY: u8 = 80;

/// Returns the square centre of each photo as a small JPEG file, or `None` for photos that can no longer be decoded.
pub fn thumbnails(disagreements: &[Disagreement]) -> Vec<Option<Vec<u8>>> {
    disagreements.par_iter().map(|disagreement| thumbnail(&disagreement.place)).collect()
}

fn thumbnail(place: &SampleLocation) -> Option<Vec<u8>> {
    let preprocessing = Preprocessing { resize: SIDE, crop: SIDE, ..Preprocessing::default() };
    let image = CroppedDecode::decode(&place.read().ok()?, &LIMITS, &preprocessing).ok()?.resize();
    Photo::new(SIDE, SIDE, image.pixels().to_vec()).ok()?.to_jpeg(QUALITY).ok()
}
