//! An inference request. The first two bytes tell how long its JSON is, unless they are 0xffff, and are no part of it.
#![cfg_attr(fuzzing, no_main)]

use half::f16;
use model::engine::Input;
use serde_json::Value;
use server::parsers;

#[cfg(fuzzing)]
#[path = "../peak.rs"]
mod peak;
#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes));

/// What takes memory whatever the request's size: the values of as many images as may be, twice, and messages.
const BESIDE: usize = 2 * 4 * parsers::IMAGES * 3 * parsers::SIDE * parsers::SIDE + (8 << 10);

/// As many images as the shape says, of the values that were sent, or an error that says something; memory within a
/// multiple of the request.
pub fn check(bytes: &[u8]) {
    let Some((length, body)) = bytes.split_first_chunk() else { return };
    let length = Some(usize::from(u16::from_le_bytes(*length))).filter(|&length| length != 0xffff);
    let (read, taken) = crate::peak::of(|| parsers::tensors(body, length));
    let allowed = 8 * bytes.len() + BESIDE;
    assert!(taken <= allowed, "{} bytes took {taken} bytes of memory; {allowed} are allowed", bytes.len());
    match read {
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
        assert_eq!(image.shape(), [1, parsers::SIDE, parsers::SIDE]);
        match image {
            Input::Pixels(image) => values.extend(image.pixels().iter().map(|&pixel| f32::from(pixel))),
            Input::Normalised(image) => values.extend(image.values()),
        }
    }
    assert!(values.iter().all(|value| value.is_finite()), "{values:?}");

    // Fields that we do not know may hold what this does not read; and a request is accepted that is a list of its values.
    let Ok(request) = serde_json::from_slice::<Value>(json) else { return };
    let Some(input) = request["inputs"][0].as_object() else { return };
    assert_eq!(input["shape"][0].as_u64(), Some(images.len() as u64));
    let mut sent = Vec::new();
    match (input.get("data"), input["datatype"].as_str()) {
        (Some(data), _) if !data.is_null() => collect(data, &mut sent),
        (_, Some("UINT8")) => sent.extend(binary.iter().map(|&byte| f32::from(byte))),
        (_, Some("FP32")) => sent.extend(binary.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes))),
        (_, Some("FP16")) => sent.extend(binary.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32())),
        (_, other) => panic!("{other:?} is accepted"),
    }
    assert_eq!(values, sent);
}

/// Every number in their order, however they are nested.
fn collect(data: &Value, numbers: &mut Vec<f32>) {
    match data {
        Value::Array(values) => values.iter().for_each(|value| collect(value, numbers)),
        Value::Number(number) => {
            let whole = number.as_u64().map(|whole| whole as f32).or(number.as_i64().map(|whole| whole as f32));
            numbers.push(whole.unwrap_or_else(|| number.as_f64().expect("it is a number") as f32));
        }
        other => panic!("{other} is accepted"),
    }
}
