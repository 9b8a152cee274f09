"""Triton's extension for its model repository: what is there, loading and unloading, with the token and without."""

import shutil

import pytest
from conftest import ADMIN, MODEL, images, refused, wanted
from serving import CHECKPOINT
from tritonclient.utils import InferenceServerException


@pytest.fixture
def index(client):
    def read():
        return {model["name"]: model for model in client.get_model_repository_index(headers=ADMIN)}

    return read


@pytest.fixture
def loaded_again(client):
    yield
    client.load_model(MODEL, headers=ADMIN)


def test_the_index_has_what_is_served(index):
    assert index()[MODEL]["state"] == "READY"


def test_unloaded_is_not_there_and_loaded_is(client, index, pixels, loaded_again):
    before = client.infer(MODEL, [images(pixels[:1])], outputs=wanted()).as_numpy("logits")
    client.unload_model(MODEL, headers=ADMIN)
    assert not client.is_model_ready(MODEL)
    assert index()[MODEL]["state"] == "UNAVAILABLE"
    refused(lambda: client.infer(MODEL, [images(pixels[:1])]), MODEL)
    client.load_model(MODEL, headers=ADMIN)
    assert client.is_model_ready(MODEL)
    after = client.infer(MODEL, [images(pixels[:1])], outputs=wanted()).as_numpy("logits")
    assert after.tobytes() == before.tobytes()


def test_loading_what_is_loaded_reloads_it(client, index):
    client.load_model(MODEL, headers=ADMIN)
    assert index()[MODEL]["state"] == "READY"


def test_a_file_that_came_later_can_be_loaded(client, index, repository):
    shutil.copy(CHECKPOINT, repository / "later.safetensors")
    try:
        assert index()["later"]["state"] == "UNAVAILABLE"
        client.load_model("later", headers=ADMIN)
        assert client.is_model_ready("later")
        client.unload_model("later", headers=ADMIN)
        assert not client.is_model_ready("later")
    finally:
        (repository / "later.safetensors").unlink()


def test_what_cannot_be_loaded_says_why(client, index, repository):
    (repository / "broken.safetensors").write_bytes(b"no checkpoint")
    try:
        refused(lambda: client.load_model("broken", headers=ADMIN), "broken")
        assert index()["broken"]["state"] == "UNAVAILABLE"
        assert index()["broken"]["reason"]
    finally:
        (repository / "broken.safetensors").unlink()
    refused(lambda: client.load_model("nowhere", headers=ADMIN), "nowhere")
    refused(lambda: client.unload_model("nowhere", headers=ADMIN), "nowhere")


@pytest.mark.parametrize("headers", (None, {"Authorization": "Bearer another"}), ids=["none", "another"])
def test_nobody_changes_anything_without_the_token(client, headers):
    for change in (client.load_model, client.unload_model):
        refused(lambda: change(MODEL, headers=headers), status=(401, 403))
    assert client.is_model_ready(MODEL)


@pytest.mark.parametrize("name", ("../classifier", "/etc/passwd", "..", "a/b", "%2e%2e", "classifier.safetensors"))
def test_names_are_no_paths(client, name):
    with pytest.raises(InferenceServerException) as caught:
        client.load_model(name, headers=ADMIN)
    assert caught.value.status() in ("400", "404"), caught.value
