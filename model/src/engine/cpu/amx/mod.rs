//! Direct convolutions as products of [tiles of bf16](super::simd::MatrixUnit), 16 rows by 32 values each.
//!
//! The rows of a tile are output pixels. So that tiles are full even if images are small, a value is first rounded to a
//! [layout](lines) in which the pixels of all images at the same position are adjacent: a row of pixels of the batch is
//! then one long row, and moving by a filter element is a constant distance. In the stem, a row of a tile is one row of the
//! filter window ([`image_rows`]).

mod convolution;
mod image_rows;
pub mod lines;
mod schedule;
mod weights;

pub use convolution::AmxConvolution;
pub use image_rows::ImageRows;
pub use schedule::AmxSchedule;
pub use weights::{AmxWeights, PANEL};
