//! The messages between a page and its worker. Buffers are transferred instead of copied: when a message has been sent,
//! the worker owns the buffers that [`Request::transfer_list`] returns.

use js_sys::{Array, ArrayBuffer};
use model::explain::Explanation;
use model::prediction::{FailureDetail, Prediction};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

/// A message from the page. The first one is [`Request::Load`], sent after [`Reply::Listening`] has been received.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Loads a model. The worker answers with any number of [`Reply::Progress`], then with one [`Reply::Ready`] or
    /// [`Reply::Failure`].
    Load { weights: WeightsFile, engine: EngineChoice },
    /// Classifies a photo. The worker answers with one [`Reply::Prediction`] or [`Reply::Failure`] with the same `id`.
    Classify {
        id: u32,
        photo: PhotoData,
        /// Number of classes in the reply.
        top_k: usize,
        /// Whether the reply should contain an explanation.
        #[serde(default)]
        explain: bool,
    },
}

/// The location of a model's weights, and what is needed to verify them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsFile {
    /// Name of the model, returned with its predictions.
    pub name: String,
    /// Absolute URL; a relative one would be resolved against the worker's URL instead of the page's. The file at a URL
    /// never changes.
    pub url: String,
    /// SHA-256 of the file, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Size of the file, in bytes.
    pub bytes: u64,
}

/// The engine that the page selects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineChoice {
    /// The CPU engine first, then WebGPU once it has proved to be faster on this device and to give the same answers.
    #[default]
    Auto,
    /// Only the CPU engine.
    Cpu,
    /// WebGPU. The CPU engine takes over if WebGPU cannot be prepared, or fails.
    WebGpu,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum PhotoData {
    /// An image file.
    Encoded {
        #[serde(with = "serde_wasm_bindgen::preserve")]
        bytes: ArrayBuffer,
    },
    /// Upright u8 RGBA pixels `[height, width, 4]`, for example from a canvas.
    Pixels {
        width: u32,
        height: u32,
        #[serde(with = "serde_wasm_bindgen::preserve")]
        rgba: ArrayBuffer,
    },
}

/// A message from the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The worker can receive messages. Messages sent earlier, while the module is still being compiled, are lost.
    Listening,
    /// Download progress of the weights, in bytes.
    Progress { received: u64, total: u64 },
    /// The model is ready; `backend` is the name of the device that will answer the first photo.
    Ready { backend: String },
    Prediction {
        id: u32,
        prediction: Prediction,
        /// Present if the request asked for it.
        explanation: Option<Explanation>,
    },
    /// A failure without an `id` means that the model could not be loaded or, with the code [`PANIC`], that the
    /// worker is unusable.
    Failure { id: Option<u32>, error: FailureDetail },
}

/// Code of the failure that reports a panic, after which the worker sends no further replies.
pub const PANIC: &str = "panic";
/// Code of the failure for a photo whose format neither our decoders nor the browser supports.
pub const UNSUPPORTED_FORMAT: &str = "unsupported_format";

impl Request {
    pub fn to_js(&self) -> Result<JsValue, JsValue> {
        Ok(serde_wasm_bindgen::to_value(self)?)
    }

    /// Returns the buffers to transfer with the message.
    pub fn transfer_list(&self) -> Array {
        match self {
            Request::Load { .. } => Array::new(),
            Request::Classify { photo: PhotoData::Encoded { bytes: buffer }, .. }
            | Request::Classify { photo: PhotoData::Pixels { rgba: buffer, .. }, .. } => Array::of1(buffer),
        }
    }

    pub fn from_js(value: JsValue) -> Result<Self, JsValue> {
        Ok(serde_wasm_bindgen::from_value(value)?)
    }
}

impl Reply {
    pub fn to_js(&self) -> Result<JsValue, JsValue> {
        Ok(serde_wasm_bindgen::to_value(self)?)
    }

    pub fn from_js(value: JsValue) -> Result<Self, JsValue> {
        Ok(serde_wasm_bindgen::from_value(value)?)
    }
}
