"""Triton's model repository extension: listing, loading and unloading models, with and without the admin token."""

import shutil

import pytest
from conftest import ADMIN_HEADERS, MODEL, assert_error, image_input, logits_output
from server_process import CHECKPOINT
from tritonclient.utils import InferenceServerException


@pytest.fixture
def index(client):
    def read():
        return {model["name"]: model for model in client.get_model_repository_index(headers=ADMIN_HEADERS)}

    return read


@pytest.fixture
def reload_afterwards(client):
    yield
    client.load_model(MODEL, headers=ADMIN_HEADERS)


def test_index_lists_served_models(index):
    assert index()[MODEL]["state"] == "READY"


def test_unload_and_load(client, index, pixels, reload_afterwards):
    before = client.infer(MODEL, [image_input(pixels[:1])], outputs=logits_output()).as_numpy("logits")
    client.unload_model(MODEL, headers=ADMIN_HEADERS)
    assert not client.is_model_ready(MODEL)
    assert index()[MODEL]["state"] == "UNAVAILABLE"
    assert_error(lambda: client.infer(MODEL, [image_input(pixels[:1])]), MODEL)
    client.load_model(MODEL, headers=ADMIN_HEADERS)
    assert client.is_model_ready(MODEL)
    after = client.infer(MODEL, [image_input(pixels[:1])], outputs=logits_output()).as_numpy("logits")
    assert after.tobytes() == before.tobytes()


def test_load_of_a_loaded_model_reloads_it(client, index):
    client.load_model(MODEL, headers=ADMIN_HEADERS)
    assert index()[MODEL]["state"] == "READY"


def test_added_file_can_be_loaded(client, index, repository):
    shutil.copy(CHECKPOINT, repository / "later.safetensors")
    try:
        assert index()["later"]["state"] == "UNAVAILABLE"
        client.load_model("later", headers=ADMIN_HEADERS)
        assert client.is_model_ready("later")
        client.unload_model("later", headers=ADMIN_HEADERS)
        assert not client.is_model_ready("later")
    finally:
        (repository / "later.safetensors").unlink()


def test_failed_load_reports_the_reason(client, index, repository):
    (repository / "broken.safetensors").write_bytes(b"no checkpoint")
    try:
        assert_error(lambda: client.load_model("broken", headers=ADMIN_HEADERS), "broken")
        assert index()["broken"]["state"] == "UNAVAILABLE"
        assert index()["broken"]["reason"]
    finally:
        (repository / "broken.safetensors").unlink()
    assert_error(lambda: client.load_model("nowhere", headers=ADMIN_HEADERS), "nowhere")
    assert_error(lambda: client.unload_model("nowhere", headers=ADMIN_HEADERS), "nowhere")


@pytest.mark.parametrize("headers", (None, {"Authorization": "Bearer another"}), ids=["no token", "wrong token"])
def test_changes_require_the_admin_token(client, headers):
    for change in (client.load_model, client.unload_model):
        assert_error(lambda: change(MODEL, headers=headers), status=(401, 403))
    assert client.is_model_ready(MODEL)


@pytest.mark.parametrize("name", ("../classifier", "/etc/passwd", "..", "a/b", "%2e%2e", "classifier.safetensors"))
def test_names_are_not_paths(client, name):
    with pytest.raises(InferenceServerException) as caught:
        client.load_model(name, headers=ADMIN_HEADERS)
    assert caught.value.status() in ("400", "404"), caught.value
