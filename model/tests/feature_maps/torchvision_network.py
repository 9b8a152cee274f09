"""Checkpoints as torchvision's networks, and the outputs of their modules, for make.py and tests/conformance."""

import json

import torch
import torchvision
from safetensors import safe_open


def load(path):
    """Loads a checkpoint as a torchvision model in evaluation mode. Its int8 matrices are converted to floats."""
    with safe_open(path, "pt") as file:
        architecture = json.loads(file.metadata()["shortcut"])["architecture"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    state = {}
    for name, tensor in tensors.items():
        if name.endswith(".scale"):
            continue
        if tensor.dtype == torch.int8:
            scale = tensors[name + ".scale"].reshape(-1, *[1] * (tensor.dim() - 1))
            tensor = tensor.float() * scale
        state[name] = tensor.float()
    name = architecture["name"]
    network = getattr(torchvision.models, name.removesuffix("_v1"))(num_classes=architecture["classes"])
    if name.endswith("_v1"):
        for stage in (network.layer2, network.layer3, network.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    network.load_state_dict(state, strict=True)
    return network.eval()


def module_outputs(network, images):
    """Returns the spatial outputs of all modules for normalised images, by name, in the order of computation.

    The output is cloned, because torchvision's ReLUs overwrite their inputs. The ReLU of a block is omitted: it is called
    several times.
    """
    outputs = {}

    def record(name):
        def hook(_module, _inputs, output):
            if output.dim() == 4:
                outputs[name] = output.clone()

        return hook

    modules = [(name, module) for name, module in network.named_modules() if name not in ("", "avgpool")]
    handles = [
        module.register_forward_hook(record(name))
        for name, module in modules
        if name == "relu" or not name.endswith("relu")
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    return outputs
