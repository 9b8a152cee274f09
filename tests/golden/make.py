"""Writes golden.safetensors: results of PyTorch and torchvision for the sample photos and the bundled checkpoints.

    python tests/golden/make.py        # from the root of the workspace; torch 2.15, torchvision 0.29, safetensors 0.8

`cropped_u8` [5, 224, 224, 3] holds the photos of PHOTOS after Resize(256) and CenterCrop(224).
`resnet18-imagenette` [5, 10] and `resnet50_v1-imagenet` [5, 1000] hold the logits of the checkpoints of these names,
whose int8 matrices are converted to floats first.
"""

import json

import numpy as np
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from torchvision.transforms import v2

PHOTOS = ["cat", "coffee", "flower", "palace", "rocket"]


def load(path):
    """Loads a checkpoint as a torchvision model in evaluation mode."""
    with safe_open(path, "pt") as file:
        metadata = json.loads(file.metadata()["shortcut"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    state = {}
    for name, tensor in tensors.items():
        if name.endswith(".scale"):
            continue
        if tensor.dtype == torch.int8:
            scale = tensors[name + ".scale"].reshape(-1, *[1] * (tensor.dim() - 1))
            tensor = tensor.float() * scale
        state[name] = tensor.float()
    name = metadata["architecture"]["name"]
    model = getattr(torchvision.models, name.removesuffix("_v1"))(num_classes=metadata["architecture"]["classes"])
    if name.endswith("_v1"):
        for stage in (model.layer2, model.layer3, model.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    model.load_state_dict(state, strict=True)
    return model.eval()


crop = v2.Compose([v2.Resize(256, antialias=True), v2.CenterCrop(224)])
cropped = np.stack([np.asarray(crop(Image.open(f"samples/{name}.jpg").convert("RGB"))) for name in PHOTOS])
images = torch.from_numpy(cropped).permute(0, 3, 1, 2) / 255
mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
images = (images - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)

golden = {"cropped_u8": cropped}
for name in ["resnet18-imagenette", "resnet50_v1-imagenet"]:
    with torch.no_grad():
        golden[name] = load(f"checkpoints/{name}.safetensors")(images).numpy()
    print(name, golden[name].argmax(1))
save_file(golden, "tests/golden/golden.safetensors", {"photos": json.dumps(PHOTOS), "torch": torch.__version__})
