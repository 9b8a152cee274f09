"""What is to be reached, and how far it is."""

# Of the time of the fastest of these, whatever else is measured beside them.
RIVALS = ("onnxruntime", "openvino", "ncnn")
NATIVE = {("resnet18", 1): 0.75, ("resnet18", 8): 0.7, ("resnet50", 1): 0.85, ("resnet50", 8): 0.85}
# Of onnxruntime-web's time.
BROWSER = 0.5
# The same with WebGPU on an emulated adapter.
WEBGPU = 0.25
# The same from a worker's creation to its first logits, which compiles the shaders.
WEBGPU_FIRST = 0.15
# Of Pillow's time for decoding and resizing a photo of 12 megapixels.
DECODING = 1.2
# Memory of runs beyond the packed weights, ResNet-18, batch 1.
RUNS_MB = 20
# From a checkpoint's bytes to its first logits, ResNet-18.
START_MS = 150
# The worker's module, the engine for WebGPU in it.
WORKER_MB = 1.5


class Verdict:
    """A figure beside its target, both in `unit`; `value` is None where it could not be measured."""

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
    """By name and median; None where no rival was measured."""
    rivals = {name: ms for name, ms in times.items() if name in RIVALS}
    return min(rivals, key=rivals.get) if rivals else None
