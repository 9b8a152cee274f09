//! Decodes photos with the browser, for formats that our own decoders do not support (AVIF, HEIC, ...).

use crate::scope::scope;
use js_sys::Array;
use model::preprocess::{Limits, PhotoError};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, ImageBitmap, OffscreenCanvas, OffscreenCanvasRenderingContext2d};

/// Upright u8 RGBA pixels `[height, width, 4]` with straight (not premultiplied) alpha.
pub struct RgbaPixels {
    pub width: u32,
    pub height: u32,
    pub rgba: Vec<u8>,
}

/// Decodes an image file with the browser.
///
/// # Errors
/// Returns [`PhotoError::UnsupportedFormat`] if the browser cannot decode the file, and [`PhotoError::TooManyPixels`]
/// if the image exceeds the limit.
pub async fn decode(encoded: &[u8], limits: &Limits) -> Result<RgbaPixels, PhotoError> {
    let unsupported = |_| PhotoError::UnsupportedFormat;
    let parts = Array::of1(&js_sys::Uint8Array::from(encoded));
    let blob = Blob::new_with_u8_array_sequence(&parts).map_err(unsupported)?;
    let promise = scope().create_image_bitmap_with_blob(&blob).map_err(unsupported)?;
    let bitmap: ImageBitmap = JsFuture::from(promise).await.map_err(unsupported)?.unchecked_into();

    let (width, height) = (bitmap.width(), bitmap.height());
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(PhotoError::TooManyPixels { width, height, limit: limits.pixels });
    }
    let rgba = read_pixels(&bitmap, width, height).map_err(unsupported)?;
    bitmap.close();
    Ok(RgbaPixels { width, height, rgba })
}

fn read_pixels(bitmap: &ImageBitmap, width: u32, height: u32) -> Result<Vec<u8>, JsValue> {
    let canvas = OffscreenCanvas::new(width, height)?;
    let context = canvas.get_context("2d")?.ok_or(JsValue::NULL)?;
    let context: OffscreenCanvasRenderingContext2d = context.unchecked_into();
    context.draw_image_with_image_bitmap(bitmap, 0.0, 0.0)?;
    Ok(context.get_image_data(0.0, 0.0, f64::from(width), f64::from(height))?.data().0)
}
