//! Fuzzes the parser of JSON documents with photos in base64.
#![cfg_attr(fuzzing, no_main)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::prediction::Failure;
use serde_json::Value;
use server::fuzz_api;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// Memory in bytes that is allowed for a document of any size: messages, and lists of the maximum number of photos.
const BASE_MEMORY: usize = 4 << 10;

/// Checks that a document yields the photos that its base64 encodes, with memory reserved for them, or an error with
/// code and message; and that parsing takes memory within a multiple of the document.
pub fn check(bytes: &[u8]) {
    let ((parsed, reserved), peak) = crate::peak::measure(|| fuzz_api::parse_json(bytes));
    let allowed = 8 * bytes.len() + BASE_MEMORY;
    assert!(peak <= allowed, "parsing {} bytes took {peak} bytes of memory; {allowed} are allowed", bytes.len());
    let photos = match parsed {
        Ok(photos) => photos,
        Err(failure) => return assert_has_message(&failure),
    };
    let document: Value = serde_json::from_slice(bytes).expect("the document was parsed before");
    let mut texts = Vec::new();
    collect(&document, &mut texts);
    assert_eq!(photos.len(), texts.len());
    assert!((1..=fuzz_api::MAX_PHOTOS).contains(&photos.len()));
    let photo_bytes: usize = photos.iter().flatten().map(Bytes::len).sum();
    assert!(photo_bytes <= reserved, "{reserved} bytes are reserved for {photo_bytes} bytes of photos");
    for (photo, text) in photos.iter().zip(texts) {
        let base64 = match text.strip_prefix("data:") {
            Some(url) => url.find(";base64,").map(|at| &url[at + 8..]),
            None => Some(text),
        };
        match photo {
            Ok(photo) => assert_eq!(Some(STANDARD.encode(photo).as_str()), base64),
            Err(failure) => {
                assert_has_message(failure);
                assert!(base64.is_none_or(|base64| STANDARD.decode(base64).is_err()), "{base64:?} was rejected");
            }
        }
    }
}

/// Collects all strings in document order, at any depth: a document may also be an array of the values of its fields.
fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

fn assert_has_message(failure: &Failure) {
    assert!(!failure.error.code.is_empty() && !failure.error.message.is_empty(), "{failure:?}");
}
