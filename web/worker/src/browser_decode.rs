//! The second chance of a photo in a format that we do not decode (AVIF, HEIC, ...): the browser may.

use crate::scope::scope;
use js_sys::Array;
use model::preprocess::{Limits, PhotoError};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, ImageBitmap, OffscreenCanvas, OffscreenCanvasRenderingContext2d};

/// u8 RGBA `[height, width, 4]` with straight alpha, upright.
pub struct Pixels {
    pub width: u32,
    pub height: u32,
    pub rgba: Vec<u8>,
}

/// What the browser makes of an encoded photo.
///
/// # Errors
/// [`PhotoError::UnsupportedFormat`] if it makes nothing of it.
pub async fn decode(encoded: &[u8], limits: &Limits) -> Result<Pixels, PhotoError> {
    let unsupported = |_| PhotoError::UnsupportedFormat;
    let parts = Array::of1(&js_sys::Uint8Array::from(encoded));
    let blob = Blob::new_with_u8_array_sequence(&parts).map_err(unsupported)?;
    let promise = scope().create_image_bitmap_with_blob(&blob).map_err(unsupported)?;
    let bitmap: ImageBitmap = JsFuture::from(promise).await.map_err(unsupported)?.unchecked_into();

    let (width, height) = (bitmap.width(), bitmap.height());
    if u64::from(width) * u64::from(height) > limits.pixels {
        return Err(PhotoError::TooManyPixels { width, height, limit: limits.pixels });
    }
    let rgba = read(&bitmap, width, height).map_err(unsupported)?;
    bitmap.close();
    Ok(Pixels { width, height, rgba })
}

fn read(bitmap: &ImageBitmap, width: u32, height: u32) -> Result<Vec<u8>, JsValue> {
    let canvas = OffscreenCanvas::new(width, height)?;
    let context = canvas.get_context("2d")?.ok_or(JsValue::NULL)?;
    let context: OffscreenCanvasRenderingContext2d = context.unchecked_into();
    context.draw_image_with_image_bitmap(bitmap, 0.0, 0.0)?;
    Ok(context.get_image_data(0.0, 0.0, f64::from(width), f64::from(height))?.data().0)
}
