"""Invalid requests get a status of 400 to 499 and an error message that names the problem."""

import json

import numpy
import pytest
import tritonclient.http
from conftest import LOGITS, MODEL, NORMALISED, PIXELS, assert_error, image_input, tensor_input

INFER = f"/v2/models/{MODEL}/infer"


def test_unknown_models_and_versions(client, pixels):
    assert_error(lambda: client.infer("nowhere", [image_input(pixels[:1])]), "nowhere")
    assert_error(lambda: client.infer(MODEL, [image_input(pixels[:1])], model_version="no-such-version"), "no-such-version")


def test_unknown_inputs(client, pixels):
    assert_error(lambda: client.infer(MODEL, [tensor_input("photos", pixels[:1], "UINT8")]), "photos")


def test_unknown_outputs(client, pixels):
    outputs = [tritonclient.http.InferRequestedOutput("probabilities")]
    assert_error(lambda: client.infer(MODEL, [image_input(pixels[:1])], outputs=outputs), "probabilities")


def test_wrong_number_of_inputs(client, pixels, normalised):
    assert_error(lambda: client.infer(MODEL, []), "input")
    both = [image_input(pixels[:1]), tensor_input(NORMALISED, normalised[:1], "FP32")]
    assert_error(lambda: client.infer(MODEL, both))
    assert_error(lambda: client.infer(MODEL, [image_input(pixels[:1])] * 2))


@pytest.mark.parametrize("name, kind, datatype", [
    (PIXELS, numpy.int32, "INT32"),
    (PIXELS, numpy.float32, "FP32"),
    (NORMALISED, numpy.uint8, "UINT8"),
    (NORMALISED, numpy.float64, "FP64"),
    (NORMALISED, numpy.bool_, "BOOL"),
])
def test_wrong_datatypes(client, pixels, normalised, name, kind, datatype):
    array = (pixels if name == PIXELS else normalised)[:1].astype(kind)
    assert_error(lambda: client.infer(MODEL, [tensor_input(name, array, datatype)]), datatype)


@pytest.mark.parametrize("change", [
    lambda pixels: pixels[0],
    lambda pixels: pixels[None, :1],
    lambda pixels: pixels[:0],
    lambda pixels: pixels[:1, :, :, :2],
    lambda pixels: pixels[:1, :-1],
    lambda pixels: pixels[:1].transpose(0, 3, 1, 2),
], ids=["rank 3", "rank 5", "no image", "two channels", "one row less", "channels first"])
def test_wrong_shapes(client, pixels, change):
    array = numpy.ascontiguousarray(change(pixels))
    assert_error(lambda: client.infer(MODEL, [image_input(array)]), PIXELS)


def test_normalised_input_with_channels_last(client, normalised):
    array = numpy.ascontiguousarray(normalised[:1].transpose(0, 2, 3, 1))
    assert_error(lambda: client.infer(MODEL, [tensor_input(NORMALISED, array, "FP32")]), NORMALISED)


@pytest.mark.parametrize("binary", (True, False))
@pytest.mark.parametrize("batch", (2, 10**6, 2**40))
def test_shape_larger_than_data(client, pixels, binary, batch):
    tensor = image_input(pixels[:1], binary)
    tensor.set_shape([batch, *pixels.shape[1:]])
    assert_error(lambda: client.infer(MODEL, [tensor]))


def test_shape_overflows_memory(client, pixels):
    tensor = image_input(pixels[:1])
    tensor.set_shape([2**62, 2**62, 2**62, 3])
    assert_error(lambda: client.infer(MODEL, [tensor]))


def test_shape_smaller_than_data(client, pixels):
    tensor = image_input(pixels[:2])
    tensor.set_shape([1, *pixels.shape[1:]])
    assert_error(lambda: client.infer(MODEL, [tensor]))


@pytest.mark.parametrize("value", (numpy.nan, numpy.inf, -numpy.inf))
def test_values_that_are_not_finite(client, normalised, value):
    array = normalised[:1].copy()
    array[0, 1, 2, 3] = value
    assert_error(lambda: client.infer(MODEL, [tensor_input(NORMALISED, array, "FP32")]))


def test_body_too_large(client, pixels):
    """The client receives the response although the server does not read the whole body."""
    images = numpy.broadcast_to(pixels[:1], (400, *pixels.shape[1:]))
    assert_error(lambda: client.infer(MODEL, [image_input(numpy.ascontiguousarray(images))]), status=(413,))


@pytest.mark.parametrize("value", (256, -1, 1.5, "1", None, True, {}))
def test_values_that_are_not_u8(post, pixels, value):
    data = pixels[:1].ravel().tolist()
    data[7] = value
    description = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape), "data": data}
    status, response = post(INFER, json.dumps({"inputs": [description]}))
    assert status in range(400, 500) and response["error"], response


@pytest.mark.parametrize("body", [
    b"",
    b"{",
    b"[]",
    b"null",
    b"{}",
    b'{"inputs": {}}',
    b'{"inputs": [{}]}',
    b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, 224, 224, 3], "data": []}]}',
    b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": "all", "data": []}]}',
    b'{"inputs": [{"name": "images", "datatype": "UINT8", "shape": [1, 224, 224, 3]}]}',
    b'{"inputs": ' + b"[" * 100_000,
    b"\xff\xfe",
])
def test_bodies_that_are_not_requests(post, body):
    status, response = post(INFER, body, {"Content-Type": "application/json"})
    assert status in range(400, 500), (status, response)
    assert isinstance(response["error"], str) and response["error"], response


@pytest.mark.parametrize("length", ["-1", "one", "", "99999999", "18446744073709551616", "3"])
def test_wrong_header_length(post, pixels, length):
    description = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape)}
    description["parameters"] = {"binary_data_size": pixels[:1].size}
    body = json.dumps({"inputs": [description]}).encode() + pixels[:1].tobytes()
    status, response = post(INFER, body, {"Inference-Header-Content-Length": length})
    assert status in range(400, 500), (status, response)
    assert isinstance(response["error"], str) and response["error"], response


@pytest.mark.parametrize("claimed_size", [
    lambda _: 0,
    lambda _: 1,
    lambda size: size - 1,
    lambda size: size + 1,
    lambda size: -size,
    lambda _: 2**63,
    lambda size: size + 2**64,
    str,
    lambda _: None,
])
def test_wrong_binary_data_size(post, pixels, claimed_size):
    description = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape)}
    description["parameters"] = {"binary_data_size": claimed_size(pixels[:1].size)}
    header = json.dumps({"inputs": [description]}).encode()
    status, response = post(INFER, header + pixels[:1].tobytes(), {"Inference-Header-Content-Length": str(len(header))})
    assert status in range(400, 500), (status, response)
    assert isinstance(response["error"], str) and response["error"], response


@pytest.mark.parametrize("count", (-1, "five", 1.5, True))
def test_invalid_class_counts(post, pixels, count):
    description = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape), "data": pixels[:1].ravel().tolist()}
    outputs = [{"name": LOGITS, "parameters": {"classification": count}}]
    status, response = post(INFER, json.dumps({"inputs": [description], "outputs": outputs}))
    assert status in range(400, 500) and response["error"], response


def test_server_still_works_after_errors(logits, pixels):
    assert numpy.isfinite(logits(image_input(pixels[:1]))).all()
