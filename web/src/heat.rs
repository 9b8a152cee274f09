//! An activation map as a picture to lay over the photo.

use leptos::prelude::document;
use model::explain::ActivationMap;
use wasm_bindgen::{Clamped, JsCast, JsValue};
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, ImageData};

/// Pixels of the picture along a place of the map; the browser stretches it further.
const FINENESS: usize = 12;

/// Red, green, blue of what spoke weakly and of what spoke loudest, which is `OPACITY` opaque.
const FAINT: [f32; 3] = [255.0, 205.0, 70.0];
const STRONG: [f32; 3] = [224.0, 30.0, 60.0];
const OPACITY: f32 = 0.72;

/// The picture's address, a `data:` URL. None if the browser draws none.
pub fn address(map: &ActivationMap) -> Option<String> {
    draw(map).ok()
}

fn draw(map: &ActivationMap) -> Result<String, JsValue> {
    let (width, height) = (map.width * FINENESS, map.height * FINENESS);
    let canvas: HtmlCanvasElement = document().create_element("canvas")?.unchecked_into();
    canvas.set_width(width as u32);
    canvas.set_height(height as u32);
    let context: CanvasRenderingContext2d = canvas.get_context("2d")?.ok_or(JsValue::NULL)?.unchecked_into();
    let pixels: Vec<u8> = smooth(map).into_iter().flat_map(colour).collect();
    let image = ImageData::new_with_u8_clamped_array_and_sh(Clamped(&pixels), width as u32, height as u32)?;
    context.put_image_data(&image, 0.0, 0.0)?;
    canvas.to_data_url()
}

/// RGBA of a value in 0..1.
fn colour(value: f32) -> [u8; 4] {
    let mixed = |channel: usize| FAINT[channel] + (STRONG[channel] - FAINT[channel]) * value;
    [mixed(0), mixed(1), mixed(2), 255.0 * OPACITY * value].map(|channel| channel as u8)
}

/// The map on a finer grid, by a cubic B-spline: it never leaves the range of the values.
fn smooth(map: &ActivationMap) -> Vec<f32> {
    let (columns, rows) = (taps(map.width), taps(map.height));
    let of_row = |row: usize, column: &Taps| -> f32 {
        column.iter().map(|(x, weight)| weight * map.values[row * map.width + x]).sum()
    };
    let at = |row: &Taps, column: &Taps| row.iter().map(|(y, weight)| weight * of_row(*y, column)).sum();
    rows.iter().flat_map(|row| columns.iter().map(move |column| at(row, column))).collect()
}

/// The places that a point lies between, and their weights.
type Taps = [(usize, f32); 4];

/// By pixel along an axis of so many places; outside, the outermost go on.
fn taps(places: usize) -> Vec<Taps> {
    let of = |pixel: usize| {
        let position = (pixel as f32 + 0.5) / FINENESS as f32 - 0.5;
        let (first, t) = (position.floor() as isize - 1, position - position.floor());
        let weights = [
            (1.0 - t).powi(3),
            3.0 * t.powi(3) - 6.0 * t.powi(2) + 4.0,
            -3.0 * t.powi(3) + 3.0 * t.powi(2) + 3.0 * t + 1.0,
            t.powi(3),
        ];
        std::array::from_fn(|tap| {
            let place = (first + tap as isize).clamp(0, places as isize - 1);
            (place as usize, weights[tap] / 6.0)
        })
    };
    (0..places * FINENESS).map(of).collect()
}
