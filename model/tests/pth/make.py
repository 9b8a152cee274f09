"""Writes the small .pth files in this folder: python3 make.py (requires PyTorch 2; the files are committed).

Each file holds the same few tensors, saved in one of the ways in which files differ in practice, or something that the
importer must reject.
"""

import io
import os
import zipfile
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


def weights():
    """The tensors that `expected` in ../pth.rs lists, and a counter."""
    return {
        "conv1.weight": torch.arange(24.0).reshape(2, 3, 2, 2) / 4,
        "bn1.weight": torch.tensor([1.0, 2.0]),
        "bn1.num_batches_tracked": torch.tensor(7),
        "layer2.0.downsample.0.weight": torch.arange(4.0).reshape(2, 2, 1, 1) - 1.5,
        "fc.weight": torch.arange(6.0).reshape(3, 2) / 8,
        "fc.bias": -torch.arange(3.0),
    }


def floats(change):
    """The weights with `change` applied to every floating-point tensor."""
    return {name: change(value) if value.is_floating_point() else value for name, value in weights().items()}


def renamed(rename):
    return {rename(name): value for name, value in weights().items()}


def save(name, value, **options):
    torch.save(value, HERE / f"{name}.pth", **options)


class Unknown:
    """A class that is unknown to the importer."""


class Attack:
    """Runs a command if the reader executes the pickle."""

    def __reduce__(self):
        return os.system, ("touch executed-by-pickle",)


def shared():
    """The weights as views of one storage, each at an offset."""
    tensors = floats(lambda value: value)
    flat = torch.cat([torch.full((3,), 99.0)] + [value.flatten() for value in tensors.values() if value.dim()])
    offset = 3
    for name, value in tensors.items():
        if value.dim():
            tensors[name] = flat[offset : offset + value.numel()].view(value.shape)
            offset += value.numel()
    return tensors


def with_attribute(value):
    value.note = "kept by PyTorch, of no use here"
    return value


def rezipped(name, compression=zipfile.ZIP_STORED, replace=None):
    """Writes the entries of zip.pth to a new archive, with another compression or with entries replaced."""
    replace = replace or {}
    with zipfile.ZipFile(HERE / "zip.pth") as old, zipfile.ZipFile(HERE / f"{name}.pth", "w", compression) as new:
        for entry in old.namelist():
            data = old.read(entry)
            new.writestr(zipfile.ZipInfo(entry), replace.get(entry.split("/", 1)[1], data), compression)


def main():
    save("zip", weights())
    save("legacy", weights(), _use_new_zipfile_serialization=False)
    save("protocol4", weights(), pickle_protocol=4)
    save("protocol5_legacy", weights(), pickle_protocol=5, _use_new_zipfile_serialization=False)
    save("f16", floats(torch.Tensor.half))
    save("bf16", floats(torch.Tensor.bfloat16))
    save("f64", floats(torch.Tensor.double))
    save("channels_last", floats(lambda v: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v))
    save("transposed", floats(lambda v: v.t().contiguous().t() if v.dim() == 2 else v))
    save("shared", shared())
    save("shared_legacy", shared(), _use_new_zipfile_serialization=False)
    save("parameters", floats(nn.Parameter))
    save("attributes", floats(with_attribute))
    save("nested_state_dict", {"epoch": 3, "state_dict": renamed(lambda n: f"module.{n}"), "best": torch.tensor(0.5)})
    save("nested_model", {"model": renamed(lambda n: f"module._orig_mod.{n}"), "classes": ["ant", "bee", "cat"]})
    tutorial = renamed(lambda n: n.replace("downsample", "shortcut").replace("fc.", "fc.1."))
    save("tutorial", {"model_state_dict": tutorial, "loss": float("nan"), "history": [1, 2.5, None, (True, b"x", 1 << 70)]})
    module = nn.Sequential()
    module.add_module("fc", nn.Linear(2, 3))
    save("ordered_dict", nn.Sequential(nn.Linear(2, 1)).state_dict())

    save("unknown_outside_weights", {"state_dict": weights(), "arguments": Unknown(), "set": {1, 2}})
    save("unknown_in_weights", weights() | {"layer1.weight": Unknown()})
    save("attack_outside_weights", {"state_dict": weights(), "arguments": Attack()})
    save("attack_in_weights", weights() | {"layer1.weight": Attack()})
    save("attack_legacy", weights() | {"layer1.weight": Attack()}, _use_new_zipfile_serialization=False)
    save("module", module)
    save("module_nested", {"model": module})
    save("integers", weights() | {"fc.weight": torch.arange(6).reshape(3, 2)})
    save("text", weights() | {"note": "by hand"})
    save("no_weights", {"epoch": 3, "optimizer": {"lr": 0.1}})
    save("twice", weights() | {"module.fc.bias": torch.zeros(3)})
    rezipped("compressed", zipfile.ZIP_DEFLATED)
    rezipped("big_endian", replace={"byteorder": b"big"})
    rezipped("short_storage", replace={"data/0": b"\0" * 8})
    script = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 3)), script)
    (HERE / "script.pth").write_bytes(script.getvalue())


if __name__ == "__main__":
    main()
