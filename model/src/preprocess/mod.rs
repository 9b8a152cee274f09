//! From bytes or pixels to what a network sees: decoded, upright, resized, cropped.
//!
//! Equal to torchvision's `Resize(antialias)` and `CenterCrop` on Pillow's decoding, but for three deliberate
//! deviations: EXIF orientation is honoured, alpha is laid over white, 16-bit samples are scaled instead of clipped.
//! Nothing here normalises: what leaves is [`ImageBatch`], bytes with their mean and standard deviation.

mod batch;
mod decode;
mod resize;

pub use batch::{BatchError, ImageBatch};
pub use decode::{Limits, Photo, PhotoError};

use serde::{Deserialize, Serialize};

/// The filter of a resize, antialiased as Pillow does it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    #[default]
    Bilinear,
    Bicubic,
}

/// The numbers that parametrise preprocessing; they travel in a checkpoint's metadata.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocessing {
    /// The short side after resizing, in pixels.
    pub resize: u32,
    /// The side of the square cut from the middle, in pixels; at most `resize`.
    pub crop: u32,
    pub interpolation: Interpolation,
    /// Of red, green, blue in 0..1; subtracted by the engine.
    pub mean: [f32; 3],
    /// Of red, green, blue in 0..1; divided by in the engine.
    pub std: [f32; 3],
}

/// torchvision's for the V1 weights of ImageNet.
impl Default for Preprocessing {
    fn default() -> Self {
        Preprocessing {
            resize: 256,
            crop: 224,
            interpolation: Interpolation::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }
}

impl Preprocessing {
    /// The photo resized and cropped: a batch of one.
    pub fn apply(&self, photo: &Photo) -> ImageBatch {
        let _ = photo;
        todo!()
    }
}
