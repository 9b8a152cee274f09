"""Compares a training step of Shortcut with PyTorch's: ResNet-18, batch size 32, 128x128 pixels, SGD, fp32, on the CPU.

    cargo build --release -p trainer
    python3 tests/peers/training.py [--compile]

Needs torch (requirements.txt). A step consists of forward pass, loss, backward pass and optimiser. The script times
PyTorch in each memory layout and, with --compile, with torch.compile, which needs a C++ compiler; `trainer
bench-training` times Shortcut. All take turns for several rounds, and the script prints medians. It also prints the
share of each operation: for PyTorch in its faster layout without torch.compile, which fuses operations, and for
Shortcut in the last round. The last line is JSON.
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

from machine import ContentionMonitor, describe

ROOT = Path(__file__).resolve().parents[2]
BATCH, SIDE, CLASSES = 32, 128, 1000
WARM_UP_STEPS, MIN_STEPS, PROFILED_STEPS = 2, 5, 3
# Parts of the operators' names by operation. The first match counts. Backward passes come first, because the names of
# forward passes are also part of theirs.
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
    """Returns a function that runs one training step of PyTorch in a memory layout."""
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


def median_seconds(step, seconds):
    """Runs a step repeatedly for a number of seconds, and returns its median time in seconds."""
    for _ in range(WARM_UP_STEPS):
        step()
    times, end = [], time.perf_counter() + seconds
    while len(times) < MIN_STEPS or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def operation_shares(step):
    """Returns the share of each operation in the total time, largest first. The time of an operator excludes that of
    the operators that it calls.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        for _ in range(PROFILED_STEPS):
            step()
    times = dict.fromkeys([*OPERATIONS, "other"], 0)
    for event in profiler.key_averages():
        matches = (name for name, parts in OPERATIONS.items() if any(part in event.key for part in parts))
        times[next(matches, "other")] += event.self_cpu_time_total
    total = sum(times.values())
    return {name: round(us / total, 4) for name, us in sorted(times.items(), key=lambda item: -item[1])}


def bench_shortcut(trainer, seconds):
    """Returns the report of `trainer bench-training`: the seconds of a step, in total as `step` and by operation."""
    command = [trainer, "bench-training", "--json", "--seconds", str(seconds)]
    command += ["--batch-size", str(BATCH), "--image-size", str(SIDE)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", type=Path, default=ROOT / "target/release/trainer", help="path of the trainer binary")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=10.0, help="time for each side in a round (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    args = parser.parse_args()
    if not args.trainer.exists():
        sys.exit(f"{args.trainer} does not exist; build it with: cargo build --release -p trainer")
    torch.set_num_threads(len(os.sched_getaffinity(0)))

    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    steps = {f"PyTorch, {name}": training_step(layout, False) for name, layout in layouts.items()}
    if args.compile:
        steps["PyTorch, channels_last, compiled"] = training_step(torch.channels_last, True)
    rounds, monitor = {name: [] for name in [*steps, "ours"]}, ContentionMonitor()
    for _ in range(args.rounds):
        for name, step in steps.items():
            rounds[name].append(median_seconds(step, args.seconds))
        shortcut = bench_shortcut(args.trainer, args.seconds)
        rounds["ours"].append(shortcut["step"])
    medians = {name: statistics.median(times) for name, times in rounds.items()}
    eager = min((name for name in steps if "compiled" not in name), key=medians.get)
    shortcut_shares = {name: round(seconds / shortcut["step"], 4) for name, seconds in shortcut.items()}
    profiles = {eager: operation_shares(steps[eager]), "ours": shortcut_shares}

    for name, seconds in medians.items():
        half_range = (max(rounds[name]) - min(rounds[name])) / 2
        print(f"{name:34} {seconds:6.3f} ± {half_range:5.3f} s a step   {seconds / medians[eager]:5.2f} of {eager}'s")
    for name, shares in profiles.items():
        print(f"{name}:", ", ".join(f"{operation} {share:.1%}" for operation, share in shares.items()))
    results = {"machine": describe(), "use": monitor.shares(), "torch": torch.__version__}
    print(json.dumps({**results, "rounds": rounds, "profiles": profiles}))


if __name__ == "__main__":
    main()
