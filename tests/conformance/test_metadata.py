"""Health and metadata (inference_rest.md of https://github.com/kserve/open-inference-protocol)."""

import pytest
from conftest import LOGITS, NORMALISED, PIXELS, assert_error
from server_process import MODEL


def test_server_is_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()


def test_only_the_served_model_is_ready(client):
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("nowhere")
    assert not client.is_model_ready(MODEL, "no-such-version")


def test_server_metadata_lists_extensions(client):
    metadata = client.get_server_metadata()
    assert metadata["name"] and metadata["version"]
    assert {"binary_tensor_data", "classification", "model_repository"} <= set(metadata["extensions"]), metadata


def test_model_metadata_describes_inputs_and_outputs(client, model_info):
    metadata = client.get_model_metadata(MODEL)
    assert metadata["name"] == MODEL
    assert metadata["platform"]
    side, classes = model_info["input"]["crop"], len(model_info["labels"])
    inputs = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in metadata["inputs"]}
    assert inputs[PIXELS] == ("UINT8", [-1, side, side, 3])
    # A request contains one of the two inputs; the metadata may list only the preferred one.
    assert inputs.get(NORMALISED, ("FP32", [-1, 3, side, side])) == ("FP32", [-1, 3, side, side])
    assert metadata["outputs"] == [{"name": LOGITS, "datatype": "FP32", "shape": [-1, classes]}]


def test_listed_versions_exist(client):
    for version in client.get_model_metadata(MODEL).get("versions", []):
        assert client.is_model_ready(MODEL, version)
        assert client.get_model_metadata(MODEL, version)["name"] == MODEL


def test_unknown_names_appear_in_errors(client):
    assert_error(lambda: client.get_model_metadata("nowhere"), "nowhere")
    assert_error(lambda: client.get_model_metadata(MODEL, "no-such-version"), "no-such-version")


def test_model_configuration(client):
    if "model_configuration" not in client.get_server_metadata()["extensions"]:
        pytest.skip("the server does not offer `model_configuration`")
    config = client.get_model_config(MODEL)
    assert config["name"] == MODEL
    assert config["max_batch_size"] > 0


def test_statistics(client):
    if "statistics" not in client.get_server_metadata()["extensions"]:
        pytest.skip("the server does not offer `statistics`")
    (model,) = client.get_inference_statistics(MODEL)["model_stats"]
    assert model["name"] == MODEL
