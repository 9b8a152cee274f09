"""Writes trainer/tests/golden/augmentation: results of torchvision and Pillow for small images and fixed parameters.

    python trainer/tests/golden/augmentation.py     # torch 2.15, torchvision 0.29, Pillow 13.0

`operations.json` holds, for each case, the input, its size, torchvision's name of the operation and its magnitude;
`operations.bin` holds the concatenated outputs, u8 RGB `[height, width, 3]`. `magnitudes.json` is the augmentation
space of both policies, at 224 px. `mixing.json` holds results of erasing, mixup and CutMix, with rectangles as
`[left, top, right, bottom]`. The tests do not need Python: they read the committed files, and generate the inputs with
the formulas below.
"""

import json
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, autoaugment, v2
from torchvision.transforms import functional as F

FOLDER = Path(__file__).parent / "augmentation"

# Magnitudes per operation, with the names of torchvision's policies.
OPERATIONS = {
    "Identity": [0.0],
    "ShearX": [0.3, -0.132, 0.99],
    "ShearY": [0.3, -0.132, -0.99],
    "TranslateX": [5.7, -9.0],
    "TranslateY": [5.7, -9.0],
    "Rotate": [13.5, -90.0, 135.0, -126.0],
    "Brightness": [0.33, -0.627, 0.99],
    "Color": [0.33, -0.627, 0.99],
    "Contrast": [0.33, -0.627, 0.99],
    "Sharpness": [0.33, -0.627, 0.99, -0.99],
    "Posterize": [8, 5, 2],
    "Solarize": [255.0, 127.5, 17.0],
    "AutoContrast": [0.0],
    "Equalize": [0.0],
}

# Operations of ColorJitter, with factors from its ranges.
JITTER = {
    "adjust_brightness": [0.6, 1.4, 11.0],
    "adjust_contrast": [0.0, 0.6, 1.4],
    "adjust_saturation": [0.0, 0.6, 1.4],
    "adjust_hue": [0.0, 0.1, -0.1, 0.5, -0.5],
}


def formula(name, width, height):
    """Returns an image with a gradient, noise, greys and saturated colours in its quarters, u8 `[height, width, 3]`.

    The values of the image `dull` have a reduced range."""
    c, y, x = np.mgrid[0:3, 0:height, 0:width].transpose(0, 2, 3, 1)
    gradient = 9 * x + 5 * y * (c + 1)
    noise = (x * 7919 ^ y * 104729 ^ c * 1299709) * 31 >> 4
    greys = 11 * x + 3 * y
    colours = (x // 4 + y // 4 >> c & 1) * 255
    right, low = 2 * x >= width, 2 * y >= height
    values = np.where(low, np.where(right, colours, greys), np.where(right, noise, gradient)) & 255
    return (values * 3 // 5 + 40 if name == "dull" else values).astype(np.uint8)


def operations():
    """Writes `operations.bin`, and returns its cases."""
    cases, outputs = [], []

    def add(name, size, operation, magnitude, function):
        output = np.asarray(function(Image.fromarray(formula(name, *size))))
        cases.append({"input": name, "size": size, "operation": operation, "magnitude": magnitude})
        outputs.append(output.tobytes())

    def apply(operation, magnitude):
        # With the arguments of references/classification/presets.py.
        return lambda image: autoaugment._apply_op(image, operation, magnitude, InterpolationMode.BILINEAR, None)

    for operation, magnitudes in OPERATIONS.items():
        for magnitude in magnitudes:
            add("full", [32, 24], operation, magnitude, apply(operation, magnitude))
    for operation in ("AutoContrast", "Equalize"):
        add("dull", [32, 24], operation, 0.0, apply(operation, 0.0))
    # Pillow rotates squares by 90 degrees without arithmetic.
    for angle in (90.0, -90.0):
        add("full", [16, 16], "Rotate", angle, apply("Rotate", angle))
    for function, factors in JITTER.items():
        for factor in factors:
            add("full", [32, 24], function, factor, lambda image: getattr(F, function)(image, factor))
    # RandomCrop(16, padding=4) with top 7 and left 1.
    add("full", [16, 16], "crop", 0.0, lambda image: F.crop(F.pad(image, 4), 7, 1, 16, 16))
    (FOLDER / "operations.bin").write_bytes(b"".join(outputs))
    return cases


def magnitudes():
    """Returns the magnitudes of each operation of both policies, and whether they have a random sign."""

    def values(space):
        return {name: [table.flatten().tolist(), signed] for name, (table, signed) in space.items()}

    randaugment = autoaugment.RandAugment()
    space = randaugment._augmentation_space(randaugment.num_magnitude_bins, (224, 224))
    at = {name: (table[randaugment.magnitude] if table.ndim else table, signed) for name, (table, signed) in space.items()}
    return {"trivialaugment-wide": values(autoaugment.TrivialAugmentWide()._augmentation_space(31)), "randaugment": values(at)}


def mixing():
    """Returns results for images `[3, 3, 6, 6]` with the values `index % 23 - 11`, and the classes 2, 0 and 3 of 4."""
    images = (torch.arange(3 * 3 * 6 * 6) % 23 - 11).float().reshape(3, 3, 6, 6)
    labels = torch.tensor([2, 0, 3])
    shared = {"labels": labels, "batch_size": 3}

    def cutmix(side, lam, x, y):
        transform = v2.CutMix(num_classes=4)
        transform._dist = Mock(sample=lambda shape: lam)
        with patch("torch.randint", side_effect=[torch.tensor([x]), torch.tensor([y])]):
            return transform.make_params([torch.zeros(1, 3, side, side)])

    boxes = []
    for side, lam, x, y in [(6, 0.3, 2, 4), (224, 0.5, 0, 223), (224, 0.999999, 7, 9), (176, 0.0, 88, 20), (33, 0.25, 30, 16)]:
        params = cutmix(side, lam, x, y)
        boxes.append({"side": side, "lambda": lam, "x": x, "y": y, "box": params["box"], "adjusted": params["lam_adjusted"]})

    def mixed(transform, params):
        outputs = [transform.transform(of, shared | params) for of in (images, labels)]
        return [output.flatten().tolist() for output in outputs]

    return {
        "erased": F.erase(images, 1, 2, 3, 2, torch.zeros(1, 1, 1)).flatten().tolist(),
        "mixup": mixed(v2.MixUp(num_classes=4), {"lam": 0.3}),
        "cutmix": mixed(v2.CutMix(num_classes=4), cutmix(6, 0.3, 2, 4)),
        "boxes": boxes,
    }


FOLDER.mkdir(exist_ok=True)
for name, lines in {"operations": operations(), "magnitudes": magnitudes(), "mixing": mixing()}.items():
    (FOLDER / f"{name}.json").write_text(json.dumps(lines) + "\n")
