//! What fuzzing found and how it got there (`fuzz/`), once more without a fuzzer.

#[path = "../../fuzz/targets/json.rs"]
mod json;
#[path = "../../fuzz/targets/multipart.rs"]
mod multipart;
#[path = "../../fuzz/peak.rs"]
mod peak;
#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/targets/tensors.rs"]
mod tensors;

use replay::replay;

#[test]
fn forms() {
    replay("multipart", multipart::check);
}

#[test]
fn documents() {
    replay("json", json::check);
}

#[test]
fn inference_requests() {
    replay("tensors", tensors::check);
}
