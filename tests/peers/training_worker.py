"""Times training steps of PyTorch on the CPU. Reads one JSON request per line from stdin and writes one JSON answer per
line to stdout.

    python training_worker.py THREADS

The answer to {"load": {"network": N, "image_size": S, "batch": B, "small_stem": BOOL, "precision": P, "compiled": BOOL}}
is {"start_memory": BYTES}, the process's resident memory before the network is created. The load includes warm-up steps,
in which torch.compile compiles. The answer to {"time": {"seconds": S}} is {"times_ms": [...], "peak_memory": BYTES}: the
durations of consecutive steps after a warm-up, and the process's peak resident memory since the load. The answer to a
request that fails is {"error": MESSAGE}.
"""

import json
import math
import sys
import traceback
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.nn import functional

from worker import take_stdout, time_runs

CLASSES = 1000
# Small enough for finite losses on random images.
LEARNING_RATE = 1e-4
WARM_UP_STEPS = 2


def create_network(name, small_stem):
    """Returns torchvision's network with random weights. The small stem is that of networks for images of 32 pixels: a
    3x3 convolution with stride 1, and no max pooling.
    """
    network = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES)
    if small_stem:
        network.conv1 = nn.Conv2d(3, 64, 3, stride=1, padding=1, bias=False)
        network.maxpool = nn.Identity()
    return network


def training_step(network, image_size, batch, small_stem, precision, compiled):
    """Returns a function that runs one training step on random images, and returns the loss."""
    torch.manual_seed(1)
    model = create_network(network, small_stem).train().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, image_size, image_size).to(memory_format=torch.channels_last)
    classes = torch.randint(0, CLASSES, (batch,))
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4)
    forward = torch.compile(model) if compiled else model
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")

    def step():
        with autocast:
            loss = functional.cross_entropy(forward(images), classes)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return loss

    return step


def load(**request):
    """Returns a function that runs one training step, after warm-up steps."""
    step = training_step(**request)
    for _ in range(WARM_UP_STEPS):
        loss = step().item()
    if not math.isfinite(loss):
        raise RuntimeError(f"the loss is {loss}")
    reset_peak_memory()
    return step


def reset_peak_memory():
    """Resets the peak of this process's resident memory, if the kernel supports it (proc_pid_clear_refs(5)), so that
    compiling does not count as training.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def memory(field):
    """Returns a field of /proc/self/status in bytes: `VmRSS` is this process's resident memory, and `VmHWM` its peak."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields[field].split()[0]) * 1024


def serve(threads, answers):
    """Answers the requests on stdin."""
    torch.set_num_threads(threads)
    step = None
    for line in sys.stdin:
        ((kind, request),) = json.loads(line).items()
        try:
            if kind == "load":
                answer = {"start_memory": memory("VmRSS")}
                step = load(**request)
            else:
                answer = {"times_ms": time_runs(step, request["seconds"]), "peak_memory": memory("VmHWM")}
        except Exception as error:
            # The worker's stderr is its log.
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]), take_stdout())
