"""Writes each network in all formats that the peers read, with the same random weights.

    python export.py FOLDER

The files of each network are:
- NAME.torch.safetensors: torchvision's tensors
- NAME-bBATCH.onnx: for one batch size. The weights are constants; as graph inputs they would prevent ONNX Runtime's
  blocked layout.
- NAME.onnx: for batches of any size
- NAME.ncnn.param and NAME.ncnn.bin
- NAME.logits.f32: PyTorch's logits [8, 1000], computed in double precision

All engines get the same images: engines that normalise get pixels-bBATCH.u8 [BATCH, 224, 224, 3], and the others get
input.f32 [8, 3, 224, 224].
"""

import sys
import tempfile
import warnings
from pathlib import Path

import numpy
import torch
import torchvision
from safetensors.torch import save_file

try:
    import pnnx
except ImportError:  # the worker with ncnn then reports that the network's files cannot be loaded
    pnnx = None

NETWORKS = ("resnet18", "resnet50")
BATCHES = (1, 8)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def write_images(folder):
    """Writes the images, and returns them normalised, as f32 [8, 3, 224, 224]."""
    pixels = numpy.random.default_rng(1).integers(0, 256, (max(BATCHES), 224, 224, 3), numpy.uint8)
    for batch in BATCHES:
        pixels[:batch].tofile(folder / f"pixels-b{batch}.u8")
    normalised = (pixels.astype(numpy.float32) / 255 - numpy.float32(MEAN)) / numpy.float32(STD)
    normalised = numpy.ascontiguousarray(normalised.transpose(0, 3, 1, 2))
    normalised.tofile(folder / "input.f32")
    return torch.from_numpy(normalised)


def network(name, batch):
    """Returns a network with random weights. The running statistics of its batch norms are those of `batch`; otherwise
    activations would grow from block to block.
    """
    torch.manual_seed(1)
    model = getattr(torchvision.models, name)(weights=None)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    model.train()(batch)
    return model.eval()


@torch.no_grad()
def export(name, batch, folder):
    model = network(name, batch)
    tensors = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    save_file(tensors, folder / f"{name}.torch.safetensors")
    options = dict(dynamo=False, opset_version=17, input_names=["input"], output_names=["logits"])
    for size in BATCHES:
        torch.onnx.export(model, (batch[:size],), folder / f"{name}-b{size}.onnx", **options)
    dynamic_axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(model, (batch[:1],), folder / f"{name}.onnx", dynamic_axes=dynamic_axes, **options)
    if pnnx:
        ncnn = {f"ncnn{part}": str(folder / f"{name}.ncnn.{part}") for part in ("param", "bin")}
        # pnnx also writes files next to the PyTorch module.
        with tempfile.TemporaryDirectory() as temporary:
            pnnx.export(model, f"{temporary}/network.pt", batch[:1], fp16=False, **ncnn)
    model.double()(batch.double()).float().numpy().tofile(folder / f"{name}.logits.f32")


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    folder = Path(sys.argv[1])
    batch = write_images(folder)
    for name in NETWORKS:
        export(name, batch, folder)
