"""Compares `trainer feature-maps` with PyTorch: every module of the bundled networks for a sample photo, and the pictures.

    python feature_maps.py TRAINER     # a Python with torch 2.15, torchvision 0.29 and safetensors

Values are those of forward hooks, for the input that the trainer writes. The pictures must equal those that torchvision's
`save_image` writes for the trainer's values.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file
from torchvision.utils import save_image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "model/tests/feature_maps"))

from torchvision_network import load, module_outputs  # noqa: E402

CHECKPOINTS = ("resnet18-imagenette", "resnet50_v1-imagenet")
PHOTO = "samples/cat.jpg"
# Relative to the largest absolute value of an output.
TOLERANCE = 1e-3


def pixels(file):
    return np.asarray(Image.open(file))


def saved(images, **options):
    file = io.BytesIO()
    save_image(images, file, format="png", nrow=8, padding=2, normalize=True, **options)
    return pixels(file)


def compare(trainer, checkpoint, folder):
    network = load(ROOT / f"checkpoints/{checkpoint}.safetensors")
    modules = [name for name, _ in network.named_modules() if name not in ("", "avgpool", "fc")]
    names = [name for name in modules if name == "relu" or not name.endswith("relu")]
    layers = [argument for name in names for argument in ("--layer", name)]
    command = [trainer, "feature-maps", PHOTO, "--checkpoint", checkpoint, "--output", folder, "--values", "--json", *layers]
    report = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    values = load_file(report["values"])
    outputs = module_outputs(network, values["input"])
    assert set(outputs) == set(names)
    largest = 0
    for name in names:
        assert values[name].shape == outputs[name].shape, name
        difference = ((values[name] - outputs[name]).abs().max() / outputs[name].abs().max()).item()
        assert difference < TOLERANCE, f"{name} differs by {difference}"
        largest = max(largest, difference)
        picture = saved(values[name].transpose(0, 1), scale_each=True)
        assert np.array_equal(pixels(f"{folder}/{name}.png"), picture), f"{name}: the picture differs"
    assert np.array_equal(pixels(f"{folder}/conv1.weight.png"), saved(values["conv1.weight"])), "the filters differ"
    print(f"{checkpoint}: {len(names)} modules, largest difference {largest:.1e} of the largest value", flush=True)


def main():
    trainer = Path(sys.argv[1]).resolve()
    for checkpoint in CHECKPOINTS:
        with tempfile.TemporaryDirectory() as folder:
            compare(trainer, checkpoint, folder)


if __name__ == "__main__":
    main()
