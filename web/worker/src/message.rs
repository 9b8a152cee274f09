//! What a page and its worker say to each other. Buffers change hands without being copied: what
//! [`Request::transfers`] lists belongs to the worker afterwards.

use js_sys::{Array, ArrayBuffer};
use model::explain::Explanation;
use model::prediction::{FailureDetail, Prediction};
use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

/// From the page. The first is [`Request::Load`], sent when the worker has said [`Reply::Awake`].
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Answered by many [`Reply::Progress`] and one [`Reply::Ready`] or [`Reply::Failure`].
    Load { weights: Weights, engine: Engine },
    /// Answered by one [`Reply::Prediction`] or [`Reply::Failure`] with the same `id`.
    Classify {
        id: u32,
        photo: Photo,
        top_k: usize,
        /// Whether the answer is to come with what spoke for it.
        #[serde(default)]
        explain: bool,
    },
}

/// Where a model's weights are and what they must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// The model's name, which its predictions carry.
    pub name: String,
    /// Absolute, since a worker's own address is another base than the page's. What lies there never changes.
    pub url: String,
    /// Of the file, as 64 lower-case hexadecimal digits.
    pub sha256: String,
    /// Length of the file.
    pub bytes: u64,
}

/// Which of the worker's engines is to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Engine {
    /// The CPU's at once, and WebGPU's from when it has proved to be faster here and to give the same answers.
    #[default]
    Auto,
    Cpu,
    /// The CPU's still answers where this one cannot be prepared, or fails.
    WebGpu,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Photo {
    /// A file as it came.
    Encoded {
        #[serde(with = "serde_wasm_bindgen::preserve")]
        bytes: ArrayBuffer,
    },
    /// u8 RGBA `[height, width, 4]`, upright: a canvas or a camera.
    Pixels {
        width: u32,
        height: u32,
        #[serde(with = "serde_wasm_bindgen::preserve")]
        rgba: ArrayBuffer,
    },
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The worker listens. What is sent earlier is lost: the module is still being compiled then.
    Awake,
    /// Of the weights, in bytes.
    Progress { received: u64, total: u64 },
    /// The model can be asked; `backend` is the name of the device that will answer first.
    Ready { backend: String },
    Prediction {
        id: u32,
        prediction: Prediction,
        /// If it was asked for.
        explanation: Option<Explanation>,
    },
    /// Without an `id` the model could not be loaded, or with the code [`PANIC`] the worker is gone.
    Failure { id: Option<u32>, error: FailureDetail },
}

/// The code of a failure after which the worker answers nothing more.
pub const PANIC: &str = "panic";
/// The code of a photo in a format that neither we nor the worker's browser decode.
pub const UNSUPPORTED_FORMAT: &str = "unsupported_format";

impl Request {
    pub fn to_js(&self) -> Result<JsValue, JsValue> {
        Ok(serde_wasm_bindgen::to_value(self)?)
    }

    /// The buffers to transfer with the message.
    pub fn transfers(&self) -> Array {
        match self {
            Request::Load { .. } => Array::new(),
            Request::Classify { photo: Photo::Encoded { bytes: buffer }, .. }
            | Request::Classify { photo: Photo::Pixels { rgba: buffer, .. }, .. } => Array::of1(buffer),
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
