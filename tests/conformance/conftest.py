"""Shared fixtures and functions: the client, input tensors, and assertions on errors."""

import http.client
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import numpy
import pytest
import tritonclient.http
from server_process import ADMIN_TOKEN, MODEL
from tritonclient.utils import InferenceServerException

# Time limit for requests, in seconds.
TIMEOUT = 60
ADMIN_HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
PIXELS, NORMALISED, LOGITS = "images", "input", "logits"


@pytest.fixture(scope="session")
def address():
    """Address of the server as host:port."""
    return urlsplit(os.environ["SHORTCUT_URL"]).netloc


@pytest.fixture(scope="session")
def repository():
    return Path(os.environ["SHORTCUT_REPOSITORY"])


@pytest.fixture
def client(address):
    timeouts = dict(connection_timeout=TIMEOUT, network_timeout=TIMEOUT)
    with tritonclient.http.InferenceServerClient(address, concurrency=8, **timeouts) as client:
        yield client


@pytest.fixture(scope="session")
def model_info(address):
    """Description of the model from `/models`: labels, input size, mean and standard deviation."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    connection.request("GET", "/models")
    models = json.load(connection.getresponse())["models"]
    return next(model for model in models if model["name"] == MODEL)


@pytest.fixture(scope="session")
def pixels(model_info):
    """u8 [9, side, side, 3]: nine different random images."""
    side = model_info["input"]["crop"]
    return numpy.random.default_rng(1).integers(0, 256, (9, side, side, 3), numpy.uint8)


@pytest.fixture(scope="session")
def normalised(model_info, pixels):
    """f32 [9, 3, side, side]: the same images, normalised."""
    mean, std = (numpy.float32(model_info["input"][name]) for name in ("mean", "std"))
    values = (pixels.astype(numpy.float32) / 255 - mean) / std
    return numpy.ascontiguousarray(values.transpose(0, 3, 1, 2))


def tensor_input(name, array, datatype, binary=True):
    """Returns the input tensor for an array, binary or JSON. FP16 must be binary."""
    tensor = tritonclient.http.InferInput(name, list(array.shape), datatype)
    return tensor.set_data_from_numpy(array, binary_data=binary)


def image_input(array, binary=True):
    return tensor_input(PIXELS, array, "UINT8", binary)


def logits_output(binary=True, classes=0):
    return [tritonclient.http.InferRequestedOutput(LOGITS, binary_data=binary, class_count=classes)]


@pytest.fixture
def logits(client):
    """Function that returns the logits for inputs."""

    def infer(*inputs, outputs=None, **options):
        return client.infer(MODEL, list(inputs), outputs=outputs or logits_output(), **options).as_numpy(LOGITS)

    return infer


def assert_error(call, *words, status=range(400, 500)):
    """Asserts that the call fails with one of these statuses and a message that contains these words."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    error = caught.value
    assert int(error.status() or 0) in status, f"{error.status()}: {error.message()}"
    # The protocol defines the error as a string, not as an object.
    assert isinstance(error.message(), str) and error.message(), error.message()
    for word in words:
        assert word.lower() in error.message().lower(), error.message()
    return error


@pytest.fixture
def post(address):
    """Function that posts a raw body, which tritonclient might not send, and returns the response's status and JSON."""

    def send(path, body, headers=None):
        connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
        connection.request("POST", path, body, headers or {})
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text else None

    return send
