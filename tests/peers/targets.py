"""Performance targets, and how measurements compare with them."""

RIVALS = ("onnxruntime", "openvino", "ncnn")
# Maximum ratio of Shortcut's time to that of the fastest rival, by network and batch size.
NATIVE = {("resnet18", 1): 0.75, ("resnet18", 8): 0.7, ("resnet50", 1): 0.85, ("resnet50", 8): 0.85}
# Maximum ratio to onnxruntime-web on the CPU.
BROWSER = 0.5
# Maximum ratio to onnxruntime-web with WebGPU on an emulated adapter.
WEBGPU = 0.25
# The same for the time from the worker's creation to its first logits, including shader compilation.
WEBGPU_FIRST = 0.15
# Maximum ratio to Pillow for decoding and resizing a photo of 12 megapixels.
DECODING = 1.2
# Maximum memory of runs in addition to the packed weights, for ResNet-18 with batch size 1.
RUNS_MB = 20
# Maximum time from a checkpoint's bytes to its first logits, for ResNet-18.
START_MS = 150
# Maximum size of the worker's module, including the WebGPU engine.
WORKER_MB = 1.5


class Verdict:
    """A measured quantity and its target, which is its maximum, both in `unit`. `value` is None if it was not measured."""

    def __init__(self, quantity, value, target, unit=""):
        self.quantity, self.value, self.target, self.unit = quantity, value, target, unit

    def json(self):
        reached = None if self.value is None else self.value <= self.target
        value = self.value and round(self.value, 4)
        return {"what": self.quantity, "value": value, "target": self.target, "unit": self.unit, "reached": reached}

    def row(self):
        """Returns the cells of a table row: quantity, measured value, target, and whether it was reached."""
        if self.value is None:
            return [self.quantity, "", f"{self.target:g}{self.unit}", "not measured"]
        outcome = "reached" if self.value <= self.target else f"missed by {self.value - self.target:.3g}{self.unit}"
        return [self.quantity, f"{self.value:.3g}{self.unit}", f"{self.target:g}{self.unit}", outcome]


def fastest_rival(times):
    """Returns the name of the fastest rival by its median, or None if none was measured."""
    rivals = {name: ms for name, ms in times.items() if name in RIVALS}
    return min(rivals, key=rivals.get) if rivals else None
