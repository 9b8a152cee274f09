"""Health and metadata: https://github.com/kserve/open-inference-protocol, `specification/protocol/inference_rest.md`."""

import pytest
from conftest import LOGITS, NORMALISED, PIXELS, refused
from serving import MODEL


def test_the_server_is_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()


def test_a_model_is_ready_and_others_are_not(client):
    assert client.is_model_ready(MODEL)
    assert not client.is_model_ready("nowhere")
    assert not client.is_model_ready(MODEL, "no-such-version")


def test_the_server_names_itself_and_its_extensions(client):
    metadata = client.get_server_metadata()
    assert metadata["name"] and metadata["version"]
    assert {"binary_tensor_data", "classification", "model_repository"} <= set(metadata["extensions"]), metadata


def test_a_model_says_what_it_takes_and_gives(client, about):
    metadata = client.get_model_metadata(MODEL)
    assert metadata["name"] == MODEL
    assert metadata["platform"]
    side, classes = about["input"]["crop"], len(about["labels"])
    inputs = {one["name"]: (one["datatype"], one["shape"]) for one in metadata["inputs"]}
    assert inputs[PIXELS] == ("UINT8", [-1, side, side, 3])
    # Either may be given; a server may name the one that it would rather have alone.
    assert inputs.get(NORMALISED, ("FP32", [-1, 3, side, side])) == ("FP32", [-1, 3, side, side])
    assert metadata["outputs"] == [{"name": LOGITS, "datatype": "FP32", "shape": [-1, classes]}]


def test_every_version_that_is_named_can_be_asked_for(client):
    for version in client.get_model_metadata(MODEL).get("versions", []):
        assert client.is_model_ready(MODEL, version)
        assert client.get_model_metadata(MODEL, version)["name"] == MODEL


def test_what_is_unknown_is_said_by_name(client):
    refused(lambda: client.get_model_metadata("nowhere"), "nowhere")
    refused(lambda: client.get_model_metadata(MODEL, "no-such-version"), "no-such-version")


def test_the_configuration_if_there_is_one(client):
    if "model_configuration" not in client.get_server_metadata()["extensions"]:
        pytest.skip("the server does not offer `model_configuration`")
    config = client.get_model_config(MODEL)
    assert config["name"] == MODEL
    assert config["max_batch_size"] > 0


def test_statistics_if_there_are_any(client):
    if "statistics" not in client.get_server_metadata()["extensions"]:
        pytest.skip("the server does not offer `statistics`")
    (model,) = client.get_inference_statistics(MODEL)["model_stats"]
    assert model["name"] == MODEL
