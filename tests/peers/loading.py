"""Compares the loading of training photos with torchvision, in images per second per core.

    cargo build --release -p trainer
    python3 tests/peers/loading.py [FOLDER]

Needs torch, torchvision and Pillow (requirements.txt). FOLDER contains one folder of photos per class, directly or
within `train`; by default the script creates 512 JPEGs of 500x375 pixels at quality 90 from crops of the repository's
samples. Both sides load JPEGs and decoded photos: they read, decode, crop (`RandomResizedCrop(224)` and
`RandomHorizontalFlip`) and stack batches of 64, with one worker per core. They take turns for several rounds, each of
which starts with a different loader, and the script prints medians. torchvision is measured with normalised floats as
output (`ToTensor`, `Normalize`), the usual choice, and with bytes (`PILToTensor`), which Shortcut also produces,
because it normalises on the device. For decoded photos, torchvision reads Pillow images from memory. The last line is
JSON.
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

from machine import ContentionMonitor, describe

ROOT = Path(__file__).resolve().parents[2]
SIZE, BATCH = 224, 64
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def write_photos(folder, count=512, size=(500, 375), classes=8):
    """Writes JPEGs of random crops of the samples."""
    samples = [Image.open(file).convert("RGB") for file in sorted((ROOT / "samples").glob("*.jpg"))]
    generator = random.Random(0)
    for index in range(count):
        photo = samples[index % len(samples)]
        width = min(photo.width, photo.height * size[0] / size[1]) * generator.uniform(0.6, 1)
        height = width * size[1] / size[0]
        left, top = generator.uniform(0, photo.width - width), generator.uniform(0, photo.height - height)
        crop = photo.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + width, top + height))
        class_folder = folder / "train" / f"class{index % classes}"
        class_folder.mkdir(parents=True, exist_ok=True)
        crop.save(class_folder / f"{index:04}.jpg", quality=90)


class DecodedDataset(torch.utils.data.Dataset):
    """The photos of an ImageFolder, as Pillow images in memory."""

    def __init__(self, dataset):
        self.transform = dataset.transform
        self.photos = [(dataset.loader(path), target) for path, target in dataset.samples]

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, index):
        photo, target = self.photos[index]
        return self.transform(photo), target


class TorchvisionLoader:
    """A data loader with persistent workers. They are started for each round and ended after it, so that they do not
    disturb other measurements.
    """

    def __init__(self, data, output_transforms, decoded, workers, seconds):
        steps = [transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(), *output_transforms]
        self.dataset = ImageFolder(data, transforms.Compose(steps))
        if decoded:
            self.dataset = DecodedDataset(self.dataset)
        self.workers, self.seconds = workers, seconds

    def images_per_second(self):
        """Measures one round, after an epoch of warm-up."""
        loader = DataLoader(
            self.dataset, batch_size=BATCH, shuffle=True, num_workers=self.workers, persistent_workers=True
        )
        run_epoch = lambda: sum(len(targets) for _, targets in loader)
        run_epoch()
        start, images = time.perf_counter(), 0
        while time.perf_counter() - start < self.seconds:
            images += run_epoch()
        return images / (time.perf_counter() - start)


class ShortcutLoader:
    """`trainer bench-loading`."""

    def __init__(self, trainer, data, cache, threads, seconds):
        self.command = [trainer, "bench-loading", "--json", "--data", data, "--cache", cache, "--image-size", str(SIZE)]
        self.command += ["--batch-size", str(BATCH), "--loader-threads", str(threads), "--seconds", str(seconds)]

    def images_per_second(self):
        """Measures one round."""
        output = subprocess.run(self.command, check=True, capture_output=True, text=True).stdout
        return json.loads(output)["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="folder of photos (default: crops of the samples)")
    parser.add_argument("--trainer", type=Path, default=ROOT / "target/release/trainer", help="path of the trainer binary")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4, help="duration of a round (default: %(default)s)")
    workers_help = "number of worker processes of torchvision and of loader threads of Shortcut (default: %(default)s)"
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help=workers_help)
    args = parser.parse_args()
    if not args.trainer.exists():
        sys.exit(f"{args.trainer} does not exist; build it with: cargo build --release -p trainer")

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if not args.folder:
            write_photos(folder)
        compare(folder, args)


def compare(folder, args):
    train = folder / "train" if (folder / "train").is_dir() else folder
    workers, seconds = args.workers, args.seconds
    floats = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    loaders = {
        "ours, JPEGs": ShortcutLoader(args.trainer, train, "off", workers, seconds),
        "torchvision, JPEGs, floats": TorchvisionLoader(train, floats, False, workers, seconds),
        "torchvision, JPEGs, bytes": TorchvisionLoader(train, [transforms.PILToTensor()], False, workers, seconds),
        "ours, decoded": ShortcutLoader(args.trainer, train, "auto", workers, seconds),
        "torchvision, decoded, floats": TorchvisionLoader(train, floats, True, workers, seconds),
    }
    rounds = {name: [] for name in loaders}
    monitor, order = ContentionMonitor(), list(loaders)
    for index in range(args.rounds):
        for name in order[index % len(order) :] + order[: index % len(order)]:
            rounds[name].append(loaders[name].images_per_second())
    medians = {name: statistics.median(rates) / workers for name, rates in rounds.items()}

    print(f"images/s per core, on {workers}; torchvision {torchvision.__version__}, Pillow {PIL.__version__}")
    baseline = medians["torchvision, JPEGs, floats"]
    for name, rate in medians.items():
        half_range = (max(rounds[name]) - min(rounds[name])) / 2 / workers
        print(f"{name:30} {rate:7.0f} ± {half_range:4.0f}   {rate / baseline:5.2f} times torchvision from JPEGs")
    shares = monitor.shares()
    if shares["others"] + shares["stolen"] > 0.05:
        print(f"Other programs used {shares['others']:.0%} of the processors, the hypervisor took {shares['stolen']:.0%}.")
    report = {"machine": describe(), "use": shares, "workers": workers, "rounds": rounds, "per_core": medians}
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__}
    print(json.dumps({**report, "versions": versions}))


if __name__ == "__main__":
    main()
