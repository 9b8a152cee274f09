"""Writes torchvision-resnet18.pickles: what torch.save writes of a ResNet-18 whose tensors are all views of one storage
of fp16 zeros, up to that storage's values. The test appends them, and a number in place of the last ones with which the
file's SHA-256 begins like that of torchvision's file. torch.save writes other keys every time, and another file takes
another number: 2^32 tries on average."""

import io
from pathlib import Path

import torch
import torchvision

state = torchvision.models.resnet18().state_dict()
storage = torch.zeros(max(tensor.numel() for tensor in state.values()), dtype=torch.float16)


def view(tensor):
    return storage.as_strided(tensor.shape, torch.empty(tensor.shape).stride())


file = io.BytesIO()
state = {name: view(tensor) for name, tensor in state.items() if tensor.is_floating_point()}
torch.save(state, file, _use_new_zipfile_serialization=False)
head = file.getvalue()[: -2 * storage.numel()]
Path(__file__).with_name("torchvision-resnet18.pickles").write_bytes(head)
print(f"{len(head)} bytes, and {storage.numel()} values of fp16")
