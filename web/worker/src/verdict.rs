//! Which of two engines is to answer on an adapter: how that is judged, and how it is remembered.

use crate::adapter::Adapter;
use crate::engines::WEBGPU;
use crate::message::Weights;
use crate::shelf::Shelf;
use js_sys::encode_uri_component;
use wasm_bindgen_futures::JsFuture;

const SHELF: &str = "shortcut-verdicts";

/// Counts the changes of the engines after which an adapter is to be judged anew.
const REVISION: u32 = 2;

/// How many runs of each engine are timed.
pub const RUNS: usize = 3;

/// WebGPU must take less than this share of the CPU's time: what is as fast changes places for nothing.
const CLEARLY_FASTER: f64 = 0.9;

/// Of the largest logit: what logits may differ by. Room for sums in half precision; a kernel that a driver has compiled
/// wrongly is far beyond.
const TOLERANCE: f32 = 0.02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Cpu,
    WebGpu,
}

/// Of milliseconds that runs have taken.
pub fn by_time(cpu: [f64; RUNS], webgpu: [f64; RUNS]) -> Verdict {
    if median(webgpu) < CLEARLY_FASTER * median(cpu) { Verdict::WebGpu } else { Verdict::Cpu }
}

pub fn median(mut times: [f64; RUNS]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// Whether the logits of one image, by two engines, are the same but for rounding, and name the same class.
pub fn agree(one: &[f32], other: &[f32]) -> bool {
    let largest = one.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    let near = |a: f32, b: f32| (a - b).abs() <= TOLERANCE * largest;
    let likeliest = |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let same = one.iter().zip(other).all(|(&a, &b)| near(a, b));
    // Of two classes that are as good as equal, rounding may choose either.
    let agreed = likeliest(one).zip(likeliest(other)).is_some_and(|(a, b)| near(one[a], one[b]));
    one.len() == other.len() && same && agreed
}

/// The verdict on an adapter and a model, between visits.
pub struct Record {
    shelf: Option<Shelf>,
    address: String,
}

impl Record {
    pub async fn open(weights: &Weights, adapter: &Adapter) -> Self {
        // What lies at the address of weights never changes.
        let address = format!("{}?adapter={}", weights.url, encode_uri_component(&adapter.to_string()));
        Record { shelf: Shelf::open(SHELF).await, address }
    }

    /// None if there is none, or if the engines have changed since.
    pub async fn read(&self) -> Option<Verdict> {
        let response = self.shelf.as_ref()?.find(&self.address).await?;
        let text = JsFuture::from(response.text().ok()?).await.ok()?.as_string()?;
        [Verdict::Cpu, Verdict::WebGpu].into_iter().find(|verdict| text == written(*verdict))
    }

    pub async fn keep(&self, verdict: Verdict) {
        if let Some(shelf) = &self.shelf {
            shelf.keep_text(&self.address, &written(verdict)).await;
        }
    }
}

/// With all that it depends on beside adapter and model.
fn written(verdict: Verdict) -> String {
    format!("{verdict:?}, {WEBGPU} of {}.{REVISION}", env!("CARGO_PKG_VERSION"))
}
