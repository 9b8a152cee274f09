"""Inference, with Triton's extensions for binary tensors and for classification."""

import http.client
import json

import numpy
import pytest
from conftest import LOGITS, MODEL, NORMALISED, PATIENCE, PIXELS, images, tensor, wanted
from PIL import Image
from serving import ROOT
from tritonclient.utils import InferenceServerException

BATCHES = (1, 3, 9)
# Of the largest logit. The engine answers pixels and floats by one network; floats of 16 bits have three digits.
SAME, HALF = 1e-5, 2e-2


def close(logits, expected, tolerance):
    assert logits.dtype == numpy.float32 and logits.shape == expected.shape
    assert numpy.abs(logits - expected).max() <= tolerance * numpy.abs(expected).max()


@pytest.mark.parametrize("batch", BATCHES)
def test_a_batch_gets_what_each_of_its_images_gets(logits, pixels, about, batch):
    together = logits(images(pixels[:batch]))
    assert together.shape == (batch, len(about["labels"]))
    alone = [logits(images(pixels[index : index + 1]))[0] for index in range(batch)]
    close(together, numpy.stack(alone), SAME)
    assert len({row.tobytes() for row in together}) == batch


# Nine images of floats as JSON are more than a body may have.
@pytest.mark.parametrize("batch, binary", [(1, True), (3, True), (9, True), (1, False), (3, False)])
def test_floats_get_what_their_pixels_get(logits, pixels, normalised, batch, binary):
    expected = logits(images(pixels[:batch]))
    close(logits(tensor(NORMALISED, normalised[:batch], "FP32", binary)), expected, SAME)


@pytest.mark.parametrize("batch", BATCHES)
def test_floats_of_16_bits_get_nearly_that(logits, pixels, normalised, batch):
    half = normalised[:batch].astype(numpy.float16)
    close(logits(tensor(NORMALISED, half, "FP16")), logits(images(pixels[:batch])), HALF)


@pytest.mark.parametrize("binary_input", (True, False))
@pytest.mark.parametrize("binary_output", (True, False))
def test_json_and_binary_say_the_same(logits, pixels, binary_input, binary_output):
    expected = logits(images(pixels[:3]))
    said = logits(images(pixels[:3], binary_input), outputs=wanted(binary_output))
    assert said.tobytes() == expected.tobytes()


def test_who_names_no_output_gets_it_binary(client, pixels):
    """The client then asks for all outputs by `binary_data_output`."""
    answer = client.infer(MODEL, [images(pixels[:1])])
    output = answer.get_output(LOGITS)
    assert output["parameters"]["binary_data_size"] == 4 * numpy.prod(output["shape"])
    assert "data" not in output
    assert answer.as_numpy(LOGITS).dtype == numpy.float32


def test_data_may_be_nested_or_flat(post, pixels):
    said = []
    for data in (pixels[:1].tolist(), pixels[:1].ravel().tolist()):
        described = {"name": PIXELS, "datatype": "UINT8", "shape": list(pixels[:1].shape), "data": data}
        status, answer = post(f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [described]}))
        assert status == 200, answer
        said.append(answer["outputs"])
    assert said[0] == said[1]
    assert isinstance(said[0][0]["data"], list)


def test_a_request_has_its_id_and_the_models_name_again(client, pixels):
    answer = client.infer(MODEL, [images(pixels[:1])], request_id="a request of mine").get_response()
    assert answer["id"] == "a request of mine"
    assert answer["model_name"] == MODEL
    answer = client.infer(MODEL, [images(pixels[:1])]).get_response()
    assert answer.get("id", "") == ""


def test_a_version_can_be_asked_for(client, pixels):
    for version in client.get_model_metadata(MODEL).get("versions", []):
        answer = client.infer(MODEL, [images(pixels[:1])], model_version=version).get_response()
        assert answer["model_version"] == version


@pytest.mark.parametrize("binary", (True, False))
@pytest.mark.parametrize("count", (1, 5))
def test_classes_are_the_highest_logits_with_their_labels(client, logits, pixels, about, binary, count):
    expected = logits(images(pixels[:3]))
    answer = client.infer(MODEL, [images(pixels[:3])], outputs=wanted(binary, count))
    assert answer.get_output(LOGITS)["datatype"] == "BYTES"
    said = answer.as_numpy(LOGITS)
    assert said.shape == (3, count)
    for row, strings in zip(expected, said):
        best = numpy.argsort(-row, kind="stable")[:count]
        for index, string in zip(best, strings):
            value, place, label = (string.decode() if isinstance(string, bytes) else string).split(":", 2)
            assert (int(place), label) == (index, about["labels"][index])
            assert abs(float(value) - row[index]) <= SAME * numpy.abs(row).max()


def test_no_more_classes_come_than_there_are(client, pixels, about):
    answer = client.infer(MODEL, [images(pixels[:1])], outputs=wanted(classes=1000))
    assert answer.as_numpy(LOGITS).shape == (1, len(about["labels"]))


def test_a_photo_is_what_predict_says(client, address, about):
    """Pixels as torchvision makes them."""
    file, preprocessing = ROOT / "samples/cat.jpg", about["input"]
    photo = Image.open(file).convert("RGB")
    short, side = preprocessing["resize"], preprocessing["crop"]
    size = [int(short * length / min(photo.size)) for length in photo.size]
    left, top = (round((length - side) / 2) for length in size)
    photo = photo.resize(size, Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    answer = client.infer(MODEL, [images(numpy.asarray(photo)[None])], outputs=wanted(classes=3))
    said = [int(string.split(b":")[1]) for string in answer.as_numpy(LOGITS)[0]]
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("POST", "/predict?top_k=3", file.read_bytes(), {"Content-Type": "image/jpeg"})
    predictions = json.load(connection.getresponse())["predictions"]
    assert said == [one["index"] for one in predictions]


def test_requests_at_the_same_time_get_what_is_theirs(client, logits, pixels):
    expected = [logits(images(pixels[index : index + 1])) for index in range(len(pixels))]
    order = [index % len(pixels) for index in range(48)]
    running = [client.async_infer(MODEL, [images(pixels[i : i + 1])], outputs=wanted(), request_id=str(i)) for i in order]
    for index, one in zip(order, running):
        answer = one.get_result(timeout=PATIENCE)
        assert answer.get_response()["id"] == str(index)
        close(answer.as_numpy(LOGITS), expected[index], SAME)


@pytest.mark.parametrize("algorithm", ("gzip", "deflate"))
def test_compressed_requests_are_taken_or_refused(client, logits, pixels, algorithm):
    expected = logits(images(pixels[:1]))
    try:
        answer = client.infer(MODEL, [images(pixels[:1])], outputs=wanted(), request_compression_algorithm=algorithm)
    except InferenceServerException as error:
        assert error.status() in ("400", "415"), error
        assert "encoding" in error.message().lower() or algorithm in error.message().lower(), error.message()
    else:
        close(answer.as_numpy(LOGITS), expected, SAME)


@pytest.mark.parametrize("algorithm", ("gzip", "deflate"))
def test_compressed_answers_can_be_read(client, logits, pixels, algorithm):
    expected = logits(images(pixels[:1]))
    answer = client.infer(MODEL, [images(pixels[:1])], outputs=wanted(), response_compression_algorithm=algorithm)
    close(answer.as_numpy(LOGITS), expected, SAME)
