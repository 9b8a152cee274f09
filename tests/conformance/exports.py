"""Compares exported files with PyTorch: `trainer export`, the program that each format is for, and `trainer import`.

    python exports.py TRAINER     # a Python with torch 2.15, torchvision 0.29, onnx, onnxruntime and safetensors

The reference is torchvision's network with the checkpoint's weights. What needs a package that is not installed (timm,
onnxscript, openvino, coremltools) is reported as skipped.
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


def installed(package, purpose):
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"  {purpose}: skipped, because {package} is not installed")
    return found


def check_converters(trainer, checkpoint, network, pixels, folder):
    """The commands of docs/export.md."""
    images = normalised(pixels)
    if installed("openvino", "OpenVINO"):
        import openvino

        run(trainer, "export", checkpoint, "--format", "onnx", "--output", folder / "model.onnx")
        command = [sys.executable, "-m", "openvino.tools.ovc", "model.onnx", "--output_model", "model.xml"]
        subprocess.run([*command, "--compress_to_fp16=False"], cwd=folder, check=True, capture_output=True)
        compiled = openvino.compile_model(folder / "model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        with torch.no_grad():
            assert_close(compiled(images.numpy())["logits"], network(images), "OpenVINO")
    if installed("coremltools", "CoreML"):
        import coremltools

        run(trainer, "export", checkpoint, "--format", "torchscript", "--output", folder / "model.ts")
        inputs = [coremltools.TensorType("input", shape=(1, 3, 224, 224))]
        converted = coremltools.convert(torch.jit.load(folder / "model.ts"), inputs=inputs, convert_to="mlprogram")
        # Models run only on macOS.
        converted.save(str(folder / "model.mlpackage"))
        print("  CoreML: converted", flush=True)


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
    if not installed("timm", "timm"):
        return
    import timm

    run(trainer, "export", checkpoint, "--format", "timm", "--output", folder / "timm")
    loaded = timm.create_model(f"local-dir:{folder / 'timm'}", pretrained=True).eval()
    data = timm.data.resolve_model_data_config(loaded)
    assert list(data["input_size"]) == [3, 224, 224] and data["crop_pct"] == 0.875, data
    with torch.no_grad():
        found = loaded(images)
    assert torch.equal(found.topk(5).indices, expected.topk(5).indices)
    assert_close(found, expected, "timm")


def check_import(trainer, network, folder):
    """ONNX files of PyTorch's exporters."""
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images).numpy()
    with_norms = dict(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    exporters = {"torch.jit exporter": dict(dynamo=False), "batch norms": dict(dynamo=False, **with_norms)}
    if installed("onnxscript", "torch.export exporter"):
        exporters |= {"torch.export exporter": dict(dynamo=True, external_data=False)}
        exporters |= {"external data": dict(dynamo=True, external_data=True)}
    for exporter, options in exporters.items():
        path = folder / "torch.onnx"
        torch.onnx.export(network, (images,), path, opset_version=18, verbose=False, **options)
        run(trainer, "import", path, folder / "imported.safetensors")
        again = ("--format", "onnx", "--output", folder / "again.onnx", "--dynamic-size")
        run(trainer, "export", folder / "imported.safetensors", *again)
        found = session(folder / "again.onnx").run(None, {"input": images.numpy()})[0]
        assert_close(found, expected, f"import, {exporter}")


def random_checkpoints(folder):
    """Files of networks that the bundled checkpoints do not cover: groups, and the small stem."""
    for name, small_stem in (("resnext50_32x4d", False), ("resnet34", True)):
        network = random_network(name, small_stem)
        path = folder / f"{name}.safetensors"
        save_file(network.state_dict(), path)
        yield path, network, None if small_stem else name


def main():
    torch.set_num_threads(1)
    trainer = Path(sys.argv[1]).resolve()
    pixels = photos()
    bundled = (("resnet18-imagenette", "resnet18"), ("resnet50_v1-imagenet", None))
    networks = [(name, load(ROOT / f"checkpoints/{name}.safetensors"), loader) for name, loader in bundled]
    with tempfile.TemporaryDirectory() as folder:
        # The third item is torchvision's name of the network, if torchvision has it.
        for checkpoint, network, name in (*networks, *random_checkpoints(Path(folder))):
            print(checkpoint, flush=True)
            with tempfile.TemporaryDirectory() as outputs:
                outputs = Path(outputs)
                check_onnx(trainer, checkpoint, network, pixels, outputs)
                check_torchscript(trainer, checkpoint, network, pixels, outputs)
                check_converters(trainer, checkpoint, network, pixels, outputs)
                if name is None:
                    for kind in ("pth", "safetensors", "timm"):
                        refused(trainer, "export", checkpoint, "--format", kind, "--output", outputs / "refused")
                else:
                    check_weights(trainer, checkpoint, network, name, pixels, outputs)
                check_import(trainer, network, outputs)


if __name__ == "__main__":
    main()
