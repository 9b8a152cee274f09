//! The criteria for selecting one of two engines on an adapter, and the record of the selection between visits.

use crate::adapter::AdapterDescription;
use crate::cache_store::CacheStore;
use crate::engines::WEBGPU;
use crate::message::WeightsFile;
use js_sys::encode_uri_component;
use wasm_bindgen_futures::JsFuture;

const CACHE_NAME: &str = "shortcut-verdicts";

/// Increased whenever a change of the engines requires adapters to be tested again.
const REVISION: u32 = 2;

/// Number of timed runs of each engine.
pub const RUNS: usize = 3;

/// WebGPU must take less than this fraction of the CPU's time; switching between equally fast engines gains nothing.
const MAX_TIME_RATIO: f64 = 0.9;

/// Maximum difference between the logits of two engines, relative to the largest logit. The tolerance allows for sums
/// in half precision; a kernel that a driver has miscompiled differs by far more.
const TOLERANCE: f32 = 0.02;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectedEngine {
    Cpu,
    WebGpu,
}

/// Selects an engine by the durations of the runs of each, in milliseconds.
pub fn select_by_time(cpu: [f64; RUNS], webgpu: [f64; RUNS]) -> SelectedEngine {
    if median(webgpu) < MAX_TIME_RATIO * median(cpu) { SelectedEngine::WebGpu } else { SelectedEngine::Cpu }
}

pub fn median(mut times: [f64; RUNS]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// Returns whether the logits that two engines computed for one image are equal up to rounding and have the same most
/// likely class.
pub fn logits_agree(one: &[f32], other: &[f32]) -> bool {
    let largest = one.iter().fold(0.0f32, |largest, logit| largest.max(logit.abs()));
    let close = |a: f32, b: f32| (a - b).abs() <= TOLERANCE * largest;
    let most_likely = |logits: &[f32]| (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let all_close = one.iter().zip(other).all(|(&a, &b)| close(a, b));
    // If two classes are almost equally likely, rounding decides which of them comes first.
    let same_class = most_likely(one).zip(most_likely(other)).is_some_and(|(a, b)| close(one[a], one[b]));
    one.len() == other.len() && all_close && same_class
}

/// The cached selection for one adapter and one model.
pub struct SelectionRecord {
    cache: Option<CacheStore>,
    url: String,
}

impl SelectionRecord {
    pub async fn open(weights: &WeightsFile, adapter: &AdapterDescription) -> Self {
        // The URL identifies the weights, since the file at a URL never changes.
        let url = format!("{}?adapter={}", weights.url, encode_uri_component(&adapter.to_string()));
        SelectionRecord { cache: CacheStore::open(CACHE_NAME).await, url }
    }

    /// Returns the recorded selection, or `None` if there is none or the engines have changed since.
    pub async fn load(&self) -> Option<SelectedEngine> {
        let response = self.cache.as_ref()?.get(&self.url).await?;
        let text = JsFuture::from(response.text().ok()?).await.ok()?.as_string()?;
        [SelectedEngine::Cpu, SelectedEngine::WebGpu].into_iter().find(|selected| text == record_text(*selected))
    }

    pub async fn store(&self, selected: SelectedEngine) {
        if let Some(cache) = &self.cache {
            cache.put_text(&self.url, &record_text(selected)).await;
        }
    }
}

/// The stored text. It includes everything that the selection depends on in addition to adapter and model.
fn record_text(selected: SelectedEngine) -> String {
    format!("{selected:?}, {WEBGPU} of {}.{REVISION}", env!("CARGO_PKG_VERSION"))
}
