"""Runs an exported file in its Python runtime for `trainer export --check`: python -c SCRIPT FORMAT PATH SETTINGS.

Reads batches of photos from stdin: the number of photos as u32, then their pixels, u8 [photos, crop, crop, 3]. Writes the
outputs of each batch to stdout, f32 [photos, classes].
"""

import json
import os
import sys

import numpy

# Libraries may print to stdout; what they print goes to stderr.
results = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)


def onnx_runner(path, settings):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    expected = session.get_inputs()[0]
    batch = expected.shape[0]

    def run(pixels):
        images = pixels if expected.type == "tensor(uint8)" else normalise(pixels, settings)
        if not isinstance(batch, int):
            return session.run(None, {expected.name: images})[0]
        outputs = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            padding = numpy.zeros((batch - len(part), *part.shape[1:]), part.dtype)
            outputs.append(session.run(None, {expected.name: numpy.concatenate([part, padding])})[0][: len(part)])
        return numpy.concatenate(outputs)

    return run


def torch_runner(load):
    def runner(path, settings):
        import torch

        network = load(path, settings).eval()

        def run(pixels):
            with torch.no_grad():
                return network(torch.from_numpy(normalise(pixels, settings))).numpy()

        return run

    return runner


def torchscript_network(path, _):
    import torch

    return torch.jit.load(path)


def torchvision_network(path, settings, read):
    import torchvision

    network = getattr(torchvision.models, settings["architecture"])(num_classes=settings["classes"])
    network.load_state_dict(read(path), strict=True)
    return network


def pth_network(path, settings):
    import torch

    return torchvision_network(path, settings, lambda path: torch.load(path, weights_only=True))


def safetensors_network(path, settings):
    from safetensors.torch import load_file

    return torchvision_network(path, settings, load_file)


def timm_network(path, _):
    import timm

    return timm.create_model(f"local-dir:{path}", pretrained=True)


RUNNERS = {
    "onnx": onnx_runner,
    "torchscript": torch_runner(torchscript_network),
    "pth": torch_runner(pth_network),
    "safetensors": torch_runner(safetensors_network),
    "timm": torch_runner(timm_network),
}


def normalise(pixels, settings):
    mean, std = (numpy.float32(settings[name]) for name in ("mean", "std"))
    return numpy.ascontiguousarray(((pixels / numpy.float32(255) - mean) / std).transpose(0, 3, 1, 2))


def main():
    form, path, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    run = RUNNERS[form](path, settings)
    crop = settings["crop"]
    while header := sys.stdin.buffer.read(4):
        count = int.from_bytes(header, "little")
        pixels = numpy.frombuffer(sys.stdin.buffer.read(count * crop * crop * 3), numpy.uint8)
        outputs = run(pixels.reshape(count, crop, crop, 3))
        results.write(numpy.ascontiguousarray(outputs, numpy.float32).tobytes())
        results.flush()


main()
