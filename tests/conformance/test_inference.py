"""Inference with Triton's extensions for binary tensors and classification."""

import http.client
import json

import numpy
import pytest
from conftest import LOGITS, MODEL, NORMALISED, PIXELS, TIMEOUT, image_input, logits_output, tensor_input
from PIL import Image
from server_process import ROOT
from tritonclient.utils import InferenceServerException

BATCHES = (1, 3, 9)
# Tolerances relative to the largest logit. FP16 has about three decimal digits.
TOLERANCE, FP16_TOLERANCE = 1e-5, 2e-2


def assert_close(logits, expected, tolerance):
    assert logits.dtype == numpy.float32 and logits.shape == expected.shape
    assert numpy.abs(logits - expected).max() <= tolerance * numpy.abs(expected).max()


@pytest.mark.parametrize("batch", BATCHES)
def test_batch_equals_single_images(logits, pixels, model_info, batch):
    batched = logits(image_input(pixels[:batch]))
    assert batched.shape == (batch, len(model_info["labels"]))
    single = [logits(image_input(pixels[index : index + 1]))[0] for index in range(batch)]
    assert_close(batched, numpy.stack(single), TOLERANCE)
    assert len({row.tobytes() for row in batched}) == batch


# Nine normalised images as JSON would exceed the limit of the body.
@pytest.mark.parametrize("batch, binary", [(1, True), (3, True), (9, True), (1, False), (3, False)])
def test_normalised_input_equals_pixels(logits, pixels, normalised, batch, binary):
    expected = logits(image_input(pixels[:batch]))
    assert_close(logits(tensor_input(NORMALISED, normalised[:batch], "FP32", binary)), expected, TOLERANCE)


@pytest.mark.parametrize("batch", BATCHES)
def test_fp16_input_is_close_to_pixels(logits, pixels, normalised, batch):
    half = normalised[:batch].astype(numpy.float16)
    assert_close(logits(tensor_input(NORMALISED, half, "FP16")), logits(image_input(pixels[:batch])), FP16_TOLERANCE)


@pytest.mark.parametrize("binary_input", (True, False))
@pytest.mark.parametrize("binary_output", (True, False))
def test_json_and_binary_tensors_give_equal_results(logits, pixels, binary_input, binary_output):
    expected = logits(image_input(pixels[:3]))
    result = logits(image_input(pixels[:3], binary_input), outputs=logits_output(binary_output))
    assert result.tobytes() == expected.tobytes()


def test_output_is_binary_by_default(client, pixels):
    """Without requested outputs, the client sets `binary_data_output`."""
    response = client.infer(MODEL, [image_input(pixels[:1])])
    output = response.get_output(LOGITS)
    assert output["parameters"]["binary_data_size"] == 4 * numpy.prod(output["shape"])
    assert "data" not in output
    assert response.as_numpy(LOGITS).dtype == numpy.float32


def test_json_data_may_be_nested_or_flat(post, pixels):
    results = []
    for data in (pixels[:1].tolist(), pixels[:1].ravel().tolist()):
        description = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape), "data": data}
        status, response = post(f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [description]}))
        assert status == 200, response
        results.append(response["outputs"])
    assert results[0] == results[1]
    assert isinstance(results[0][0]["data"], list)


def test_response_contains_request_id_and_model_name(client, pixels):
    response = client.infer(MODEL, [image_input(pixels[:1])], request_id="my request").get_response()
    assert response["id"] == "my request"
    assert response["model_name"] == MODEL
    response = client.infer(MODEL, [image_input(pixels[:1])]).get_response()
    assert response.get("id", "") == ""


def test_version_can_be_selected(client, pixels):
    for version in client.get_model_metadata(MODEL).get("versions", []):
        response = client.infer(MODEL, [image_input(pixels[:1])], model_version=version).get_response()
        assert response["model_version"] == version


@pytest.mark.parametrize("binary", (True, False))
@pytest.mark.parametrize("count", (1, 5))
def test_classification_returns_the_highest_logits_with_labels(client, logits, pixels, model_info, binary, count):
    expected = logits(image_input(pixels[:3]))
    response = client.infer(MODEL, [image_input(pixels[:3])], outputs=logits_output(binary, count))
    assert response.get_output(LOGITS)["datatype"] == "BYTES"
    classes = response.as_numpy(LOGITS)
    assert classes.shape == (3, count)
    for row, strings in zip(expected, classes):
        best = numpy.argsort(-row, kind="stable")[:count]
        for index, string in zip(best, strings):
            value, class_index, label = (string.decode() if isinstance(string, bytes) else string).split(":", 2)
            assert (int(class_index), label) == (index, model_info["labels"][index])
            assert abs(float(value) - row[index]) <= TOLERANCE * numpy.abs(row).max()


def test_class_count_is_limited_to_the_number_of_classes(client, pixels, model_info):
    response = client.infer(MODEL, [image_input(pixels[:1])], outputs=logits_output(classes=1000))
    assert response.as_numpy(LOGITS).shape == (1, len(model_info["labels"]))


def test_tensor_of_a_photo_equals_predict(client, address, model_info):
    """Preprocesses the photo like torchvision."""
    file, preprocessing = ROOT / "samples/cat.jpg", model_info["input"]
    photo = Image.open(file).convert("RGB")
    short, side = preprocessing["resize"], preprocessing["crop"]
    size = [int(short * length / min(photo.size)) for length in photo.size]
    left, top = (round((length - side) / 2) for length in size)
    photo = photo.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    response = client.infer(MODEL, [image_input(numpy.asarray(photo)[None])], outputs=logits_output(classes=3))
    classes = [int(string.split(b":")[1]) for string in response.as_numpy(LOGITS)[0]]
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    connection.request("POST", "/predict?top_k=3", file.read_bytes(), {"Content-Type": "image/jpeg"})
    predictions = json.load(connection.getresponse())["predictions"]
    assert classes == [prediction["index"] for prediction in predictions]


def test_concurrent_requests_get_their_own_results(client, logits, pixels):
    expected = [logits(image_input(pixels[index : index + 1])) for index in range(len(pixels))]
    order = [index % len(pixels) for index in range(48)]
    requests = []
    for index in order:
        inputs = [image_input(pixels[index : index + 1])]
        requests.append(client.async_infer(MODEL, inputs, outputs=logits_output(), request_id=str(index)))
    for index, request in zip(order, requests):
        response = request.get_result(timeout=TIMEOUT)
        assert response.get_response()["id"] == str(index)
        assert_close(response.as_numpy(LOGITS), expected[index], TOLERANCE)


@pytest.mark.parametrize("algorithm", ("gzip", "deflate"))
def test_compressed_requests_are_accepted_or_rejected(client, logits, pixels, algorithm):
    expected = logits(image_input(pixels[:1]))
    try:
        inputs, outputs = [image_input(pixels[:1])], logits_output()
        response = client.infer(MODEL, inputs, outputs=outputs, request_compression_algorithm=algorithm)
    except InferenceServerException as error:
        assert error.status() in ("400", "415"), error
        assert "encoding" in error.message().lower() or algorithm in error.message().lower(), error.message()
    else:
        assert_close(response.as_numpy(LOGITS), expected, TOLERANCE)


@pytest.mark.parametrize("algorithm", ("gzip", "deflate"))
def test_compressed_responses_can_be_read(client, logits, pixels, algorithm):
    expected = logits(image_input(pixels[:1]))
    inputs, outputs = [image_input(pixels[:1])], logits_output()
    response = client.infer(MODEL, inputs, outputs=outputs, response_compression_algorithm=algorithm)
    assert_close(response.as_numpy(LOGITS), expected, TOLERANCE)
