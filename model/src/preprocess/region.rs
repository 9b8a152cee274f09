//! The part of a photo that the network sees.

use super::filter_taps::crop_offset;
use super::resize::resized_size;
use super::{ImageBatch, Photo, Preprocessing};
use serde::{Deserialize, Serialize};

/// The part of an upright photo that remains after cropping, in pixels of the photo.
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// Width and height of the whole photo.
    pub photo: (u32, u32),
    /// Distance from the left edge of the photo.
    pub left: f64,
    /// Distance from the top edge of the photo.
    pub top: f64,
    /// Width of the part.
    pub width: f64,
    /// Height of the part.
    pub height: f64,
}

impl Region {
    /// Returns the part of a photo of this width and height that `preprocessing` crops.
    pub(super) fn of_crop((width, height): (u32, u32), preprocessing: &Preprocessing) -> Self {
        let &Preprocessing { resize, crop, .. } = preprocessing;
        let resized = resized_size(width, height, resize);
        let along = |size: u32, resized: u64| {
            let scale = f64::from(size) / resized as f64;
            (crop_offset(resized, crop) as f64 * scale, f64::from(crop) * scale)
        };
        let ((left, width_seen), (top, height_seen)) = (along(width, resized.0), along(height, resized.1));
        Region { photo: (width, height), left, top, width: width_seen, height: height_seen }
    }

    /// Returns the region of an image that was not cropped.
    pub fn whole(image: &ImageBatch) -> Self {
        let [_, height, width] = image.shape();
        Region { photo: (width as u32, height as u32), left: 0.0, top: 0.0, width: width as f64, height: height as f64 }
    }
}

impl Preprocessing {
    /// Returns the part of the photo that [`Preprocessing::apply`] crops.
    pub fn region(&self, photo: &Photo) -> Region {
        Region::of_crop((photo.width(), photo.height()), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(size: (u32, u32)) -> [f64; 4] {
        let Region { photo, left, top, width, height } = Region::of_crop(size, &Preprocessing::default());
        assert_eq!(photo, size);
        [left, top, width, height]
    }

    #[test]
    fn region_is_the_centre_of_the_photo() {
        assert_eq!(region((256, 256)), [16.0, 16.0, 224.0, 224.0]);
        assert_eq!(region((400, 200)), [112.5, 12.5, 175.0, 175.0]);
        assert_eq!(region((200, 400)), [12.5, 112.5, 175.0, 175.0]);
    }
}
