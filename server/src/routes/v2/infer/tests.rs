use super::*;
use crate::fixture::{self, TestResponse, app, get, post};
use serde_json::{Value, json};

const SIDE: usize = 224;
const PIXELS: usize = SIDE * SIDE * 3;

fn request(greys: &[u8], output: Value) -> (String, Vec<u8>) {
    let request = json!({
        "id": "7",
        "inputs": [{
            "name": "images", "datatype": "UINT8", "shape": [greys.len(), SIDE, SIDE, 3],
            "parameters": { "binary_data_size": greys.len() * PIXELS },
        }],
        "outputs": [{ "name": "logits", "parameters": output }],
    });
    (request.to_string(), greys.iter().flat_map(|&grey| vec![grey; PIXELS]).collect())
}

async fn infer(path: &str, greys: &[u8], output: Value) -> TestResponse {
    infer_with(&app(), path, greys, output).await
}

async fn infer_with(app: &Arc<App>, path: &str, greys: &[u8], output: Value) -> TestResponse {
    let (json, binary) = request(greys, output);
    let http = axum::http::Request::post(path).header(HEADER_LENGTH, json.len());
    let body = [json.into_bytes(), binary].concat();
    fixture::send(app, http.body(body.into()).unwrap()).await
}

#[tokio::test]
async fn returns_logits_of_every_image() {
    let response = infer("/v2/models/large/infer", &[3, 200, 77], json!({})).await;
    assert_eq!(response.status, 200, "{}", response.body);
    let json = response.json();
    assert_eq!((&json["id"], &json["model_name"]), (&json!("7"), &json!("large")));
    assert_eq!(json["model_version"].as_str().unwrap().len(), 64);
    let output = &json["outputs"][0];
    assert_eq!(
        (&output["name"], &output["datatype"], &output["shape"]),
        (&json!("logits"), &json!("FP32"), &json!([3, 256]))
    );
    let logits: Vec<f32> = serde_json::from_value(output["data"].clone()).unwrap();
    let top_classes: Vec<usize> = logits.chunks(256).map(|row| top_k_indices(row, 1)[0]).collect();
    assert_eq!(top_classes, [3, 200, 77]);
}

#[tokio::test]
async fn classes_are_logit_index_and_label() {
    let json = infer("/v2/models/large/infer", &[3, 200], json!({ "classification": 2 })).await.json();
    let output = &json["outputs"][0];
    assert_eq!((&output["datatype"], &output["shape"]), (&json!("BYTES"), &json!([2, 2])));
    assert_eq!(output["data"][0], "1.000000:3:label 3");
    assert_eq!(output["data"][2], "1.000000:200:label 200");
    let json = infer("/v2/models/small/infer", &[0], json!({ "classification": 9 })).await.json();
    assert_eq!(json["outputs"][0]["shape"], json!([1, 2]));
}

/// Clients of the protocol compute their own probabilities.
#[tokio::test]
async fn logits_are_not_divided_by_the_temperature() {
    let app = fixture::app_with_model(fixture::calibrated_model(2.0, 0.9));
    for (parameters, expected) in [
        (json!({}), json!([1.0, 0.0])),
        (json!({ "classification": 2 }), json!(["1.000000:0:label 0", "0.000000:1:label 1"])),
    ] {
        let json = infer_with(&app, "/v2/models/calibrated/infer", &[0], parameters).await.json();
        assert_eq!(json["outputs"][0]["data"], expected);
    }
}

#[tokio::test]
async fn binary_outputs_follow_the_json() {
    for (parameters, expected) in [
        (json!({ "binary_data": true }), [1f32, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>()),
        (
            json!({ "binary_data": true, "classification": 1 }),
            [&18u32.to_le_bytes()[..], b"1.000000:0:label 0"].concat(),
        ),
    ] {
        let (json, binary) = request(&[0], parameters);
        let http = axum::http::Request::post("/v2/models/small/infer").header(HEADER_LENGTH, json.len());
        let response = fixture::send_raw(&app(), http.body([json.into_bytes(), binary].concat().into()).unwrap()).await;
        let length: usize = response.headers()[HEADER_LENGTH].to_str().unwrap().parse().unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let (json, binary) = body.split_at(length);
        let json: Value = serde_json::from_slice(json).unwrap();
        assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], expected.len());
        assert_eq!(binary, expected);
    }
}

#[tokio::test]
async fn model_is_selected_by_name_and_version() {
    let version = get(&app(), "/v2/models/small").await.json()["versions"][0].as_str().unwrap().to_owned();
    for (version, status) in [(&version[..], 200), (&version[..12], 200), (&version[..4], 404), ("00000000", 404)] {
        let response = infer(&format!("/v2/models/small/versions/{version}/infer"), &[0], json!({})).await;
        assert_eq!(response.status, status, "{version}: {}", response.body);
    }
    let response = infer("/v2/models/medium/infer", &[0], json!({})).await;
    assert_eq!(response.status, 404);
    assert!(response.json()["error"].as_str().unwrap().contains("small, large"), "{}", response.body);
}

#[tokio::test]
async fn errors_are_a_single_message() {
    let response = post(&app(), "/v2/models/small/infer", "application/json", "{}").await;
    assert_eq!(response.status, 400);
    assert!(response.json()["error"].as_str().unwrap().contains("inputs"), "{}", response.body);
    let response = post(&app(), "/v2/models/small/infer", "application/json", vec![b' '; 21_000_000]).await;
    assert_eq!(response.status, 413);
}

#[tokio::test]
async fn metadata_describes_inputs_and_outputs() {
    let app = app();
    app.registry.wait_until_ready().await.unwrap();
    let model = get(&app, "/v2/models/small").await.json();
    assert_eq!(model["inputs"][0], json!({ "name": "images", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3] }));
    assert_eq!(model["inputs"][1], json!({ "name": "input", "datatype": "FP32", "shape": [-1, 3, SIDE, SIDE] }));
    assert_eq!(model["outputs"][0], json!({ "name": "logits", "datatype": "FP32", "shape": [-1, 2] }));
    for path in ["/v2/health/live", "/v2/health/ready", "/v2/models/small/ready", "/v2/models/small/config", "/v2"] {
        assert_eq!(get(&app, path).await.status, 200, "{path}");
    }
    assert_eq!(get(&app, "/v2/models/medium/ready").await.status, 404);
}
