"""Makes tests/golden/preprocess: small PNGs by formula, and what torchvision and Pillow make of them.

Needs torchvision and Pillow; run it beside this file, without arguments. The tests need neither: they read what is
committed. `cases.json` names for each case the source, the parameters and the expected crop, all PNG.
"""

import json
from pathlib import Path

import numpy as np
import PIL
import torchvision
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

FOLDER = Path(__file__).parent / "preprocess"

# source, short side, crop, filter
CASES = [
    ("waves", 256, 224, "bilinear"),
    ("waves", 232, 224, "bicubic"),
    ("checks", 48, 40, "bilinear"),
    ("checks", 48, 40, "bicubic"),
    ("checks", 13, 12, "bilinear"),
    ("tall", 32, 28, "bilinear"),
    ("tall", 31, 28, "bicubic"),
    ("tall", 64, 57, "bicubic"),
    ("strip", 16, 16, "bilinear"),
    ("strip", 16, 15, "bicubic"),
    ("grey", 32, 32, "bilinear"),
    ("palette", 24, 20, "bicubic"),
    ("bits", 20, 16, "bilinear"),
    ("bits", 37, 32, "bilinear"),
]


def sources():
    def grid(width, height):
        y, x = np.mgrid[0:height, 0:width]
        return x, y

    x, y = grid(40, 30)
    waves = [128 + 120 * np.sin(x / 5 + phase) * np.cos(y / 7 - phase) for phase in (0, 1, 2)]
    yield "waves", Image.fromarray(np.stack(waves, -1).astype(np.uint8))

    # Hard edges, where a cubic overshoots and every rounding shows.
    x, y = grid(91, 67)
    checks = [((x * x + y * (3 + c)) // 7 % 2) * 255 for c in range(3)]
    yield "checks", Image.fromarray(np.stack(checks, -1).astype(np.uint8))

    x, y = grid(45, 123)
    tall = [(x * 37 + y * 91 + c * x * y) % 256 for c in range(3)]
    yield "tall", Image.fromarray(np.stack(tall, -1).astype(np.uint8))

    x, y = grid(701, 3)
    yield "strip", Image.fromarray(np.stack([x % 256, (x * y) % 256, 255 - x % 256], -1).astype(np.uint8))

    x, y = grid(37, 50)
    yield "grey", Image.fromarray(((x * y * 5) % 256).astype(np.uint8))

    x, y = grid(33, 29)
    palette = Image.fromarray(((x * 3 + y) % 16).astype(np.uint8), "P")
    palette.putpalette([(i * step) % 256 for i in range(16) for step in (17, 91, 203)])
    yield "palette", palette

    yield "bits", Image.fromarray((x * y) % 3 == 0)


def main():
    FOLDER.mkdir(exist_ok=True)
    images = dict(sources())
    for name, image in images.items():
        image.save(FOLDER / f"{name}.png", optimize=True)
    cases = []
    for name, resize, crop, interpolation in CASES:
        transform = [Resize(resize, InterpolationMode(interpolation)), CenterCrop(crop)]
        with Image.open(FOLDER / f"{name}.png") as file:
            image = file.convert("RGB")
        for step in transform:
            image = step(image)
        expected = f"{name}-{resize}-{crop}-{interpolation}.png"
        image.save(FOLDER / expected, optimize=True)
        cases.append(
            {
                "source": f"{name}.png",
                "resize": resize,
                "crop": crop,
                "interpolation": interpolation,
                "expected": expected,
            }
        )
    made_with = {"Pillow": PIL.__version__, "torchvision": torchvision.__version__.split("+")[0]}
    (FOLDER / "cases.json").write_text(json.dumps({"made_with": made_with, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
