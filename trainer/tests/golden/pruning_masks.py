"""Writes pruning_masks.json: masks of torch.nn.utils.prune.global_unstructured with L1Unstructured.

    python pruning_masks.py

Requires torch (last run with 2.15). The test itself does not: it reads the committed file. `make conformance` compares the
masks of a whole checkpoint.
"""

import json
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils import prune

FILE = Path(__file__).with_suffix(".json")
SHAPES = [(4, 3, 3, 3), (6, 4, 1, 1), (5, 6, 3, 3)]
# Halves are rounded to the even number: 402 weights, of which 0.125 are 50.25, and 2.5 / 402 and 3.5 / 402 are halves.
AMOUNTS = [0.0, 0.125, 2.5 / 402, 3.5 / 402, 0.3, 0.5, 0.9]


def masks(weights, amount):
    """Returns the mask of each weight, which is 0 where it is pruned."""
    layers = []
    for weight in weights:
        layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=False)
        layer.weight = nn.Parameter(weight.clone())
        layers.append(layer)
    parameters = [(layer, "weight") for layer in layers]
    prune.global_unstructured(parameters, pruning_method=prune.L1Unstructured, amount=amount)
    return [layer.weight_mask for layer in layers]


def main():
    torch.manual_seed(0)
    weights = [torch.randn(shape) for shape in SHAPES]
    flat = torch.cat([weight.abs().flatten() for weight in weights])
    # PyTorch does not define which of equal magnitudes are pruned.
    assert flat.unique().numel() == flat.numel()
    cases = []
    for amount in AMOUNTS:
        pruned = [(mask.flatten() == 0).nonzero().flatten().tolist() for mask in masks(weights, amount)]
        cases.append({"amount": amount, "pruned": pruned})
    tensors = [weight.flatten().tolist() for weight in weights]
    FILE.write_text(json.dumps({"tensors": tensors, "cases": cases}) + "\n")


if __name__ == "__main__":
    main()
