//! Fuzzes the parser of inference requests. The first two bytes of the input are the length of the JSON, 0xffff if no
//! binary data follows it; they are not part of the request.
#![cfg_attr(fuzzing, no_main)]

use half::f16;
use model::engine::Input;
use serde_json::Value;
use server::fuzz_api;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// Memory in bytes that is allowed for a request of any size: the values of the maximum number of images, twice, and
/// messages.
const BASE_MEMORY: usize = 2 * 4 * fuzz_api::MAX_IMAGES * 3 * fuzz_api::SIDE * fuzz_api::SIDE + (8 << 10);

/// Checks that a request yields as many images as its shape declares, with the values that were sent, or an error with
/// code and message; and that parsing takes memory within a multiple of the request.
pub fn check(bytes: &[u8]) {
    let Some((length, body)) = bytes.split_first_chunk() else { return };
    let length = Some(usize::from(u16::from_le_bytes(*length))).filter(|&length| length != 0xffff);
    let (parsed, peak) = crate::peak::measure(|| fuzz_api::parse_tensors(body, length));
    let allowed = 8 * bytes.len() + BASE_MEMORY;
    assert!(peak <= allowed, "parsing {} bytes took {peak} bytes of memory; {allowed} are allowed", bytes.len());
    match parsed {
        Ok(images) => {
            let (json, binary) = body.split_at(length.unwrap_or(body.len()));
            check_accepted(&images, json, binary);
        }
        Err(failure) => {
            assert!(!failure.error.code.is_empty() && !failure.error.message.is_empty(), "{failure:?}");
        }
    }
}

fn check_accepted(images: &[Input], json: &[u8], binary: &[u8]) {
    let mut values = Vec::new();
    for image in images {
        assert_eq!(image.shape(), [1, fuzz_api::SIDE, fuzz_api::SIDE]);
        match image {
            Input::Pixels(image) => values.extend(image.pixels().iter().map(|&pixel| f32::from(pixel))),
            Input::Normalised(image) => values.extend(image.values()),
        }
    }
    assert!(values.iter().all(|value| value.is_finite()), "{values:?}");

    // `serde_json::Value` cannot represent some of what unknown fields may hold, and a request may also be an array of
    // the values of its fields: such requests are not checked further.
    let Ok(request) = serde_json::from_slice::<Value>(json) else { return };
    let Some(input) = request["inputs"][0].as_object() else { return };
    assert_eq!(input["shape"][0].as_u64(), Some(images.len() as u64));
    let mut sent = Vec::new();
    match (input.get("data"), input["datatype"].as_str()) {
        (Some(data), _) if !data.is_null() => collect(data, &mut sent),
        (_, Some("UINT8")) => sent.extend(binary.iter().map(|&byte| f32::from(byte))),
        (_, Some("FP32")) => sent.extend(binary.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
        (_, Some("FP16")) => sent.extend(binary.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32())),
        (_, other) => panic!("{other:?} was accepted"),
    }
    assert_eq!(values, sent);
}

/// Collects all numbers in document order, at any depth.
fn collect(data: &Value, numbers: &mut Vec<f32>) {
    match data {
        Value::Array(values) => values.iter().for_each(|value| collect(value, numbers)),
        Value::Number(number) => {
            let whole = number.as_u64().map(|whole| whole as f32).or(number.as_i64().map(|whole| whole as f32));
            numbers.push(whole.unwrap_or_else(|| number.as_f64().expect("a JSON number is a float") as f32));
        }
        other => panic!("{other} was accepted"),
    }
}
