"""Writes torchvision-resnet18.pickles: a file of torch.save without the values of its tensors.

The file contains a ResNet-18 whose tensors are all views of one fp16 storage of zeros. The test appends the values of
the storage, and replaces the last 8 bytes by a number for which the SHA-256 of the file starts like that of
torchvision's file. torch.save writes different keys each time, so that a new file needs a new number, which takes 2^32
attempts on average.

    python3 trainer/tests/golden/torchvision.py
"""

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
