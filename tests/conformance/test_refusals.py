"""What is wrong is refused: by a status of 400 to 499, in words that name it, and soon."""

import json

import numpy
import pytest
import tritonclient.http
from conftest import LOGITS, MODEL, NORMALISED, PIXELS, images, refused, tensor

INFER = f"/v2/models/{MODEL}/infer"


def test_models_and_versions_that_are_not_there(client, pixels):
    refused(lambda: client.infer("nowhere", [images(pixels[:1])]), "nowhere")
    refused(lambda: client.infer(MODEL, [images(pixels[:1])], model_version="no-such-version"), "no-such-version")


def test_inputs_of_other_names(client, pixels):
    refused(lambda: client.infer(MODEL, [tensor("photos", pixels[:1], "UINT8")]), "photos")


def test_outputs_of_other_names(client, pixels):
    outputs = [tritonclient.http.InferRequestedOutput("probabilities")]
    refused(lambda: client.infer(MODEL, [images(pixels[:1])], outputs=outputs), "probabilities")


def test_no_input_and_too_many(client, pixels, normalised):
    refused(lambda: client.infer(MODEL, []), "input")
    both = [images(pixels[:1]), tensor(NORMALISED, normalised[:1], "FP32")]
    refused(lambda: client.infer(MODEL, both))
    refused(lambda: client.infer(MODEL, [images(pixels[:1])] * 2))


@pytest.mark.parametrize("name, kind, datatype", [
    (PIXELS, numpy.int32, "INT32"),
    (PIXELS, numpy.float32, "FP32"),
    (NORMALISED, numpy.uint8, "UINT8"),
    (NORMALISED, numpy.float64, "FP64"),
    (NORMALISED, numpy.bool_, "BOOL"),
])
def test_other_datatypes(client, pixels, normalised, name, kind, datatype):
    array = (pixels if name == PIXELS else normalised)[:1].astype(kind)
    refused(lambda: client.infer(MODEL, [tensor(name, array, datatype)]), datatype)


@pytest.mark.parametrize("change", [
    lambda pixels: pixels[0],
    lambda pixels: pixels[None, :1],
    lambda pixels: pixels[:0],
    lambda pixels: pixels[:1, :, :, :2],
    lambda pixels: pixels[:1, :-1],
    lambda pixels: pixels[:1].transpose(0, 3, 1, 2),
], ids=["rank 3", "rank 5", "no image", "two channels", "a row less", "channels first"])
def test_other_shapes(client, pixels, change):
    array = numpy.ascontiguousarray(change(pixels))
    refused(lambda: client.infer(MODEL, [images(array)]), PIXELS)


def test_floats_with_channels_last(client, normalised):
    array = numpy.ascontiguousarray(normalised[:1].transpose(0, 2, 3, 1))
    refused(lambda: client.infer(MODEL, [tensor(NORMALISED, array, "FP32")]), NORMALISED)


@pytest.mark.parametrize("binary", (True, False))
@pytest.mark.parametrize("images_said", (2, 10**6, 2**40))
def test_more_in_the_shape_than_in_the_data(client, pixels, binary, images_said):
    made = images(pixels[:1], binary)
    made.set_shape([images_said, *pixels.shape[1:]])
    refused(lambda: client.infer(MODEL, [made]))


def test_sizes_beyond_any_memory(client, pixels):
    made = images(pixels[:1])
    made.set_shape([2**62, 2**62, 2**62, 3])
    refused(lambda: client.infer(MODEL, [made]))


def test_less_in_the_shape_than_in_the_data(client, pixels):
    made = images(pixels[:2])
    made.set_shape([1, *pixels.shape[1:]])
    refused(lambda: client.infer(MODEL, [made]))


@pytest.mark.parametrize("value", (numpy.nan, numpy.inf, -numpy.inf))
def test_numbers_that_are_none(client, normalised, value):
    array = normalised[:1].copy()
    array[0, 1, 2, 3] = value
    refused(lambda: client.infer(MODEL, [tensor(NORMALISED, array, "FP32")]))


def test_more_bytes_than_a_body_may_have(client, pixels):
    """The answer is read, though the server need not read all that comes."""
    many = numpy.broadcast_to(pixels[:1], (400, *pixels.shape[1:]))
    refused(lambda: client.infer(MODEL, [images(numpy.ascontiguousarray(many))]), status=(413,))


@pytest.mark.parametrize("value", (256, -1, 1.5, "1", None, True, {}))
def test_values_that_are_no_bytes(post, pixels, value):
    data = pixels[:1].ravel().tolist()
    data[7] = value
    described = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape), "data": data}
    status, answer = post(INFER, json.dumps({"inputs": [described]}))
    assert status in range(400, 500) and answer["error"], answer


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
def test_bodies_that_are_no_requests(post, body):
    status, answer = post(INFER, body, {"Content-Type": "application/json"})
    assert status in range(400, 500), (status, answer)
    assert isinstance(answer["error"], str) and answer["error"], answer


@pytest.mark.parametrize("length", ["-1", "one", "", "99999999", "18446744073709551616", "3"])
def test_headers_that_are_not_as_long_as_they_say(post, pixels, length):
    described = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape)}
    described["parameters"] = {"binary_data_size": pixels[:1].size}
    body = json.dumps({"inputs": [described]}).encode() + pixels[:1].tobytes()
    status, answer = post(INFER, body, {"Inference-Header-Content-Length": length})
    assert status in range(400, 500), (status, answer)
    assert isinstance(answer["error"], str) and answer["error"], answer


@pytest.mark.parametrize("said", [
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
def test_tensors_that_are_not_as_long_as_they_say(post, pixels, said):
    described = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape)}
    described["parameters"] = {"binary_data_size": said(pixels[:1].size)}
    header = json.dumps({"inputs": [described]}).encode()
    status, answer = post(INFER, header + pixels[:1].tobytes(), {"Inference-Header-Content-Length": str(len(header))})
    assert status in range(400, 500), (status, answer)
    assert isinstance(answer["error"], str) and answer["error"], answer


@pytest.mark.parametrize("count", (-1, "five", 1.5, True))
def test_counts_of_classes_that_are_none(post, pixels, count):
    described = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape), "data": pixels[:1].ravel().tolist()}
    outputs = [{"name": LOGITS, "parameters": {"classification": count}}]
    status, answer = post(INFER, json.dumps({"inputs": [described], "outputs": outputs}))
    assert status in range(400, 500) and answer["error"], answer


def test_it_goes_on_as_before(logits, pixels):
    assert numpy.isfinite(logits(images(pixels[:1]))).all()
