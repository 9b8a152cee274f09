"""Compares loading of training photos with torchvision: from JPEGs and from decoded photos, in images per second per core.

    cargo build --release -p trainer
    python3 tests/peers/loading.py [FOLDER]

Needs torch, torchvision and Pillow (requirements.txt). FOLDER contains one folder of photos per class, directly or within
`train`; by default the script creates 512 JPEGs of 500x375 at quality 90 from crops of the repository's samples. Both sides
read, decode, crop (`RandomResizedCrop(224)` and `RandomHorizontalFlip`) and stack batches of 64, with one worker per
core. They take turns for several rounds, each starting with a different one, and the script prints medians. torchvision
is measured with normalised floats as output (`ToTensor`, `Normalize`), the usual choice, and with bytes (`PILToTensor`),
like Shortcut, which normalises on the device. For decoded photos, torchvision reads Pillow images from memory.
The last line is JSON.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import PIL
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from machine import Use, describe

ROOT = Path(__file__).resolve().parents[2]
SIZE, BATCH = 224, 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def make(folder, count=512, size=(500, 375), classes=8):
    """Writes JPEGs of random crops of the samples."""
    samples = [Image.open(file).convert("RGB") for file in sorted((ROOT / "samples").glob("*.jpg"))]
    draws = random.Random(0)
    for index in range(count):
        photo = samples[index % len(samples)]
        width = min(photo.width, photo.height * size[0] / size[1]) * draws.uniform(0.6, 1)
        height = width * size[1] / size[0]
        left, top = draws.uniform(0, photo.width - width), draws.uniform(0, photo.height - height)
        part = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        class_folder = folder / "train" / f"class{index % classes}"
        class_folder.mkdir(parents=True, exist_ok=True)
        part.save(class_folder / f"{index:04}.jpg", quality=90)


class Decoded(torch.utils.data.Dataset):
    """The same photos as Pillow images in memory."""

    def __init__(self, folder):
        self.transform = folder.transform
        self.photos = [(folder.loader(path), target) for path, target in folder.samples]

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        photo, target = self.photos[index]
        return self.transform(photo), target


class Torchvision:
    """A data loader with persistent workers. It is created for each round and ended after it, so that its workers do not
    disturb other measurements.
    """

    def __init__(self, data, end, decoded, workers, seconds):
        steps = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *end]
        self.dataset = ImageFolder(data, transforms.Compose(steps))
        if decoded:
            self.dataset = Decoded(self.dataset)
        self.workers, self.seconds = workers, seconds

    def round(self):
        loader = DataLoader(
            self.dataset, batch_size=BATCH, shuffle=True, num_workers=self.workers, persistent_workers=True
        )
        epoch = lambda: sum(len(targets) for _, targets in loader)
        epoch()
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < self.seconds:
            images += epoch()
        return images / (time.perf_counter() - start)


class Ours:
    def __init__(self, trainer, data, cache, threads, seconds):
        self.command = [trainer, "bench-loading", "--json", "--data", data, "--cache", cache, "--image-size", str(SIZE)]
        self.command += ["--batch-size", str(BATCH), "--loader-threads", str(threads), "--seconds", str(seconds)]

    def round(self):
        output = subprocess.run(self.command, check=True, capture_output=True, text=True).stdout
        return json.loads(output)["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of photos (default: crops of the samples)")
    parser.add_argument("--trainer", type=Path, default=ROOT / "target/release/trainer", help="path of the trainer binary")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="length of a round (%(default)s)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="number of processes or threads")
    options = parser.parse_args()
    if not options.trainer.exists():
        sys.exit(f"{options.trainer} does not exist; build it with: cargo build --release -p trainer")

    with tempfile.TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        if not options.folder:
            make(folder)
        compare(folder, options)


def compare(folder, options):
    train = folder / "train" if (folder / "train").is_dir() else folder
    workers, seconds = options.workers, options.seconds
    floats = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    sides = {
        "ours, JPEGs": Ours(options.trainer, train, "off", workers, seconds),
        "torchvision, JPEGs, floats": Torchvision(train, floats, False, workers, seconds),
        "torchvision, JPEGs, bytes": Torchvision(train, [transforms.PILToTensor()], False, workers, seconds),
        "ours, decoded": Ours(options.trainer, train, "auto", workers, seconds),
        "torchvision, decoded, floats": Torchvision(train, floats, True, workers, seconds),
    }
    rounds = {name: [] for name in sides}
    use, order = Use(), list(sides)
    for index in range(options.rounds):
        for name in order[index % len(order) :] + order[: index % len(order)]:
            rounds[name].append(sides[name].round())
    medians = {name: statistics.median(figures) / workers for name, figures in rounds.items()}

    print(f"images/s per core, on {workers}; torchvision {torchvision.__version__}, Pillow {PIL.__version__}")
    base = medians["torchvision, JPEGs, floats"]
    for name, figure in medians.items():
        spread = (max(rounds[name]) - min(rounds[name])) / 2 / workers
        print(f"{name:30} {figure:7.0f} ± {spread:4.0f}   {figure / base:5.2f} times torchvision from JPEGs")
    shares = use.shares()
    if shares["others"] + shares["stolen"] > 0.05:
        print(f"Other programs used {shares['others']:.0%} of the processors, the hypervisor took {shares['stolen']:.0%}.")
    report = {"machine": describe(), "use": shares, "workers": workers, "rounds": rounds, "per_core": medians}
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__}
    print(json.dumps({**report, "versions": versions}))


if __name__ == "__main__":
    main()
