use super::*;
use serde_json::{Value, json};

const EXPECTED: ExpectedInput = ExpectedInput { side: 2, max_images: 3, mean: [0.5; 3], std: [0.5; 3] };

fn zeros(count: usize) -> Vec<u8> {
    vec![0; count]
}

fn parse_json(request: Value) -> Result<ParsedRequest, String> {
    parse_with_binary(request, &[])
}

/// Parses a request that is followed by binary data.
fn parse_with_binary(request: Value, binary: &[u8]) -> Result<ParsedRequest, String> {
    let mut body = serde_json::to_vec(&request).unwrap();
    let length = body.len();
    body.extend(binary);
    parse_body(&body, Some(length))
}

fn parse_body(body: &[u8], json_length: Option<usize>) -> Result<ParsedRequest, String> {
    let parsed = parse(body, json_length, EXPECTED, &MemoryBudget::new(1000));
    parsed.map(|(request, _)| request).map_err(|error| error.into_failure().error.message)
}

fn pixels(input: &Input) -> &[u8] {
    match input {
        Input::Pixels(images) => images.pixels(),
        Input::Normalised(_) => panic!("expected pixels"),
    }
}

fn values(input: &Input) -> &[f32] {
    match input {
        Input::Normalised(images) => images.values(),
        Input::Pixels(_) => panic!("expected normalised values"),
    }
}

#[test]
fn pixels_in_json_may_be_flat_or_nested() {
    let expected: Vec<u8> = (0..12).collect();
    let nested: Vec<Vec<Vec<u8>>> = expected.chunks(6).map(|row| row.chunks(3).map(<[u8]>::to_vec).collect()).collect();
    for data in [json!(expected), json!([nested])] {
        let input = json!({ "name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": data });
        let request = parse_json(json!({ "id": "mine", "inputs": [input] })).unwrap();
        assert_eq!((request.id.as_deref(), request.images.len()), (Some("mine"), 1));
        assert_eq!(pixels(&request.images[0]), expected);
        assert_eq!(request.outputs, [OutputFormat { binary: false, classification: None }]);
    }
}

#[test]
fn tensors_may_be_binary_data() {
    let bytes: Vec<u8> = (0..24).collect();
    let input = json!({
        "name": "images", "datatype": "UINT8", "shape": [2, 2, 2, 3], "parameters": { "binary_data_size": 24 },
    });
    let request = parse_with_binary(json!({ "inputs": [input] }), &bytes).unwrap();
    assert_eq!(request.images.iter().map(pixels).collect::<Vec<_>>(), [&bytes[..12], &bytes[12..]]);

    let expected = [-1.5f32; 12];
    let single: Vec<u8> = expected.iter().flat_map(|value| value.to_le_bytes()).collect();
    let half: Vec<u8> = expected.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
    for (datatype, bytes) in [("FP32", single), ("FP16", half)] {
        let input = json!({
            "name": "input", "datatype": datatype, "shape": [1, 3, 2, 2],
            "parameters": { "binary_data_size": bytes.len() },
        });
        assert_eq!(values(&parse_with_binary(json!({ "inputs": [input] }), &bytes).unwrap().images[0]), expected);
    }
}

#[test]
fn memory_of_the_images_is_reserved() {
    let images = json!({ "name": "images", "datatype": "UINT8", "shape": [2, 2, 2, 3], "data": zeros(24) });
    let input = json!({ "name": "input", "datatype": "FP32", "shape": [2, 3, 2, 2], "data": zeros(24) });
    for (tensor, bytes) in [(images, 24), (input, 96)] {
        let body = json!({ "inputs": [tensor] }).to_string();
        let budget = MemoryBudget::new(bytes);
        let _parsed = parse(body.as_bytes(), None, EXPECTED, &budget).unwrap();
        assert_eq!(budget.reserved(), bytes, "{body}");
        let error = parse(body.as_bytes(), None, EXPECTED, &MemoryBudget::new(bytes - 1)).unwrap_err();
        assert_eq!(error.status, 503, "{body}");
    }
}

#[test]
fn integers_are_valid_floats() {
    let data = json!([1, -1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let input = json!({ "name": "input", "datatype": "FP32", "shape": [1, 3, 2, 2], "data": data });
    assert_eq!(values(&parse_json(json!({ "inputs": [input] })).unwrap().images[0])[..3], [1.0, -1.0, 0.5]);
}

#[test]
fn outputs_are_binary_if_they_or_the_request_say_so() {
    let input = json!({ "name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": zeros(12) });
    for (binary_output, outputs, binary, classification) in [
        (false, json!([]), false, None),
        (true, json!([]), true, None),
        (true, json!([{ "name": "logits" }]), true, None),
        (true, json!([{ "name": "logits", "parameters": { "binary_data": false } }]), false, None),
        (false, json!([{ "name": "logits", "parameters": { "binary_data": true } }]), true, None),
        (false, json!([{ "name": "logits", "parameters": { "classification": 3 } }]), false, Some(3)),
        (false, json!([{ "name": "logits", "parameters": { "classification": 0 } }]), false, None),
    ] {
        let request = json!({
            "inputs": [input], "outputs": outputs, "parameters": { "binary_data_output": binary_output },
        });
        assert_eq!(parse_json(request).unwrap().outputs, [OutputFormat { binary, classification }], "{outputs}");
    }
}

#[test]
fn null_fields_are_absent() {
    let input =
        json!({ "name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": zeros(12), "parameters": null });
    let request = |more: Value| {
        let mut request = json!({ "inputs": [input] });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        parse_json(request)
    };
    for more in [
        json!({ "id": null }),
        json!({ "parameters": null }),
        json!({ "parameters": { "binary_data_output": null } }),
        json!({ "outputs": null }),
        json!({ "outputs": [{ "name": "logits", "parameters": null }] }),
        json!({ "outputs": [{ "name": "logits", "parameters": { "binary_data": null, "classification": null } }] }),
    ] {
        let parsed = request(more.clone()).unwrap_or_else(|error| panic!("{error} for {more}"));
        assert_eq!(
            (parsed.id, parsed.outputs),
            (None, vec![OutputFormat { binary: false, classification: None }]),
            "{more}"
        );
    }
    assert!(request(json!({ "inputs": null })).unwrap_err().contains("one input"));
}

#[test]
fn errors_name_the_problem() {
    let valid = json!({ "name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": zeros(12) });
    let with = |key: &str, value: Value| {
        let mut input = valid.clone();
        input[key] = value;
        json!({ "inputs": [input] })
    };
    let float = |data: Value| json!({ "inputs": [{ "name": "input", "datatype": "FP32", "shape": [1, 3, 2, 2], "data": data }] });
    for (request, words) in [
        (json!({}), &["one input", "inputs"][..]),
        (json!({ "id": "x".repeat(1025), "inputs": [valid] }), &["id", "1024"]),
        (json!({ "inputs": [] }), &["one input", "images", "input"]),
        (json!({ "inputs": [valid, valid] }), &["one input"]),
        (with("name", json!("pixels")), &["pixels", "images"]),
        (with("datatype", json!("FP32")), &["UINT8", "FP32"]),
        (with("shape", json!([1, 224, 224, 3])), &["[1, 224, 224, 3]", "[n, 2, 2, 3]"]),
        (with("shape", json!([0, 2, 2, 3])), &["[0, 2, 2, 3]"]),
        (with("shape", json!([])), &["[]"]),
        (with("shape", json!([-1, 2, 2, 3])), &["-1"]),
        (with("shape", json!([4, 2, 2, 3])), &["at most 3", "4"]),
        (with("shape", json!([u64::MAX, 2, 2, 3])), &["at most 3"]),
        (with("data", json!(zeros(11))), &["12 values", "11"]),
        (with("data", json!(zeros(13))), &["more than 12"]),
        (with("data", json!([256, 0])), &["256"]),
        (with("data", json!([0.5, 0])), &["0.5"]),
        (with("data", json!("AAAA")), &["integers"]),
        (with("data", json!(null)), &["missing"]),
        (with("parameters", json!({ "binary_data_size": 12 })), &["mutually exclusive"]),
        (float(json!([1e39, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])), &["inf"]),
        (json!({ "inputs": [valid], "outputs": [{ "name": "softmax" }] }), &["softmax", "logits"]),
        (
            json!({ "inputs": [valid], "outputs": [{ "name": "logits" }, { "name": "logits" }] }),
            &["at most one output"],
        ),
    ] {
        let error = parse_json(request.clone()).unwrap_err();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} in {error:?} for {request}");
    }
}

#[test]
fn error_messages_do_not_mention_rust_types() {
    let tensor = r#"{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": "#;
    for request in [
        "1".to_owned(),
        "[]".to_owned(),
        "{".to_owned(),
        r#"{"id": 1}"#.to_owned(),
        r#"{"parameters": 1}"#.to_owned(),
        r#"{"parameters": {"binary_data_output": 1}}"#.to_owned(),
        r#"{"inputs": 1}"#.to_owned(),
        r#"{"inputs": [1]}"#.to_owned(),
        r#"{"inputs": [{"name": 1}]}"#.to_owned(),
        r#"{"inputs": [{"shape": 1}]}"#.to_owned(),
        r#"{"inputs": [{"shape": [-1]}]}"#.to_owned(),
        r#"{"inputs": [{"shape": [1.5]}]}"#.to_owned(),
        r#"{"inputs": [{"shape": ["1"]}]}"#.to_owned(),
        r#"{"inputs": [{"datatype": []}]}"#.to_owned(),
        r#"{"inputs": [{"parameters": 1}]}"#.to_owned(),
        r#"{"inputs": [{"parameters": {"binary_data_size": -1}}]}"#.to_owned(),
        r#"{"outputs": [1]}"#.to_owned(),
        r#"{"outputs": [{"parameters": 1}]}"#.to_owned(),
        r#"{"outputs": [{"parameters": {"binary_data": 1}}]}"#.to_owned(),
        r#"{"outputs": [{"parameters": {"classification": "1"}}]}"#.to_owned(),
        format!("{tensor}[256]}}]}}"),
        format!("{tensor}[-1]}}]}}"),
        format!("{tensor}[0.5]}}]}}"),
        format!("{tensor}true}}]}}"),
    ] {
        let message = parse_body(request.as_bytes(), None).unwrap_err();
        let rust_names =
            ["struct ", "u8", "u64", "i64", "f32", "f64", "bool ", "usize", "Request", "Parameters", "InputTensor"];
        assert!(!rust_names.iter().any(|name| message.contains(name)), "{message:?} for {request}");
    }
}

#[test]
fn errors_of_binary_data_name_the_problem() {
    let input = |size: u64| {
        json!({ "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "parameters": { "binary_data_size": size },
        }]})
    };
    for (size, bytes, words) in [
        (12, 11, "11 bytes follow"),
        (12, 13, "13 bytes follow"),
        (11, 11, "12 bytes"),
        (u64::MAX, 12, "12 bytes follow"),
    ] {
        let error = parse_with_binary(input(size), &vec![0; bytes]).unwrap_err();
        assert!(error.contains(words), "{words} in {error}");
    }
    let json =
        json!({ "inputs": [{ "name": "images", "datatype": "UINT8", "shape": [1, 2, 2, 3], "data": zeros(12) }] });
    assert!(parse_with_binary(json, &[0]).unwrap_err().contains("1 unexpected trailing bytes"));
    assert!(parse_body(b"{}", Some(3)).unwrap_err().contains("3 bytes"));
    let not_finite: Vec<u8> = [f32::NAN; 12].iter().flat_map(|value| value.to_le_bytes()).collect();
    let input = json!({ "inputs": [{
        "name": "input", "datatype": "FP32", "shape": [1, 3, 2, 2], "parameters": { "binary_data_size": 48 },
    }]});
    assert!(parse_with_binary(input, &not_finite).unwrap_err().contains("NaN"));
}

#[test]
fn deeply_nested_arrays_are_rejected() {
    let deep =
        format!(r#"{{"inputs":[{{"name":"images","datatype":"UINT8","shape":[1,2,2,3],"data":{}"#, "[".repeat(100_000));
    assert!(parse_body(deep.as_bytes(), None).is_err());
}
