//! Parameters of preprocessing, and their validation.

use serde::{Deserialize, Serialize};

/// Filter for resizing, antialiased like Pillow's.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    #[default]
    Bilinear,
    Bicubic,
}

/// Parameters of preprocessing, stored in a checkpoint's metadata.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedPreprocessing")]
pub struct Preprocessing {
    /// Length of the short side after resizing, in pixels.
    pub resize: u32,
    /// Side of the square centre crop, in pixels; at most `resize`.
    pub crop: u32,
    pub interpolation: Interpolation,
    /// Mean of red, green and blue, for samples from 0 to 1. The engine subtracts it.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, for samples from 0 to 1. The engine divides by it.
    pub std: [f32; 3],
}

/// Error of validating the parameters of preprocessing.
#[derive(Clone, Debug, thiserror::Error, PartialEq)]
pub enum PreprocessingError {
    #[error("invalid short side of {resize} px: must be from 1 to {}", Preprocessing::MAX_SIZE)]
    Resize { resize: u32 },
    #[error("invalid crop of {crop} px: must be from 1 to {resize}, the short side after resizing")]
    Crop { crop: u32, resize: u32 },
    #[error(
        "mean {mean:?} and standard deviation {std:?} must be finite, and the standard deviation greater than zero"
    )]
    Normalisation { mean: [f32; 3], std: [f32; 3] },
}

/// torchvision's parameters for its V1 ImageNet weights.
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
    /// Maximum of `resize`, in pixels. It bounds the work that an untrusted checkpoint can cause.
    pub const MAX_SIZE: u32 = 4096;

    /// Checks that [`Preprocessing::apply`] accepts these parameters. Deserialised parameters have passed this check.
    ///
    /// # Errors
    /// Returns an error if a size is out of range, or if mean or standard deviation cannot normalise an image.
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

    /// Asserts that the parameters pass [`Preprocessing::validate`].
    ///
    /// # Panics
    /// Panics otherwise.
    pub(super) fn assert_valid(&self) {
        if let Err(error) = self.validate() {
            panic!("invalid preprocessing: {error}");
        }
    }
}

/// [`Preprocessing`] as stored, before validation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedPreprocessing {
    resize: u32,
    crop: u32,
    interpolation: Interpolation,
    mean: [f32; 3],
    std: [f32; 3],
}

impl TryFrom<UncheckedPreprocessing> for Preprocessing {
    type Error = PreprocessingError;

    fn try_from(stored: UncheckedPreprocessing) -> Result<Self, Self::Error> {
        let UncheckedPreprocessing { resize, crop, interpolation, mean, std } = stored;
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
    fn round_trips_through_json() {
        assert_eq!(read(&[]), Ok(Preprocessing::default()));
        assert_eq!(read(&[("interpolation", "bicubic".into())]).unwrap().interpolation, Interpolation::Bicubic);
    }

    #[test]
    fn rejects_invalid_parameters() {
        let invalid = [
            ("resize", 0.into(), "short side of 0 px: must be from 1 to 4096"),
            ("resize", 4097.into(), "short side of 4097 px"),
            ("resize", 200.into(), "crop of 224 px: must be from 1 to 200"),
            ("crop", 0.into(), "crop of 0 px"),
            ("std", serde_json::json!([0.2, 0.0, 0.2]), "must be finite"),
            ("mean", serde_json::json!([0.2, 1e300, 0.2]), "must be finite"),
            ("scale", 1.into(), "unknown field"),
        ];
        for (key, value, reason) in invalid {
            let error = read(&[(key, value)]).unwrap_err();
            assert!(error.contains(reason), "{key}: {error}");
        }
    }
}
