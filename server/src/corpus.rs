//! Replays the corpus of the fuzz targets for the server's parsers (`fuzz/`) without a fuzzer.

#[path = "../../fuzz/targets/json.rs"]
mod json;
#[path = "../../fuzz/targets/multipart.rs"]
mod multipart;
#[path = "../../fuzz/replay.rs"]
mod replay;
#[path = "../../fuzz/targets/tensors.rs"]
mod tensors;

use replay::replay;

#[test]
fn multipart_forms() {
    replay("multipart", multipart::check);
}

#[test]
fn json_documents() {
    replay("json", json::check);
}

#[test]
fn inference_requests() {
    replay("tensors", tensors::check);
}
