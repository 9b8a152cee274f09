//! From bytes or pixels to what a network sees: decoded, upright, resized, cropped.
//!
//! Equal to torchvision's `Resize(antialias)` and `CenterCrop` on Pillow's decoding, but for three deliberate
//! deviations: EXIF orientation is honoured, alpha is laid over white, 16-bit samples are scaled instead of clipped.
//! Nothing here normalises: what leaves is [`ImageBatch`], bytes with their mean and standard deviation.

mod batch;
mod convolve;
mod decode;
mod encode;
mod encoded;
mod error;
mod excerpt;
mod jpeg;
mod limits;
mod opaque;
mod photo;
mod picture;
mod raster;
mod rectangle;
mod region;
mod resize;
mod shrink;
mod webp;
mod windows;

pub use batch::{BatchError, ImageBatch};
pub use encode::TooLong;
pub use encoded::Encoded;
pub use error::PhotoError;
pub use excerpt::Excerpt;
pub use limits::Limits;
pub use photo::Photo;
pub use rectangle::Rectangle;
pub use region::Region;

use serde::{Deserialize, Serialize};

/// The filter of a resize, antialiased as Pillow does it.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    #[default]
    Bilinear,
    Bicubic,
}

/// The numbers that parametrise preprocessing; they travel in a checkpoint's metadata. What is read with serde has
/// passed [`Preprocessing::validate`].
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
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

/// Why numbers cannot parametrise preprocessing.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum PreprocessingError {
    #[error("a short side of {resize} px; 1 to {} are possible", Preprocessing::MAX_SIZE)]
    Resize { resize: u32 },
    #[error("a crop of {crop} px; 1 to {resize} are possible, the short side after resizing")]
    Crop { crop: u32, resize: u32 },
    #[error("mean {mean:?} and standard deviation {std:?} must be finite, and the latter above zero")]
    Normalisation { mean: [f32; 3], std: [f32; 3] },
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
    /// Of `resize`, in pixels: bounds what a checkpoint from elsewhere can ask for.
    pub const MAX_SIZE: u32 = 4096;

    /// Whether [`Preprocessing::apply`] can work with these numbers.
    pub fn validate(&self) -> Result<(), PreprocessingError> {
        let Preprocessing { resize, crop, mean, std, .. } = *self;
        if !(1..=Self::MAX_SIZE).contains(&resize) {
            return Err(PreprocessingError::Resize { resize });
        }
        if !(1..=resize).contains(&crop) {
            return Err(PreprocessingError::Crop { crop, resize });
        }
        let finite = mean.iter().chain(&std).all(|value| value.is_finite());
        if !finite || std.iter().any(|&value| value <= 0.0) {
            return Err(PreprocessingError::Normalisation { mean, std });
        }
        Ok(())
    }

    /// The photo resized and cropped: a batch of one, `[1, crop, crop, 3]`. Of an encoded photo, [`Excerpt`] makes the
    /// same in less time.
    ///
    /// # Panics
    /// If the numbers were put together in code and do not pass [`Preprocessing::validate`].
    pub fn apply(&self, photo: &Photo) -> ImageBatch {
        self.assert_valid();
        self.batch(resize::resize_and_crop(&photo.stored(), self))
    }

    fn assert_valid(&self) {
        if let Err(error) = self.validate() {
            panic!("preprocessing: {error}");
        }
    }

    /// `pixels` is u8 RGB `[crop, crop, 3]`.
    fn batch(&self, pixels: Vec<u8>) -> ImageBatch {
        let side = self.crop as usize;
        ImageBatch::new(pixels, [1, side, side], self.mean, self.std).expect("the crop has its size")
    }
}

/// As it is stored, before anybody looked at the numbers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    resize: u32,
    crop: u32,
    interpolation: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
}

impl TryFrom<Unchecked> for Preprocessing {
    type Error = PreprocessingError;

    fn try_from(stored: Unchecked) -> Result<Self, Self::Error> {
        let Unchecked { resize, crop, interpolation, mean, std } = stored;
        let preprocessing = Preprocessing { resize, crop, interpolation, mean, std };
        preprocessing.validate()?;
        Ok(preprocessing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changes: &[(&str, serde_json::Value)]) -> Result<Preprocessing, String> {
        let mut json = serde_json::to_value(Preprocessing::default()).unwrap();
        for (key, value) in changes {
            json[key] = value.clone();
        }
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn survives_json() {
        assert_eq!(read(&[]), Ok(Preprocessing::default()));
        assert_eq!(read(&[("interpolation", "bicubic".into())]).unwrap().interpolation, Interpolation::Bicubic);
    }

    #[test]
    fn impossible_numbers_are_refused_at_the_door() {
        let refused = [
            ("resize", 0.into(), "a short side of 0 px; 1 to 4096 are possible"),
            ("resize", 4097.into(), "a short side of 4097 px"),
            ("resize", 200.into(), "a crop of 224 px; 1 to 200 are possible"),
            ("crop", 0.into(), "a crop of 0 px"),
            ("std", serde_json::json!([0.2, 0.0, 0.2]), "must be finite"),
            ("mean", serde_json::json!([0.2, 1e300, 0.2]), "must be finite"),
            ("scale", 1.into(), "unknown field"),
        ];
        for (key, value, reason) in refused {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(error.contains(reason), "{key}: {error}");
        }
    }

    #[test]
    fn a_batch_of_one_leaves() {
        let photo = Photo { width: 300, height: 200, pixels: vec![9; 300 * 200 * 3] };
        let batch = Preprocessing::default().apply(&photo);
        assert_eq!((batch.shape(), batch.mean()), ([1, 224, 224], [0.485, 0.456, 0.406]));
        assert!(batch.pixels().iter().all(|&value| value == 9));
    }
}
