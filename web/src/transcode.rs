//! Converts photos that the classifier cannot decode to PNG, if the browser can display them. The worker cannot decode
//! SVG; the server also cannot decode AVIF and HEIC.

use crate::photo::PhotoFile;
use js_sys::{Function, Promise};
use leptos::prelude::document;
use wasm_bindgen::closure::Closure;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, CanvasRenderingContext2d, HtmlCanvasElement, HtmlImageElement};

/// Length in pixels of the short side of converted vector graphics. The input of most networks has 224x224 pixels.
const VECTOR_SIDE: f64 = 512.0;
/// Maximum number of pixels of a converted photo, which is also the limit of some browsers' canvases.
const MAX_PIXELS: f64 = 16_777_216.0;

/// Returns the photo as PNG, or `None` if the browser cannot display it.
pub async fn to_png(photo: &PhotoFile) -> Option<Blob> {
    let image = HtmlImageElement::new().ok()?;
    image.set_src(photo.url());
    JsFuture::from(image.decode()).await.ok()?;

    let (width, height) = (f64::from(image.natural_width()), f64::from(image.natural_height()));
    if width < 1.0 || height < 1.0 {
        return None;
    }
    let is_vector = photo.blob().type_() == "image/svg+xml";
    let scale = if is_vector { VECTOR_SIDE / width.min(height) } else { 1.0 };
    let scale = scale.min((MAX_PIXELS / (width * height)).sqrt());
    let canvas = draw(&image, (width * scale).max(1.0), (height * scale).max(1.0)).ok()?;
    JsFuture::from(encode(&canvas)).await.ok()?.dyn_into().ok()
}

fn draw(image: &HtmlImageElement, width: f64, height: f64) -> Result<HtmlCanvasElement, JsValue> {
    let canvas: HtmlCanvasElement = document().create_element("canvas")?.unchecked_into();
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    let context: CanvasRenderingContext2d = canvas.get_context("2d")?.ok_or(JsValue::NULL)?.unchecked_into();
    context.draw_image_with_html_image_element_and_dw_and_dh(image, 0.0, 0.0, width, height)?;
    Ok(canvas)
}

/// Encodes the canvas as PNG. Returns a promise for the blob.
fn encode(canvas: &HtmlCanvasElement) -> Promise {
    Promise::new(&mut |resolve: Function, reject: Function| {
        let callback = Closure::once_into_js(move |blob: JsValue| resolve.call1(&JsValue::NULL, &blob));
        if let Err(error) = canvas.to_blob(callback.unchecked_ref()) {
            let _ = reject.call1(&JsValue::NULL, &error);
        }
    })
}
