"""Compares Shortcut's decoding and resizing with Pillow's: from a JPEG's bytes to 224x224 pixels, on one thread.

    cargo build --release -p trainer
    python3 tests/peers/preprocess.py

Needs Pillow and numpy. The script creates the photos: a sample enlarged to 12 megapixels, with grain, encoded at
quality 90. Both sides decode them, apply the EXIF orientation, and resize and crop as torchvision does (`Resize(256)`,
`CenterCrop(224)`). They take turns, and the first photo of each turn is not counted. The last line is JSON.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import PIL
from PIL import Image, ImageOps

ROOT = Path(__file__).resolve().parents[2]
RESIZE, CROP = 256, 224
ORIENTATION, ROTATE_90 = 0x0112, 6


def photos(sample):
    """Returns encoded JPEGs by name: photos as a camera or a smartphone held upright takes them, two less common
    encodings, and the sample itself.
    """
    small = sample.read_bytes()
    enlarged = Image.open(io.BytesIO(small)).convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC)
    grain = numpy.random.default_rng(0).normal(0, 6, (3000, 4000, 1))
    large = Image.fromarray(numpy.clip(numpy.asarray(enlarged) + grain, 0, 255).round().astype(numpy.uint8))
    rotated = Image.Exif()
    rotated[ORIENTATION] = ROTATE_90

    def jpeg(**options):
        file = io.BytesIO()
        large.save(file, "JPEG", quality=90, **options)
        return file.getvalue()

    return {
        "12 MP": jpeg(),
        "12 MP, EXIF-rotated": jpeg(exif=rotated),
        "12 MP, full chroma": jpeg(subsampling=0),
        "12 MP, progressive": jpeg(progressive=True),
        f"{sample.stem}, {len(small) >> 10} KiB": small,
    }


def time_pillow(encoded):
    """Returns the milliseconds that Pillow takes for decoding, including rotation, and for resizing and cropping."""
    start = time.perf_counter()
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB")
    image.load()
    decoded = time.perf_counter()
    width, height = image.size
    scaled = (RESIZE, RESIZE * height // width) if width <= height else (RESIZE * width // height, RESIZE)
    image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = (round((side - CROP) / 2) for side in scaled)
    pixels = numpy.asarray(image.crop((left, top, left + CROP, top + CROP)))
    end = time.perf_counter()
    assert pixels.shape == (CROP, CROP, 3)
    return 1e3 * (decoded - start), 1e3 * (end - decoded)


def time_shortcut(trainer, checkpoint, file, photos):
    """Returns the same two times of Shortcut for each of `photos` runs on one file, as reported by `trainer predict`."""
    command = [trainer, "predict", "--json", "--checkpoint", checkpoint, *[file] * photos]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    timings = [json.loads(line)["timing_ms"] for line in lines]
    return [(timing["decode"], timing["preprocess"]) for timing in timings]


def compare(encoded, trainer, checkpoint, turns, photos):
    """Returns the medians of both sides in milliseconds (decoding, resizing, and their sum), and the ratio of the sums."""
    times = {"ours": [], "pillow": []}
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(encoded)
        file.flush()
        for _ in range(turns):
            times["ours"] += time_shortcut(trainer, checkpoint, file.name, photos + 1)[1:]
            times["pillow"] += [time_pillow(encoded) for _ in range(photos + 1)][1:]

    def medians(pairs):
        decode, resize = zip(*pairs)
        total = [sum(pair) for pair in pairs]
        median = statistics.median
        return {"decode_ms": median(decode), "resize_ms": median(resize), "total_ms": median(total)}

    sides = {side: medians(pairs) for side, pairs in times.items()}
    return {**sides, "ratio": sides["ours"]["total_ms"] / sides["pillow"]["total_ms"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", type=Path, default=ROOT / "target/release/trainer", help="path of the trainer binary")
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "checkpoints/resnet18-imagenette.safetensors")
    parser.add_argument("--sample", type=Path, default=ROOT / "samples/palace.jpg", help="photo to enlarge")
    parser.add_argument("--turns", type=int, default=3, help="number of turns of each side (default: %(default)s)")
    parser.add_argument("--photos", type=int, default=4, help="number of photos measured in each turn (default: %(default)s)")
    args = parser.parse_args()
    if not args.trainer.exists():
        sys.exit(f"{args.trainer} does not exist; build it with: cargo build --release -p trainer")

    print(f"milliseconds: decode + resize = total; Pillow {PIL.__version__}", flush=True)
    results = {}
    for name, encoded in photos(args.sample).items():
        result = compare(encoded, args.trainer, args.checkpoint, args.turns, args.photos)
        results[name] = result
        sides = [
            "{} {decode_ms:6.1f} + {resize_ms:5.1f} = {total_ms:6.1f}".format(side, **result[side])
            for side in ("ours", "pillow")
        ]
        print(f"{name:24} {sides[0]}   {sides[1]}   ratio {result['ratio']:.2f}", flush=True)
    print(json.dumps({"pillow": PIL.__version__, "photos": results}))


if __name__ == "__main__":
    main()
