"""Measures the loss of accuracy from decoding JPEGs at half size, which is why the preprocessor does not do it.

    python3 tests/peers/scaled_decode.py PHOTO|FOLDER...

Needs Pillow and numpy. The script enlarges each photo so that half its size is still LEFT times the target size, adds grain,
encodes it at quality 90, decodes it in full and at half size (with libjpeg, whose output Shortcut's decoder equals), resizes and crops both as
torchvision does, and prints the largest difference out of 255 and the share of values that differ by more than 2: for
smooth enlargements, for enlargements with hard edges, and for a drawing.
"""

import argparse
import io
from pathlib import Path

import numpy
from PIL import Image, ImageDraw

RESIZE, CROP = 256, 224


def preprocess(image, size):
    """Resizes and crops `image`, which may be a reduced version of an image of `size`."""
    width, height = size
    scaled = (RESIZE, RESIZE * height // width) if width <= height else (RESIZE * width // height, RESIZE)
    # If a side is odd, the last pixel of the half-size image covers only half a pixel.
    shown = tuple(min(side, of / round(of / side)) for side, of in zip(image.size, size))
    image = image.resize(scaled, Image.Resampling.BILINEAR, box=(0, 0, *shown))
    left, top = (round((side - CROP) / 2) for side in scaled)
    return numpy.asarray(image.crop((left, top, left + CROP, top + CROP))).astype(int)


def differences(image):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    half = Image.open(io.BytesIO(file.getvalue()))
    half.draft("RGB", tuple(side // 2 for side in image.size))
    whole = Image.open(io.BytesIO(file.getvalue()))
    assert half.size == tuple((side + 1) // 2 for side in image.size)
    return numpy.abs(preprocess(half, image.size) - preprocess(whole, image.size))


def enlarged(photo, short, filter):
    scale = short / min(photo.size)
    large = photo.resize([round(side * scale) for side in photo.size], filter)
    grain = numpy.random.default_rng(0).normal(0, 6, (large.height, large.width, 1))
    return Image.fromarray(numpy.clip(numpy.asarray(large) + grain, 0, 255).round().astype(numpy.uint8))


def drawing(short):
    random = numpy.random.default_rng(1)
    size = (short * 4 // 3, short)
    image = Image.new("RGB", size, "white")
    for _ in range(300):
        line, colour = random.integers(0, size[0], 4), random.integers(0, 255, 3)
        ImageDraw.Draw(image).line(line.tolist(), fill=tuple(colour.tolist()), width=int(random.integers(1, 20)))
    return image


def report(name, all_differences):
    largest = max(each.max() for each in all_differences)
    worst = max((each > 2).mean() for each in all_differences)
    beyond = sum(each.max() > 2 for each in all_differences)
    exceeding = f"{beyond} of {len(all_differences)} images exceed 2, in at most {worst:.4%} of their values"
    print(f"{name}: largest difference {largest}; {exceeding}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", help="photos, or folders of photos")
    parser.add_argument("--left", type=float, default=5.86, help="half size relative to 256 (%(default)s: 12 megapixels)")
    options = parser.parse_args()
    short = round(2 * RESIZE * options.left)
    suffixes = (".jpg", ".jpeg")
    files = [file for given in options.photos for file in (sorted(given.iterdir()) if given.is_dir() else [given])]
    photos = [Image.open(file).convert("RGB") for file in files if file.suffix.lower() in suffixes]
    for name, filter in [("smooth", Image.Resampling.BICUBIC), ("hard edges", Image.Resampling.NEAREST)]:
        report(name, [differences(enlarged(photo, short, filter)) for photo in photos])
    report("drawing", [differences(drawing(short))])


if __name__ == "__main__":
    main()
