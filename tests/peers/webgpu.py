"""Our WebGPU engine natively, on whatever adapter Vulkan has: as it chooses by itself, each family of kernels in each
precision, and layer by layer. Beside it, unless the adapter is emulated, onnxruntime-web outside of a browser.
"""

import report
from engines import RESNET18, EngineError, Ours, Refused, Worker
from environment import BROWSER_PEER, HERE
from rounds import TOLERANCE, compare, say

FAMILIES = ("direct", "tiled")
# By how much logits may differ. Random weights amplify rounding, which is 8192 times as coarse in f16: ResNet-50 differs by
# 2e-5 in f32. What is wrong differs by 1.
PRECISIONS = {"f32": TOLERANCE, "f16": 1e-1}
VARIANTS = {f"{family}, {precision}": (family, precision) for precision in PRECISIONS for family in FAMILIES}
# Dawn is Chromium's WebGPU, which npm has for node.
DAWN_PEER = f"{BROWSER_PEER}-dawn"
# What `trainer bench` says of such an adapter.
EMULATED = "emulates a GPU"


class Once(Ours):
    """For adapters that take seconds a run: the runs that tell the logits are timed, and there is one round."""

    def load(self, case):
        told = self.bench(case, "--pixels", self.models / f"pixels-b{case.batch}.u8", "--iterations", "3")
        self.median = told["median_ms"]
        return told["logits"]

    def time(self, case, seconds):
        return self.median


class Native:
    """What was measured."""

    def __init__(self, adapter, layers, results):
        self.adapter, self.layers, self.results = adapter, layers, results

    def words(self):
        measured = {name for _, times, _ in self.results for name in times}
        names = [name for name in ("shortcut", *VARIANTS, DAWN_PEER) if name in measured]
        compared = report.comparison(f"WebGPU natively, {self.adapter}", self.results, names, {})
        return "\n\n".join(part for part in (compared, self.layers and _table(self.layers)) if part)

    def json(self):
        return {"adapter": self.adapter, "layers": self.layers, "cases": [report.rounded(result) for result in self.results]}


def measure(given, environment, missing):
    """The given cases, and one layer by layer; None without an adapter."""
    say(f"{RESNET18}: WebGPU natively, layer by layer")
    options = (environment, "webgpu", given.threads)
    alone = Ours(*options)
    try:
        adapter = alone.bench(RESNET18, "--iterations", "1").get("adapter", "an adapter without a name")
    except EngineError as error:
        missing[_who(error)] = str(error)
        return None
    try:
        layers = alone.bench(RESNET18, "--iterations", "1", "--layers")["layers"]
    except EngineError as error:
        layers, missing[f"{_who(error)}, layer by layer"] = [], str(error)
    emulated = EMULATED in adapter
    rounds, ours = (1, Once) if emulated else (given.rounds, Ours)
    engines = [ours(*options)]
    for name, (family, precision) in VARIANTS.items():
        engines.append(ours(*options, "--kernels", family, "--precision", precision, name=name))
    if emulated:
        missing[DAWN_PEER] = "it would take minutes on an emulated adapter"
    elif BROWSER_PEER in environment.versions:
        command = ["node", HERE / "page/dawn_worker.mjs", environment.node / "node_modules"]
        engines.append(Worker(DAWN_PEER, command, environment, given.threads))
    try:
        return Native(adapter, layers, list(_compared(engines, rounds, given, environment, missing)))
    finally:
        for engine in engines:
            engine.end()


def _compared(engines, rounds, given, environment, missing):
    """(case, times, differences) for each case. What is refused once is not asked for again."""
    tolerances = {name: PRECISIONS[precision] for name, (_, precision) in VARIANTS.items()}
    for case in given.cases:
        say(f"{case}: WebGPU natively, {'; '.join(engine.name for engine in engines)}")
        models = environment.models
        times, differences, failures = compare(case, engines, rounds, given.seconds, models, tolerances)
        missing.update({f"{_who(error, name)}, {name}, {case}": str(error) for name, error in failures.items()})
        engines = [engine for engine in engines if not isinstance(failures.get(engine.name), Refused)]
        yield case, times, differences


def _who(error, name="shortcut"):
    """What is refused is missing; whatever else goes wrong with our engine is its failure, and so the comparison's."""
    return "WebGPU natively" if isinstance(error, Refused) or name == DAWN_PEER else "shortcut on WebGPU natively"


def _table(layers):
    """Operations are those carried out, of which Winograd's way has fewer than a direct convolution. MB are all that a layer
    reads and writes, each counted once.
    """
    rows = [[f"{RESNET18}, layer", "algorithm", "us", "GFLOP", "GFLOP/s", "as direct", "MB", "GB/s", "MB of weights"]]
    for layer in layers:
        us, megabytes = layer["median_us"], layer.get("megabytes")
        per_second, direct = 2 * layer["gmacs"], 2 * layer["direct_gmacs"]
        # A pool multiplies nothing.
        products = [f"{per_second * us / 1e6:.3f}", f"{per_second:.1f}", f"{direct:.1f}"] if per_second else [""] * 3
        moved = [f"{megabytes:.2f}", f"{megabytes / us * 1e3:.1f}"] if megabytes else [""] * 2
        rows.append([layer["name"], layer["algorithm"], f"{us:.0f}", *products, *moved, f"{layer['weight_megabytes']:.2f}"])
    return report.table(rows)
