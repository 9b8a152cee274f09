"""Compares a training step with PyTorch's: ResNet-18, batch 32, 128 x 128, SGD, single precision, on the CPU.

    cargo build --release -p trainer
    python3 tests/peers/training.py [--compile]

Needs torch (requirements.txt). The script times forward pass, loss, backward pass and optimiser: PyTorch's in each memory layout and, with
--compile, with torch.compile, which needs a C++ compiler; Shortcut's by `trainer bench-training`. All take turns for several rounds,
and the script prints medians. PyTorch's profile by operation is that of its faster layout without torch.compile, which fuses
operations; Shortcut's is that of the last round. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from machine import Use, describe

ROOT = Path(__file__).resolve().parents[2]
BATCH, SIDE, CLASSES = 32, 128, 1000
WARM_UP, FEWEST_STEPS, PROFILED_STEPS = 2, 5, 3
# The first match in an operator's name decides. Backward comes first, because forward names are prefixes of backward names.
OPERATIONS = {
    "convolution, backward": ("convolution_backward",),
    "convolution, forward": ("convolution",),
    "batch norm, backward": ("batch_norm_backward",),
    "batch norm, forward": ("batch_norm",),
    "relu, backward": ("threshold_backward",),
    "relu, forward": ("relu", "clamp_min"),
    "pool, backward": ("max_pool2d_with_indices_backward",),
    "pool, forward": ("max_pool2d",),
    "optimiser": ("_foreach", "_fused_sgd", "Optimizer"),
    "add": ("aten::add",),
    "classifier and loss": ("addmm", "aten::mm", "softmax", "nll_loss", "mean", "div"),
    "copies": ("copy", "fill", "zero", "clone"),
}


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(x)).add_(shortcut), inplace=True)


def resnet18():
    layers = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    for inputs, outputs in ((64, 64), (64, 128), (128, 256), (256, 512)):
        layers += [Block(inputs, outputs, outputs // inputs), Block(outputs, outputs, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, CLASSES))


def training_step(layout, compiled):
    torch.manual_seed(1)
    network = resnet18().train().to(memory_format=layout)
    images = torch.randn(BATCH, 3, SIDE, SIDE).to(memory_format=layout)
    classes = torch.randint(0, CLASSES, (BATCH,))
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4, nesterov=True)
    forward = torch.compile(network) if compiled else network

    def step():
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(forward(images), classes).backward()
        optimiser.step()

    return step


def median(step, seconds):
    for _ in range(WARM_UP):
        step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < FEWEST_STEPS or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def shares(step):
    """Returns the share of each operation in the operators' own time, excluding operators that they call."""
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(PROFILED_STEPS):
            step()
    times = dict.fromkeys([*OPERATIONS, "other"], 0)
    for event in profiled.key_averages():
        named = (name for name, parts in OPERATIONS.items() if any(part in event.key for part in parts))
        times[next(named, "other")] += event.self_cpu_time_total
    total = sum(times.values())
    return {name: round(us / total, 4) for name, us in sorted(times.items(), key=lambda item: -item[1])}


def ours(trainer, seconds):
    command = [trainer, "bench-training", "--json", "--seconds", str(seconds)]
    command += ["--batch-size", str(BATCH), "--image-size", str(SIDE)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", type=Path, default=ROOT / "target/release/trainer", help="path of the trainer binary")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (%(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each side in a round (%(default)s)")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    given = parser.parse_args()
    if not given.trainer.exists():
        sys.exit(f"{given.trainer} does not exist; build it with: cargo build --release -p trainer")
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    steps = {f"PyTorch, {name}": training_step(layout, False) for name, layout in layouts.items()}
    if given.compile:
        steps["PyTorch, channels_last, compiled"] = training_step(torch.channels_last, True)
    rounds, use = {name: [] for name in [*steps, "ours"]}, Use()
    for _ in range(given.rounds):
        for name, step in steps.items():
            rounds[name].append(median(step, given.seconds))
        own = ours(given.trainer, given.seconds)
        rounds["ours"].append(own["step"])
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    eager = min((name for name in steps if "compiled" not in name), key=medians.get)
    profiles = {eager: shares(steps[eager]), "ours": {name: round(s / own["step"], 4) for name, s in own.items()}}

    for name, seconds in medians.items():
        spread = (max(rounds[name]) - min(rounds[name])) / 2
        print(f"{name:34} {seconds:6.3f} ± {spread:5.3f} s a step   {seconds / medians[eager]:5.2f} of {eager}'s")
    for name, profiled in profiles.items():
        print(f"{name}:", ", ".join(f"{part} {share:.1%}" for part, share in profiled.items()))
    print(json.dumps({"machine": describe(), "use": use.shares(), "torch": torch.__version__, "rounds": rounds, "profiles": profiles}))


if __name__ == "__main__":
    main()
