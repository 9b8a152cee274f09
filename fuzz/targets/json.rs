//! A JSON document with photos in base64, as the server takes them.
#![cfg_attr(fuzzing, no_main)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::prediction::Failure;
use serde_json::Value;
use server::parsers;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// What takes memory whatever the document's size: messages, and lists of as many photos as may be.
const BESIDE: usize = 4 << 10;

/// Photos that are what their base64 says, and are counted, or an error that says something; memory within a multiple of
/// the document.
pub fn check(bytes: &[u8]) {
    let ((read, held), taken) = crate::peak::of(|| parsers::json(bytes));
    let allowed = 8 * bytes.len() + BESIDE;
    assert!(taken <= allowed, "{} bytes took {taken} bytes of memory; {allowed} are allowed", bytes.len());
    let photos = match read {
        Ok(photos) => photos,
        Err(failure) => return assert_clear(&failure),
    };
    let document: Value = serde_json::from_slice(bytes).expect("it was read before");
    let mut texts = Vec::new();
    collect(&document, &mut texts);
    assert_eq!(photos.len(), texts.len());
    assert!((1..=parsers::PHOTOS).contains(&photos.len()));
    let kept: usize = photos.iter().flatten().map(Bytes::len).sum();
    assert!(kept <= held, "{held} bytes are counted as held, and {kept} are kept");
    for (photo, text) in photos.iter().zip(texts) {
        let base64 = match text.strip_prefix("data:") {
            Some(url) => url.find(";base64,").map(|at| &url[at + 8..]),
            None => Some(text),
        };
        match photo {
            Ok(photo) => assert_eq!(Some(STANDARD.encode(photo).as_str()), base64),
            Err(failure) => {
                assert_clear(failure);
                assert!(base64.is_none_or(|base64| STANDARD.decode(base64).is_err()), "{base64:?} is refused");
            }
        }
    }
}

/// Every text in their order, whatever holds it: a document is accepted that is a list of its fields' values, too.
fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, texts)),
        _ => {}
    }
}

fn assert_clear(failure: &Failure) {
    assert!(!failure.error.code.is_empty() && !failure.error.message.is_empty(), "{failure:?}");
}
