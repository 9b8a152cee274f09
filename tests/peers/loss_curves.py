"""Compares training with the recipe `cifar` to PyTorch: the same initial weights, batches, augmentation and schedule.

The recipe's first steps are chaotic: from random weights at a learning rate of 0.1, rounding errors grow. Therefore the
first epoch is also compared at a learning rate of 0.001, and PyTorch is compared with itself in another memory format.

    python3 tests/peers/loss_curves.py TARGET --data PHOTOS --output FOLDER

PHOTOS contains `train` and `val` with one folder per class. Photos are first resized to 32 px, at most `--photos` per set
and the same number of each class. Each seed has its own initial weights, made by torchvision, and its own batches: the order
of the samples, crops and flips are those of the trainer, whose random numbers are a function of the seed, the epoch and the
sample (trainer/src/data/rng.rs), computed here a second time. Writes the runs and `curves.json` to FOLDER, and prints a
table. Needs torch, torchvision, Pillow and safetensors, which environment.py installs; run it with that Python.
"""

import argparse
import json
import math
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from torch.nn import functional

from training_worker import create_network

RECIPE = tomllib.loads((Path(__file__).parents[2] / "trainer/recipes/cifar.toml").read_text())
SIDE, PADDING, FLIP = RECIPE["image-size"], RECIPE["crop-padding"], RECIPE["flip"]
BATCH, LEARNING_RATE = RECIPE["batch-size"], RECIPE["learning-rate"]
MOMENTUM, WEIGHT_DECAY = RECIPE["momentum"], RECIPE["weight-decay"]
assert RECIPE["schedule"] == "cosine" and RECIPE["decay-norms-and-biases"], "train_torch has another schedule or decay"
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# A learning rate at which rounding errors do not grow.
SMALL_LEARNING_RATE = 0.001
# The trainer records mean metrics every so many steps, and at the end of an epoch.
STEPS_PER_RECORD = 10

MASK = (1 << 64) - 1
INCREMENT = 0x9E3779B97F4A7C15
ORDER, SAMPLE = 2, 3


def splitmix64(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class CounterRng:
    """The trainer's random numbers."""

    def __init__(self, seed, purpose, indices):
        self.state = splitmix64(seed)
        for word in [purpose, *indices]:
            self.state = splitmix64(((self.state + INCREMENT) & MASK) ^ splitmix64(word))

    def next(self):
        self.state = (self.state + INCREMENT) & MASK
        return splitmix64(self.state)

    def below(self, count):
        return (self.next() * count) >> 64

    def fraction(self):
        return (self.next() >> 11) / (1 << 53)


def shuffled(count, seed, epoch):
    rng = CounterRng(seed, ORDER, [epoch])
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = rng.below(last + 1)
        order[last], order[other] = order[other], order[last]
    return order


def prepare(photos, folder, count):
    """Writes `count` photos of each set as PNG of 32x32 pixels: the short side resized, and the centre cropped. Returns the
    pixels and classes of both sets, sorted by class and name as by the trainer.
    """
    sets = {}
    for name in ("train", "val"):
        classes = sorted(path for path in (photos / name).iterdir() if path.is_dir())
        images, labels = [], []
        for label, source in enumerate(classes):
            target = folder / name / source.name
            target.mkdir(parents=True, exist_ok=True)
            for path in sorted(source.iterdir())[: count // len(classes)]:
                image = Image.open(path).convert("RGB")
                scale = SIDE / min(image.size)
                image = image.resize([max(SIDE, round(scale * side)) for side in image.size], Image.BILINEAR)
                left, top = [(side - SIDE) // 2 for side in image.size]
                image = image.crop((left, top, left + SIDE, top + SIDE))
                image.save(target / f"{path.stem}.png")
                images.append(np.array(image))
                labels.append(label)
        sets[name] = np.stack(images), torch.tensor(labels)
    return sets, [path.name for path in classes]


def initial_network(seed, classes, path):
    """Returns torchvision's random network, and writes it as a checkpoint of the trainer."""
    torch.manual_seed(seed)
    network = create_network(RECIPE["architecture"], small_stem=RECIPE["stem"] == "small")
    network.fc = torch.nn.Linear(network.fc.in_features, len(classes))
    metadata = {
        "version": 1,
        "architecture": {"name": RECIPE["architecture"], "stem": RECIPE["stem"], "classes": len(classes)},
        "classes": classes,
        "labels": classes,
        "preprocessing": {"resize": SIDE, "crop": SIDE, "interpolation": "bilinear", "mean": MEAN, "std": STD},
    }
    tensors = {name: value.numpy() for name, value in network.state_dict().items() if "num_batches" not in name}
    save_file(tensors, path, metadata={"shortcut": json.dumps(metadata)})
    return network


def augment(images, indices, seed, epoch):
    """Returns the augmented and normalised batch, `[batch, 3, height, width]`."""
    batch = np.zeros((len(indices), SIDE, SIDE, 3), np.uint8)
    for row, index in enumerate(indices):
        rng = CounterRng(seed, SAMPLE, [epoch, index, 0])
        top = rng.below(2 * PADDING + 1)
        left = rng.below(2 * PADDING + 1)
        padded = np.pad(images[index], ((PADDING, PADDING), (PADDING, PADDING), (0, 0)))
        crop = padded[top : top + SIDE, left : left + SIDE]
        batch[row] = crop[:, ::-1] if rng.fraction() < FLIP else crop
    return normalise(batch)


def normalise(batch):
    values = (batch.astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(values.transpose(0, 3, 1, 2))


def train_torch(network, sets, seed, epochs, learning_rate=LEARNING_RATE, memory_format=torch.channels_last):
    """Trains, and returns the mean loss of every record and the top-1 of every epoch."""
    (images, labels), (val_images, val_labels) = sets["train"], sets["val"]
    network = network.to(memory_format=memory_format)
    steps = len(images) // BATCH
    optimiser = torch.optim.SGD(network.parameters(), lr=learning_rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    records, accuracies = [], []
    for epoch in range(1, epochs + 1):
        network.train()
        order, losses = shuffled(len(images), seed, epoch), []
        for step in range(steps):
            progress = (epoch - 1) * steps + step
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * (1 + math.cos(math.pi * progress / (epochs * steps))) / 2
            indices = order[step * BATCH : (step + 1) * BATCH]
            batch = augment(images, indices, seed, epoch).to(memory_format=memory_format)
            loss = functional.cross_entropy(network(batch), labels[indices])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            if (step + 1) % STEPS_PER_RECORD == 0 or step + 1 == steps:
                records.append({"epoch": epoch, "step": step + 1, "loss": sum(losses) / len(losses)})
                losses = []
        network.eval()
        with torch.no_grad():
            chunks = zip(np.array_split(val_images, 20), torch.tensor_split(val_labels, 20))
            correct = sum((network(normalise(x)).argmax(1) == y).sum().item() for x, y in chunks)
        accuracies.append(correct / len(val_images))
    return records, accuracies


def train_shortcut(trainer, data, start, output, seed, epochs, learning_rate=LEARNING_RATE):
    command = [trainer, "train", "--data", data, "--recipe", "cifar", "--checkpoint", start, "--output", output]
    command += ["--epochs", epochs, "--seed", seed, "--no-photos", "--set", "architecture=", "--set", "stem="]
    command += ["--set", f"learning-rate={learning_rate}"]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    records = [{"epoch": line["epoch"], "step": line["step"], "loss": line["train"]["loss"]} for line in steps]
    return records, [line["val"]["top1"] for line in lines if line["kind"] == "epoch"]


def difference(result, other):
    """Returns the largest difference between mean losses in the first 20 steps, as a sentence."""
    pairs = [(a, b) for a, b in zip(result[0], other[0]) if a["epoch"] == 1 and a["step"] <= 20]
    largest = max(abs(a["loss"] - b["loss"]) for a, b in pairs)
    return f"mean losses of 10 steps differ by at most {largest:.1e} in the first 20 steps"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, which contains release/trainer")
    parser.add_argument("--data", type=Path, required=True, help="folder with train and val")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the runs")
    parser.add_argument("--photos", type=int, default=3000, help="photos of each set (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=10, help="number of epochs (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: %(default)s)")
    args = parser.parse_args()
    trainer = args.target / "release/trainer"
    args.output.mkdir(parents=True)
    sets, classes = prepare(args.data, args.output / "photos", args.photos)
    photos = args.output / "photos"
    start = args.output / "start-0.safetensors"
    rate = SMALL_LEARNING_RATE
    network = initial_network(0, classes, start)
    shortcut = train_shortcut(trainer, photos, start, args.output / "small-learning-rate", 0, 1, rate)
    small = difference(shortcut, train_torch(network, sets, 0, 1, rate))
    print(f"learning rate {rate}: {small}", flush=True)
    one, other = (initial_network(0, classes, start) for _ in range(2))
    contiguous = train_torch(other, sets, 0, 1, memory_format=torch.contiguous_format)
    control = difference(train_torch(one, sets, 0, 1), contiguous)
    print(f"PyTorch in two memory formats: {control}", flush=True)
    results = []
    for seed in range(args.seeds):
        start = args.output / f"start-{seed}.safetensors"
        network = initial_network(seed, classes, start)
        shortcut = train_shortcut(trainer, photos, start, args.output / f"seed-{seed}", seed, args.epochs)
        torch_result = train_torch(network, sets, seed, args.epochs)
        results.append({"seed": seed, "shortcut": shortcut, "pytorch": torch_result})
        final = f"final top-1 {shortcut[1][-1]:.4f}, PyTorch {torch_result[1][-1]:.4f}"
        print(f"seed {seed}: {difference(shortcut, torch_result)}; {final}", flush=True)
    document = {"small_learning_rate": small, "pytorch_with_itself": control, "seeds": results}
    (args.output / "curves.json").write_text(json.dumps(document))


if __name__ == "__main__":
    main()
