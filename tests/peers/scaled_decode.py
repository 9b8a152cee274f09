"""Measures the loss of accuracy from decoding JPEGs at half size, because of which the preprocessor decodes in full.

    python3 tests/peers/scaled_decode.py PHOTO|FOLDER...

Needs Pillow and numpy. The script enlarges each photo so that the short side of the half-size image is LEFT times 256,
adds grain, and encodes it at quality 90. It decodes the result in full and at half size with libjpeg, whose output
Shortcut's decoder equals, and resizes and crops both as torchvision does. It prints the largest difference out of 255,
and the share of values that differ by more than 2: for smooth enlargements, for enlargements with hard edges, and for a
drawing.
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
    # If a side is odd, only half of the last pixel of the half-size image belongs to the photo.
    covered = tuple(min(side, full / round(full / side)) for side, full in zip(image.size, size))
    image = image.resize(scaled, Image.Resampling.BILINEAR, box=(0, 0, *covered))
    left, top = (round((side - CROP) / 2) for side in scaled)
    return numpy.asarray(image.crop((left, top, left + CROP, top + CROP))).astype(int)


def differences(image):
    """Returns the absolute differences between the preprocessed image decoded in full and at half size."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    half = Image.open(io.BytesIO(file.getvalue()))
    half.draft("RGB", tuple(side // 2 for side in image.size))
    full = Image.open(io.BytesIO(file.getvalue()))
    assert half.size == tuple((side + 1) // 2 for side in image.size)
    return numpy.abs(preprocess(half, image.size) - preprocess(full, image.size))


def enlarged(photo, short_side, filter):
    """Returns the photo enlarged to a length of its short side, with grain."""
    scale = short_side / min(photo.size)
    large = photo.resize([round(side * scale) for side in photo.size], filter)
    grain = numpy.random.default_rng(0).normal(0, 6, (large.height, large.width, 1))
    return Image.fromarray(numpy.clip(numpy.asarray(large) + grain, 0, 255).round().astype(numpy.uint8))


def drawing(short_side):
    """Returns an image of random lines, with an aspect ratio of 4:3."""
    random = numpy.random.default_rng(1)
    size = (short_side * 4 // 3, short_side)
    image = Image.new("RGB", size, "white")
    for _ in range(300):
        line, colour = random.integers(0, size[0], 4), random.integers(0, 255, 3)
        ImageDraw.Draw(image).line(line.tolist(), fill=tuple(colour.tolist()), width=int(random.integers(1, 20)))
    return image


def report(name, all_differences):
    largest = max(image.max() for image in all_differences)
    largest_share = max((image > 2).mean() for image in all_differences)
    count = sum(image.max() > 2 for image in all_differences)
    exceeding = f"{count} of {len(all_differences)} images exceed 2, in at most {largest_share:.4%} of their values"
    print(f"{name}: largest difference {largest}; {exceeding}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", help="photos, or folders of photos")
    left_help = "short side of the half-size image, divided by 256 (default: %(default)s, for 12 megapixels)"
    parser.add_argument("--left", type=float, default=5.86, help=left_help)
    args = parser.parse_args()
    short_side = round(2 * RESIZE * args.left)
    suffixes = (".jpg", ".jpeg")
    files = [file for path in args.photos for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    photos = [Image.open(file).convert("RGB") for file in files if file.suffix.lower() in suffixes]
    for name, filter in [("smooth", Image.Resampling.BICUBIC), ("hard edges", Image.Resampling.NEAREST)]:
        report(name, [differences(enlarged(photo, short_side, filter)) for photo in photos])
    report("drawing", [differences(drawing(short_side))])


if __name__ == "__main__":
    main()
