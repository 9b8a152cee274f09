//! Limits on the resources that one photo may take, checked before memory is allocated.

use super::error::{PhotoError, undecodable};

/// Limits on the resources that one photo may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum size of the encoded file, in bytes.
    pub bytes: usize,
    /// Maximum number of pixels: width times height.
    pub pixels: u64,
    /// Maximum size of all buffers of one decode together, in bytes.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { bytes: 20 << 20, pixels: 50_000_000, memory: 512 << 20 }
    }
}

impl Limits {
    /// Checks the size that an image's header declares, before anything is allocated for it. `bytes_per_pixel` counts
    /// the buffers that exist at the same time during decoding. Turning a photo upright takes two copies of it.
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
