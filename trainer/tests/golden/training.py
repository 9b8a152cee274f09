"""Makes training.json: what PyTorch makes of 20 steps of training, in every way that a recipe can ask for.

    python training.py [CONFIGURATION...]

Needs torch (made with 2.15 on a CPU) and numpy; takes some minutes. Names of configurations try those alone and write
nothing. The test needs neither: it reads what is committed.

The network is torchvision's ResNet of basic blocks, one a stage. Weights and photos are those of model/src/random.rs, bit by
bit; `start` tells whether they are. Each configuration is trained in double precision, which `losses` and `tensors` are of,
and in single precision: `losses_f32`, and under `rounding` by how much that differs, relatively for losses and for tensors
in units of their largest value, or absolutely where that is below 1. Of a tensor there are the l2 norm, the sum, and the
values at `k * length / count` of the flat tensor, for `count = min(32, length)` of them.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

FILE = Path(__file__).with_suffix(".json")
STEPS, BATCH, SIDE, CLASSES = 20, 32, 64, 10
FIRST_SEED = 1000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VALUES = 32
DIGITS = 9

# As in a recipe. Learning rates are those at which single precision follows double: errors of rounding grow with every step,
# at 1e-3 to 2e-4 of the loss. Weight decay is large enough to show after 20 such steps.
SGD = {
    "optimiser": "sgd",
    "learning-rate": 1e-4,
    "momentum": 0.9,
    "nesterov": True,
    "weight-decay": 0.1,
    "decay-norms-and-biases": False,
}
# Its usual epsilon of 1e-8 would leave the signs of gradients near zero to rounding.
ADAMW = {
    "optimiser": "adamw",
    "learning-rate": 3e-5,
    "betas": [0.9, 0.999],
    "epsilon": 1e-2,
    "weight-decay": 0.5,
    "decay-norms-and-biases": False,
}
SMOOTHING = {"label-smoothing": 0.1}
WEIGHTS = {"class-weights": [round(0.5 + 0.1 * k, 1) for k in range(CLASSES)]}
CONFIGURATIONS = {
    "sgd": SGD,
    "sgd-plain": SGD | {"nesterov": False, "decay-norms-and-biases": True},
    "adamw": ADAMW,
    "lamb": ADAMW | {"optimiser": "lamb", "epsilon": 1e-6},
    "smoothing": SGD | SMOOTHING,
    "weights": SGD | WEIGHTS | {"learning-rate": 5e-5},
    "weights-smoothing": SGD | WEIGHTS | SMOOTHING,
    "ema": SGD | {"ema-decay": 0.9},
    "accumulation": SGD | {"accumulate": 2},
    "clip": SGD | {"clip-norm": 1.0},
}


def uniform(seed, count):
    """f32 in -1..1, by splitmix64."""
    z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 23) - np.float32(1)


def pixels(step):
    values = np.float32(127.5) + np.float32(127.5) * uniform(FIRST_SEED + step, BATCH * SIDE * SIDE * 3)
    return values.astype(np.uint8).reshape(BATCH, SIDE, SIDE, 3)


def initial(name, shape, values):
    values = values.reshape(shape)
    if len(shape) > 1:
        return values * np.sqrt(np.float32(6) / np.float32(np.prod(shape[1:])))
    if name.endswith("running_var"):
        return np.float32(2.5) + np.float32(2) * values
    return np.float32(1) + np.float32(0.5) * values if name.endswith("weight") else values


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
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2))
        self.layer3 = nn.Sequential(Block(128, 256, 2))
        self.layer4 = nn.Sequential(Block(256, 512, 2))
        self.fc = nn.Linear(512, CLASSES)
        # Registered as they are drawn: a convolution, its norm with statistics, and so on.
        tensors = tensors_of(self)
        drawn = uniform(sum(p.numel() for p in self.parameters()), sum(map(torch.numel, tensors.values())))
        parts = np.split(drawn, np.cumsum([tensor.numel() for tensor in tensors.values()])[:-1])
        for (name, tensor), part in zip(tensors.items(), parts):
            tensor.copy_(torch.from_numpy(initial(name, tensor.shape, part)))

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def tensors_of(network):
    """Parameters and running statistics by name."""
    return {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}


class Lamb(torch.optim.Optimizer):
    """You et al. (2020), as Burn does it: with moments unbiased, and a trust ratio for every parameter, decayed or not."""

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            (beta_1, beta_2), decay = group["betas"], group["weight_decay"]
            for parameter in group["params"]:
                state = self.state[parameter]
                if not state:
                    state.update(time=0, moment_1=torch.zeros_like(parameter), moment_2=torch.zeros_like(parameter))
                state["time"] += 1
                state["moment_1"].mul_(beta_1).add_(parameter.grad, alpha=1 - beta_1)
                state["moment_2"].mul_(beta_2).addcmul_(parameter.grad, parameter.grad, value=1 - beta_2)
                moment_1 = state["moment_1"] / (1 - beta_1 ** state["time"])
                moment_2 = state["moment_2"] / (1 - beta_2 ** state["time"])
                update = moment_1 / (moment_2.sqrt() + group["eps"]) + decay * parameter
                norm, update_norm = parameter.norm(), update.norm()
                ratio = norm / update_norm if norm > 0 and update_norm > 0 else 1
                parameter -= group["lr"] * ratio * update


def optimiser_of(settings, network):
    norms_and_biases = [parameter for parameter in network.parameters() if parameter.dim() == 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    decay = settings["weight-decay"]
    groups = [
        {"params": others, "weight_decay": decay},
        {"params": norms_and_biases, "weight_decay": decay if settings["decay-norms-and-biases"] else 0},
    ]
    if settings["optimiser"] == "sgd":
        momentum, nesterov = settings["momentum"], settings["nesterov"]
        return torch.optim.SGD(groups, settings["learning-rate"], momentum=momentum, nesterov=nesterov)
    defaults = {"lr": settings["learning-rate"], "betas": settings["betas"], "eps": settings["epsilon"]}
    return torch.optim.AdamW(groups, **defaults) if settings["optimiser"] == "adamw" else Lamb(groups, defaults)


def batch(step, dtype):
    images = (pixels(step) / 255.0 - MEAN) / STD
    classes = (7 * torch.arange(BATCH) + 3 * step) % CLASSES
    return torch.from_numpy(images.transpose(0, 3, 1, 2)).to(dtype).contiguous(), classes


def train(settings, dtype):
    """Losses, norms of the gradients as they are before clipping, and the tensors in the end."""
    network = ResNet().to(dtype).train()
    optimiser = optimiser_of(settings, network)
    weights = settings.get("class-weights")
    weights = weights and torch.tensor(weights, dtype=dtype)
    criterion = nn.CrossEntropyLoss(weights, label_smoothing=settings.get("label-smoothing", 0))
    average = None
    if decay := settings.get("ema-decay"):
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    parts = settings.get("accumulate", 1)
    losses, norms = [], []
    for step in range(STEPS):
        images, classes = batch(step, dtype)
        optimiser.zero_grad()
        loss = 0
        for part in range(parts):
            part_loss = criterion(network(images[part::parts]), classes[part::parts]) / parts
            part_loss.backward()
            loss += part_loss.item()
        norms.append(nn.utils.clip_grad_norm_(network.parameters(), settings.get("clip-norm", float("inf"))).item())
        optimiser.step()
        if average:
            average.update_parameters(network)
        losses.append(loss)
    return losses, norms, tensors_of(average.module if average else network)


def differences(found, exact):
    """Relative ones of the losses; of the tensors, in units of their largest value, or of 1 if that is larger."""
    loss = max(abs(a - b) / abs(b) for a, b in zip(found[0], exact[0]))
    pairs = [(found[2][name].double(), tensor) for name, tensor in exact[2].items()]
    return {"loss": loss, "tensors": max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs)}


def summary(tensor):
    flat = tensor.double().flatten()
    count = min(VALUES, len(flat))
    picked = flat[[k * len(flat) // count for k in range(count)]]
    return {"l2": flat.norm().item(), "sum": flat.sum().item(), "values": picked.tolist()}


def start():
    tensors = tensors_of(ResNet())
    names = ("conv1.weight", "bn1.weight", "layer2.0.downsample.1.running_var", "layer4.0.conv2.weight", "fc.weight", "fc.bias")
    values = {name: tensors[name].flatten()[:4].tolist() for name in names}
    return {"tensors": values, "pixels": pixels(0).flatten()[:4].tolist(), "pixel_sum": int(pixels(0).sum(dtype=int))}


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("configurations", nargs="*", help=", ".join(CONFIGURATIONS))
    parser.add_argument("--threads", type=int, default=2, help="(%(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    results = {}
    for name in given.configurations or CONFIGURATIONS:
        settings = CONFIGURATIONS[name]
        exact, found = (train(settings, dtype) for dtype in (torch.float64, torch.float32))
        rounding = differences(found, exact)
        losses = f"loss {exact[0][0]:.4f} to {exact[0][-1]:.4f}, gradient's norm {min(exact[1]):.2f} to {max(exact[1]):.2f}"
        print(f"{name}: {losses}, rounding {rounding['loss']:.1e} and {rounding['tensors']:.1e}", flush=True)
        results[name] = {
            "settings": settings,
            "losses": exact[0],
            "losses_f32": found[0],
            "gradient_norms": exact[1],
            "rounding": rounding,
            "tensors": {name: summary(tensor) for name, tensor in exact[2].items()},
        }
    if given.configurations:
        return
    made_with = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    made = {"made_with": made_with, "steps": STEPS, "batch": BATCH, "side": SIDE, "start": start(), "configurations": results}
    FILE.write_text(json.dumps(rounded(made), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
