"""Compares exported files with PyTorch: `trainer export`, the program that each format is for, and `trainer import`.

    python exports.py TRAINER     # a Python with torch 2.15, torchvision 0.29, onnx, onnxruntime and safetensors

The reference is torchvision's network with the checkpoint's weights. Formats whose package is not installed (timm) are
reported as skipped.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "model/tests/feature_maps"))

from torchvision_network import load  # noqa: E402

PHOTOS = sorted((ROOT / "samples").glob("*.jpg"))
# Differences relative to the largest absolute logit.
TOLERANCE, HALF_TOLERANCE = 1e-4, 2e-2


def run(trainer, *arguments):
    return subprocess.run([trainer, *map(str, arguments)], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def refused(trainer, *arguments):
    result = subprocess.run([trainer, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode != 0, f"{arguments} was not refused"
    assert "export it as onnx, torchscript" in result.stderr, result.stderr


def photos():
    """u8 [photos, 224, 224, 3]."""
    crop = lambda file: Image.open(file).convert("RGB").resize((256, 256)).crop((16, 16, 240, 240))
    return np.stack([np.asarray(crop(file)) for file in PHOTOS])


def normalised(pixels, size=None):
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    images = torch.from_numpy(((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    return images if size is None else torch.nn.functional.interpolate(images, size)


def random_network(name, small_stem=False):
    """A torchvision network whose batch norms are not trivial; with the stem for small images, if requested."""
    torch.manual_seed(1)
    network = getattr(torchvision.models, name)(num_classes=10)
    if small_stem:
        network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = torch.nn.Identity()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.2, 0.6)
            for tensor in (module.bias, module.running_mean):
                torch.nn.init.normal_(tensor, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def session(path, optimised=True):
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def assert_close(found, expected, what, tolerance=TOLERANCE):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, f"{what}: {found.shape} instead of {expected.shape}"
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    assert difference < tolerance, f"{what} differs by {difference}"
    print(f"  {what}: differs by {difference:.1e}", flush=True)


def check_onnx(trainer, checkpoint, network, pixels, folder):
    path = folder / "model.onnx"

    def exported(*options):
        run(trainer, "export", checkpoint, "--format", "onnx", "--output", path, *options)
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert model.opset_import[0].version >= 17
        return {entry.key: entry.value for entry in model.metadata_props}

    images = normalised(pixels)
    with torch.no_grad():
        expected = network(images).numpy()
        larger = normalised(pixels, (256, 320))
        expected_larger = network(larger).numpy()
    metadata = exported()
    assert len(json.loads(metadata["labels"])) == expected.shape[1]
    for optimised in (True, False):
        found = session(path, optimised).run(["logits"], {"input": images.numpy()})[0]
        assert_close(found, expected, f"onnx, {'optimised' if optimised else 'not optimised'}")
    exported("--keep-batch-norms", "--dynamic-size")
    runtime = session(path)
    assert_close(runtime.run(None, {"input": images.numpy()})[0], expected, "onnx with batch norms")
    assert_close(runtime.run(None, {"input": larger.numpy()})[0], expected_larger, "onnx, another size")
    exported("--preprocessing", "--batch", len(pixels))
    assert_close(session(path).run(None, {"images": pixels})[0], expected, "onnx with preprocessing")
    temperature = float(exported("--softmax").get("temperature", 1))
    probabilities = torch.softmax(torch.from_numpy(expected) / temperature, 1)
    found = session(path).run(["probabilities"], {"input": images.numpy()})[0]
    assert_close(found, probabilities, "onnx with softmax")
    exported("--dtype", "f16")
    found = session(path).run(["logits"], {"input": images.numpy()})[0]
    assert_close(found, expected, "onnx, fp16", HALF_TOLERANCE)


def check_torchscript(trainer, checkpoint, network, pixels, folder):
    path = folder / "model.ts"
    run(trainer, "export", checkpoint, "--format", "torchscript", "--output", path)
    extra = {"shortcut.json": ""}
    module = torch.jit.load(path, _extra_files=extra)
    assert json.loads(extra["shortcut.json"])["labels"]
    images = normalised(pixels)
    with torch.no_grad():
        assert_close(module(images), network(images), "torchscript")
        assert_close(torch.jit.freeze(module)(images), network(images), "torchscript, frozen")


def check_weights(trainer, checkpoint, network, name, pixels, folder):
    """Formats without operations, for networks of torchvision."""
    images = normalised(pixels)
    classes = network.fc.out_features
    with torch.no_grad():
        expected = network(images)
    for kind, read in (("pth", lambda path: torch.load(path, weights_only=True)), ("safetensors", load_file)):
        for dtype, tolerance in (("f32", TOLERANCE), ("f16", HALF_TOLERANCE)):
            path = folder / f"weights.{kind}"
            run(trainer, "export", checkpoint, "--format", kind, "--output", path, "--dtype", dtype)
            loaded = getattr(torchvision.models, name)(num_classes=classes).eval()
            state = read(path)
            loaded.load_state_dict(state, strict=True)
            if kind == "pth":
                assert list(state) == list(loaded.state_dict()), "the names or their order differ"
            with torch.no_grad():
                assert_close(loaded(images), expected, f"{kind}, {dtype}", tolerance)
    if importlib.util.find_spec("timm") is None:
        print("  timm: skipped, because it is not installed")
        return
    import timm

    run(trainer, "export", checkpoint, "--format", "timm", "--output", folder / "timm")
    loaded = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(loaded)
    assert data["input_size"] == (3, 224, 224) and data["crop_pct"] == 0.875, data
    with torch.no_grad():
        found = loaded(images)
    assert torch.equal(found.topk(5).indices, expected.topk(5).indices)
    assert_close(found, expected, "timm")


def check_import(trainer, network, name, folder):
    """ONNX files of PyTorch's exporters."""
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images).numpy()
    exporters = {"torchscript exporter": dict(dynamo=False), "with batch norms": dict(dynamo=False, training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)}
    if importlib.util.find_spec("onnxscript") is not None:
        exporters |= {"dynamo": dict(dynamo=True, external_data=False), "external data": dict(dynamo=True, external_data=True)}
    for exporter, options in exporters.items():
        path = folder / "torch.onnx"
        torch.onnx.export(network, (images,), path, opset_version=18, verbose=False, **options)
        run(trainer, "import", path, folder / "imported.safetensors")
        run(trainer, "export", folder / "imported.safetensors", "--format", "onnx", "--output", folder / "again.onnx", "--dynamic-size")
        found = session(folder / "again.onnx").run(None, {"input": images.numpy()})[0]
        assert_close(found, expected, f"{name}, import, {exporter}")


def main():
    torch.set_num_threads(1)
    trainer = Path(sys.argv[1]).resolve()
    pixels = photos()
    networks = [(name, load(ROOT / f"checkpoints/{name}.safetensors"), None) for name in ("resnet18-imagenette", "resnet50_v1-imagenet")]
    with tempfile.TemporaryDirectory() as folder:
        for name, small_stem in (("resnext50_32x4d", False), ("resnet34", True)):
            network = random_network(name, small_stem)
            path = Path(folder) / f"{name}.safetensors"
            save_file(network.state_dict(), path)
            networks.append((path, network, name if not small_stem else None))
        networks[0] = (*networks[0][:2], "resnet18")
        for checkpoint, network, name in networks:
            print(checkpoint, flush=True)
            with tempfile.TemporaryDirectory() as outputs:
                outputs = Path(outputs)
                check_onnx(trainer, checkpoint, network, pixels, outputs)
                check_torchscript(trainer, checkpoint, network, pixels, outputs)
                if name is None:
                    for kind in ("pth", "safetensors", "timm"):
                        refused(trainer, "export", checkpoint, "--format", kind, "--output", outputs / "refused")
                else:
                    check_weights(trainer, checkpoint, network, name, pixels, outputs)
                check_import(trainer, network, str(checkpoint), outputs)


if __name__ == "__main__":
    main()
