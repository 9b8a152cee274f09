"""Writes torchvision-resnet18.pickles: the output of torch.save for a ResNet-18 whose tensors are all views of one fp16 storage
of zeros, up to the values of that storage. The test appends these, with the last of them replaced by a number for which the
SHA-256 of the file starts like that of torchvision's file. torch.save writes different keys each time, so that a new file needs
a new number: 2^32 attempts on average."""

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
