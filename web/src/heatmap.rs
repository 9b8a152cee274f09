//! Draws a class activation map as an image that is laid over the photo.

use leptos::prelude::document;
use model::explain::ActivationMap;
use wasm_bindgen::{Clamped, JsCast, JsValue};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageData};

/// Width and height of the drawn image per cell of the map, in pixels. The browser scales the image to the photo.
const PIXELS_PER_CELL: usize = 12;

/// Colour of the weakest activation: red, green and blue in 0..=255.
const WEAK_COLOUR: [f32; 3] = [255.0, 205.0, 70.0];
/// Colour of the strongest activation.
const STRONG_COLOUR: [f32; 3] = [224.0, 30.0, 60.0];
/// Opacity of the strongest activation. The weakest is transparent.
const MAX_OPACITY: f32 = 0.72;

/// Returns the image as a `data:` URL, or `None` if the browser cannot draw it.
pub fn data_url(map: &ActivationMap) -> Option<String> {
    draw(map).ok()
}

fn draw(map: &ActivationMap) -> Result<String, JsValue> {
    let (width, height) = (map.width * PIXELS_PER_CELL, map.height * PIXELS_PER_CELL);
    let canvas: HtmlCanvasElement = document().create_element("canvas")?.unchecked_into();
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    let context: CanvasRenderingContext2d = canvas.get_context("2d")?.ok_or(JsValue::NULL)?.unchecked_into();
    let pixels: Vec<u8> = upsample(map).into_iter().flat_map(colour).collect();
    let image = ImageData::new_with_u8_clamped_array_and_sh(Clamped(&pixels), width as u32, height as u32)?;
    context.put_image_data(&image, 0.0, 0.0)?;
    canvas.to_data_url()
}

/// Returns the RGBA colour of an activation in 0..=1.
fn colour(value: f32) -> [u8; 4] {
    let mix = |channel: usize| WEAK_COLOUR[channel] + (STRONG_COLOUR[channel] - WEAK_COLOUR[channel]) * value;
    [mix(0), mix(1), mix(2), 255.0 * MAX_OPACITY * value].map(|channel| channel as u8)
}

/// Upsamples the map with a cubic B-spline, whose results never exceed the range of the map's values.
fn upsample(map: &ActivationMap) -> Vec<f32> {
    let (columns, rows) = (spline_taps(map.width), spline_taps(map.height));
    let row_value = |row: usize, column: &SplineTaps| -> f32 {
        column.iter().map(|(x, weight)| weight * map.values[row * map.width + x]).sum()
    };
    let value =
        |row: &SplineTaps, column: &SplineTaps| row.iter().map(|(y, weight)| weight * row_value(*y, column)).sum();
    rows.iter().flat_map(|row| columns.iter().map(move |column| value(row, column))).collect()
}

/// Indices and weights of the four cells that contribute to a pixel along one axis.
type SplineTaps = [(usize, f32); 4];

/// Returns the taps of each pixel along an axis of `cells` cells. The outermost cells are repeated beyond the edges.
fn spline_taps(cells: usize) -> Vec<SplineTaps> {
    let taps = |pixel: usize| {
        let position = (pixel as f32 + 0.5) / PIXELS_PER_CELL as f32 - 0.5;
        let (first, t) = (position.floor() as isize - 1, position - position.floor());
        let weights = [
            (1.0 - t).powi(3),
            3.0 * t.powi(3) - 6.0 * t.powi(2) + 4.0,
            -3.0 * t.powi(3) + 3.0 * t.powi(2) + 3.0 * t + 1.0,
            t.powi(3),
        ];
        std::array::from_fn(|tap| {
            let cell = (first + tap as isize).clamp(0, cells as isize - 1);
            (cell as usize, weights[tap] / 6.0)
        })
    };
    (0..cells * PIXELS_PER_CELL).map(taps).collect()
}
