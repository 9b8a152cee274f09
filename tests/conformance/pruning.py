"""Compares `trainer prune` with PyTorch: the masks of single weights, and the logits of a network with fewer channels.

    python pruning.py TRAINER     # a Python with torch 2.15, torchvision 0.29 and safetensors

The masks must be those of torch.nn.utils.prune.global_unstructured. The smaller network is torchvision's, with the tensors of
the pruned checkpoint in place of its own.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "trainer/tests/golden"))

from pruning_masks import masks  # noqa: E402

CHECKPOINT = "resnet18-imagenette"
AMOUNTS = ("0.3", "0.9")
SIDE = 160
# Relative to the largest absolute logit.
TOLERANCE = 1e-4


def run(trainer, *arguments):
    command = [trainer, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def metadata(file):
    with safe_open(file, "pt") as checkpoint:
        return json.loads(checkpoint.metadata()["shortcut"])


def compare_masks(trainer, folder):
    run(trainer, "convert", CHECKPOINT, folder / "f32.safetensors", "--dtype", "f32")
    before = load_file(folder / "f32.safetensors")
    # PyTorch's order of the modules matters only among equal magnitudes.
    names = [f"{name}.weight" for name, module in torchvision.models.resnet18().named_modules() if type(module) is nn.Conv2d]
    for amount in AMOUNTS:
        pruned = folder / f"{amount}.safetensors"
        run(trainer, "prune", folder / "f32.safetensors", "--unstructured", amount, "--output", pruned)
        after = load_file(pruned)
        expected = masks([before[name] for name in names], float(amount))
        magnitudes = torch.cat([before[name].abs().flatten() for name in names])
        threshold = magnitudes.kthvalue(round(float(amount) * magnitudes.numel())).values
        different = 0
        for name, mask in zip(names, expected):
            differs = (after[name] != 0) != (mask != 0)
            assert (before[name][differs].abs() == threshold).all(), f"{name}: a mask differs where magnitudes differ"
            assert torch.equal(after[name], before[name] * (after[name] != 0)), f"{name}: other weights have changed"
            different += int(differs.sum())
        zeros = sum(int((after[name] == 0).sum()) for name in names)
        assert zeros == sum(int((mask == 0).sum()) for mask in expected), "the number of zeros differs"
        print(f"{amount}: {zeros} zeros, {different} of them elsewhere among equal magnitudes", flush=True)


def torchvision_network(file):
    network = torchvision.models.resnet18(num_classes=len(metadata(file)["classes"])).eval()
    for name, tensor in load_file(file).items():
        module, leaf = name.rsplit(".", 1)
        module = network.get_submodule(module)
        if leaf in module._parameters:
            module._parameters[leaf] = nn.Parameter(tensor)
        else:
            module._buffers[leaf] = tensor
    return network


def compare_logits(trainer, folder):
    photos = folder / "photos" / metadata(folder / "f32.safetensors")["classes"][0]
    photos.mkdir(parents=True)
    shutil.copy(ROOT / "samples/cat.jpg", photos)
    pruned = folder / "pruned.safetensors"
    budget = ("--structured", "--macs", "0.5", "--importance", "l2", "--epochs", "0", "--sensitivity-photos", "0")
    run(trainer, "prune", CHECKPOINT, *budget, "--data", photos.parent, "--output", pruned)
    images = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    (folder / "pixels").write_bytes(images.tobytes())
    bench = ("--pixels", folder / "pixels", "--batch", 2, "--size", SIDE, "--iterations", 1, "--json")
    actual = json.loads(run(trainer, "bench", "--checkpoint", pruned, *bench))["logits"]
    preprocessing = metadata(pruned)["preprocessing"]
    mean, std = (torch.tensor(preprocessing[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        inputs = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / std
        expected = torchvision_network(pruned)(inputs).flatten()
    difference = ((torch.tensor(actual) - expected).abs().max() / expected.abs().max()).item()
    assert difference < TOLERANCE, f"the logits of the pruned network differ by {difference}"
    print(f"pruned network: largest difference {difference:.1e} of the largest logit", flush=True)


def main():
    trainer = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        compare_masks(trainer, Path(folder))
        compare_logits(trainer, Path(folder))


if __name__ == "__main__":
    main()
