"""Performance targets, and how measurements compare with them."""

# Targets are ratios to the fastest of these engines.
RIVALS = ("onnxruntime", "openvino", "ncnn")
NATIVE = {("resnet18", 1): 0.75, ("resnet18", 8): 0.7, ("resnet50", 1): 0.85, ("resnet50", 8): 0.85}
# Ratio to onnxruntime-web on the CPU.
BROWSER = 0.5
# Ratio to onnxruntime-web with WebGPU on an emulated adapter.
WEBGPU = 0.25
# The same from the worker's creation to its first logits, including shader compilation.
WEBGPU_FIRST = 0.15
# Ratio to Pillow for decoding and resizing a photo of 12 megapixels.
DECODING = 1.2
# Memory of runs beyond the packed weights, ResNet-18, batch 1.
RUNS_MB = 20
# Time from a checkpoint's bytes to its first logits, ResNet-18.
START_MS = 150
# Size of the worker's module, including the WebGPU engine.
WORKER_MB = 1.5


class Verdict:
    """A measurement and its target, both in `unit`; `value` is None if it could not be measured."""

    def __init__(self, what, value, target, unit=""):
        self.what, self.value, self.target, self.unit = what, value, target, unit

    def json(self):
        reached = None if self.value is None else self.value <= self.target
        value = self.value and round(self.value, 4)
        return {"what": self.what, "value": value, "target": self.target, "unit": self.unit, "reached": reached}

    def row(self):
        if self.value is None:
            return [self.what, "", f"{self.target:g}{self.unit}", "not measured"]
        apart = abs(self.value - self.target)
        said = "reached" if self.value <= self.target else f"missed by {apart:.3g}{self.unit}"
        return [self.what, f"{self.value:.3g}{self.unit}", f"{self.target:g}{self.unit}", said]


def fastest_rival(times):
    """Returns the name of the fastest rival by its median, or None if none was measured."""
    rivals = {name: ms for name, ms in times.items() if name in RIVALS}
    return min(rivals, key=rivals.get) if rivals else None
