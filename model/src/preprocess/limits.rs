//! What a photo may cost, checked before memory is taken.

use super::error::{PhotoError, undecodable};

/// What a photo may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the encoded file.
    pub bytes: usize,
    /// Width times height.
    pub pixels: u64,
    /// Of all buffers of one decode, in bytes.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 20 << 20, pixels: 50_000_000, memory: 512 << 20 }
    }
}

impl Limits {
    /// Refuses what the header announces before anything is allocated for it. `bytes_per_pixel` counts the buffers that
    /// live at once while decoding; turning a photo upright takes two copies of it.
    pub(super) fn check(
        &self,
        (width, height): (u32, u32),
        bytes_per_pixel: u64,
        format: &'static str,
    ) -> Result<(), PhotoError> {
        const UPRIGHT: u64 = 2 * 3;
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 {
            return Err(undecodable(format, "it has no pixels"));
        }
        if pixels > self.pixels {
            return Err(PhotoError::TooManyPixels { width, height, limit: self.pixels });
        }
        if pixels.saturating_mul(bytes_per_pixel.max(UPRIGHT)) > self.memory {
            return Err(PhotoError::TooMuchMemory { limit: self.memory });
        }
        Ok(())
    }
}
