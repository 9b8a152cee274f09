//! Fuzzes the parser of JSON documents with photos in base64.
#![cfg_attr(fuzzing, no_main)]

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
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
    // Line breaks are accepted within strings, too.
    let spaced: Vec<u8> = bytes.iter().map(|byte| if b"\n\r\t".contains(byte) { b' ' } else { *byte }).collect();
    let document: Value = serde_json::from_slice(&spaced).expect("the document was parsed before");
    let mut texts = Vec::new();
    collect_photos(&document, &mut texts);
    assert_eq!(photos.len(), texts.len());
    assert!((1..=fuzz_api::MAX_PHOTOS).contains(&photos.len()));
    let photo_bytes: usize = photos.iter().flatten().map(Bytes::len).sum();
    assert!(photo_bytes <= reserved, "{reserved} bytes are reserved for {photo_bytes} bytes of photos");
    for (photo, text) in photos.iter().zip(texts) {
        let base64 = canonical(text);
        match photo {
            Ok(photo) => assert_eq!(STANDARD_NO_PAD.encode(photo), base64),
            Err(failure) => {
                assert_has_message(failure);
                assert!(STANDARD.decode(text).is_err(), "{text:?} was rejected");
            }
        }
    }
}

/// Converts the variants of base64 to the standard alphabet without padding, white space and the prefix of a data URL.
fn canonical(text: &str) -> String {
    let text = text.trim_ascii();
    let is_url = text.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"));
    let base64 = if is_url { text.split_once(',').map_or("", |(_, base64)| base64) } else { text };
    let replace = |c: char| match c {
        '-' => '+',
        '_' => '/',
        other => other,
    };
    let kept = base64.chars().filter(|c| !c.is_ascii_whitespace() && *c != '=');
    kept.map(replace).collect()
}

/// Collects the strings of `image` and `images`, which are the first two elements if the document is an array of the
/// values of its fields.
fn collect_photos<'a>(document: &'a Value, texts: &mut Vec<&'a str>) {
    match document {
        Value::Array(values) => values.iter().take(2).for_each(|value| collect(value, texts)),
        Value::Object(fields) => {
            ["image", "images"].iter().filter_map(|name| fields.get(*name)).for_each(|value| collect(value, texts));
        }
        _ => {}
    }
}

/// Collects all strings in order, at any depth.
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
