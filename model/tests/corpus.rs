//! Replays the corpora of the fuzz targets (`fuzz/`) without a fuzzer.

#![cfg(not(target_arch = "wasm32"))]

#[path = "../../fuzz/targets/image.rs"]
mod image;
#[cfg(feature = "onnx")]
#[path = "../../fuzz/targets/onnx.rs"]
mod onnx;
#[path = "../../fuzz/peak.rs"]
mod peak;
#[path = "../../fuzz/targets/pickle.rs"]
mod pickle;
#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/targets/safetensors.rs"]
mod safetensors;

use replay::replay;

#[test]
fn images() {
    replay("image", image::check);
}

#[test]
fn pickles() {
    replay("pickle", pickle::check);
}

#[cfg(feature = "onnx")]
#[test]
fn onnx_files() {
    replay("onnx", onnx::check);
}

#[test]
fn checkpoints() {
    replay("safetensors", safetensors::check);
}
