"""What the tests share: the client, tensors with what is right for them, and how a refusal looks."""

import http.client
import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import numpy
import pytest
import tritonclient.http
from serving import MODEL, TOKEN
from tritonclient.utils import InferenceServerException

# Seconds. What hangs for longer is a failure.
PATIENCE = 60
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
PIXELS, NORMALISED, LOGITS = "images", "input", "logits"


@pytest.fixture(scope="session")
def address():
    """host:port"""
    return urlsplit(os.environ["SHORTCUT_URL"]).netloc


@pytest.fixture(scope="session")
def repository():
    return Path(os.environ["SHORTCUT_REPOSITORY"])


@pytest.fixture
def client(address):
    patience = dict(connection_timeout=PATIENCE, network_timeout=PATIENCE)
    with tritonclient.http.InferenceServerClient(address, concurrency=8, **patience) as client:
        yield client


@pytest.fixture(scope="session")
def about(address):
    """What `/models` says of the model: labels, side, mean and standard deviation."""
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    connection.request("GET", "/models")
    models = json.load(connection.getresponse())["models"]
    return next(model for model in models if model["name"] == MODEL)


@pytest.fixture(scope="session")
def pixels(about):
    """u8 [9, side, side, 3]: of nine images, no two of which are alike."""
    side = about["input"]["crop"]
    return numpy.random.default_rng(1).integers(0, 256, (9, side, side, 3), numpy.uint8)


@pytest.fixture(scope="session")
def normalised(about, pixels):
    """f32 [9, 3, side, side]: the same as a network sees them."""
    mean, std = (numpy.float32(about["input"][name]) for name in ("mean", "std"))
    values = (pixels.astype(numpy.float32) / 255 - mean) / std
    return numpy.ascontiguousarray(values.transpose(0, 3, 1, 2))


def tensor(name, array, datatype, binary=True):
    """An input. Floats of 16 bits cannot go as JSON."""
    made = tritonclient.http.InferInput(name, list(array.shape), datatype)
    return made.set_data_from_numpy(array, binary_data=binary)


def images(array, binary=True):
    return tensor(PIXELS, array, "UINT8", binary)


def wanted(binary=True, classes=0):
    return [tritonclient.http.InferRequestedOutput(LOGITS, binary_data=binary, class_count=classes)]


@pytest.fixture
def logits(client):
    """What the server says of inputs."""

    def infer(*inputs, outputs=None, **options):
        return client.infer(MODEL, list(inputs), outputs=outputs or wanted(), **options).as_numpy(LOGITS)

    return infer


def refused(call, *words, status=range(400, 500)):
    """The call is answered by an error of the client's making, whose message has these words."""
    with pytest.raises(InferenceServerException) as caught:
        call()
    error = caught.value
    assert int(error.status() or 0) in status, f"{error.status()}: {error.message()}"
    # The protocol's errors are a sentence, and nothing with fields.
    assert isinstance(error.message(), str) and error.message(), error.message()
    for word in words:
        assert word.lower() in error.message().lower(), error.message()
    return error


@pytest.fixture
def post(address):
    """Posts what the client would not: status and JSON of the answer."""

    def send(path, body, headers=None):
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("POST", path, body, headers or {})
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None

    return send
