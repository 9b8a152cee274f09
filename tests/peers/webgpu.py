"""Benchmarks of our WebGPU engine natively, on the machine's Vulkan adapter: with the kernels that it selects, with each family
of kernels in each precision, and layer by layer. Unless the adapter is emulated, it is compared with onnxruntime-web in Node.js.
"""

import report
from engines import RESNET18, EngineError, Ours, Refused, Worker
from environment import BROWSER_PEER, HERE
from rounds import TOLERANCE, compare, say

FAMILIES = ("direct", "tiled")
# Maximum difference of logits. Random weights amplify rounding errors, which are 8192 times larger in f16: those of
# ResNet-50 are 2e-5 in f32. Wrong logits differ by about 1.
PRECISIONS = {"f32": TOLERANCE, "f16": 1e-1}
VARIANTS = {f"{family}, {precision}": (family, precision) for precision in PRECISIONS for family in FAMILIES}
# onnxruntime-web in Node.js, on Dawn, which is Chromium's WebGPU implementation and available as an npm package.
DAWN_PEER = f"{BROWSER_PEER}-dawn"
# Part of the description that `trainer bench` prints for emulated adapters.
EMULATED = "emulates a GPU"


class SingleRound(Ours):
    """For adapters on which a run takes seconds: there is one round, and the runs that yield the logits are also the timed ones."""

    def load(self, case):
        result = self.bench(case, "--pixels", self.models / f"pixels-b{case.batch}.u8", "--iterations", "3")
        self.median = result["median_ms"]
        return result["logits"]

    def time(self, case, seconds):
        return self.median


class Native:
    """The results."""

    def __init__(self, adapter, layers, results):
        self.adapter, self.layers, self.results = adapter, layers, results

    def words(self):
        measured = {name for _, times, _ in self.results for name in times}
        names = [name for name in ("shortcut", *VARIANTS, DAWN_PEER) if name in measured]
        comparison = report.comparison(f"WebGPU natively, {self.adapter}", self.results, names, {})
        return "\n\n".join(part for part in (comparison, self.layers and _table(self.layers)) if part)

    def json(self):
        return {"adapter": self.adapter, "layers": self.layers, "cases": [report.rounded(result) for result in self.results]}


def measure(given, environment, missing):
    """Measures the given cases, and ResNet-18 layer by layer. Returns None if there is no adapter."""
    say(f"{RESNET18}: WebGPU natively, layer by layer")
    options = (environment, "webgpu", given.threads)
    default_engine = Ours(*options)
    try:
        adapter = default_engine.bench(RESNET18, "--iterations", "1").get("adapter", "unnamed adapter")
    except EngineError as error:
        missing[_missing_key(error)] = str(error)
        return None
    try:
        layers = default_engine.bench(RESNET18, "--iterations", "1", "--layers")["layers"]
    except EngineError as error:
        layers, missing[f"{_missing_key(error)}, layer by layer"] = [], str(error)
    emulated = EMULATED in adapter
    rounds, ours = (1, SingleRound) if emulated else (given.rounds, Ours)
    engines = [ours(*options)]
    for name, (family, precision) in VARIANTS.items():
        engines.append(ours(*options, "--kernels", family, "--precision", precision, name=name))
    if emulated:
        missing[DAWN_PEER] = "skipped, since it takes minutes on an emulated adapter"
    elif BROWSER_PEER in environment.versions:
        command = ["node", HERE / "page/dawn_worker.mjs", environment.node / "node_modules"]
        engines.append(Worker(DAWN_PEER, command, environment, given.threads))
    try:
        return Native(adapter, layers, list(_compare_cases(engines, rounds, given, environment, missing)))
    finally:
        for engine in engines:
            engine.end()


def _compare_cases(engines, rounds, given, environment, missing):
    """Yields (case, times, differences) for each case. An engine that refuses one case is skipped in the following ones."""
    tolerances = {name: PRECISIONS[precision] for name, (_, precision) in VARIANTS.items()}
    for case in given.cases:
        say(f"{case}: WebGPU natively, {'; '.join(engine.name for engine in engines)}")
        models = environment.models
        times, differences, failures = compare(case, engines, rounds, given.seconds, models, tolerances)
        missing.update({f"{_missing_key(error, name)}, {name}, {case}": str(error) for name, error in failures.items()})
        engines = [engine for engine in engines if not isinstance(failures.get(engine.name), Refused)]
        yield case, times, differences


def _missing_key(error, name="shortcut"):
    """Returns the key under which an error is listed as missing. Keys that start with `shortcut` make the comparison fail: those of
    errors of our engine, unless it refused the case.
    """
    return "WebGPU natively" if isinstance(error, Refused) or name == DAWN_PEER else "shortcut on WebGPU natively"


def _table(layers):
    """The operations are those actually executed; Winograd convolutions need fewer than direct ones. MB are the bytes that a layer
    reads and writes, each counted once.
    """
    rows = [[f"{RESNET18}, layer", "algorithm", "us", "GFLOP", "GFLOP/s", "as direct", "MB", "GB/s", "MB of weights"]]
    for layer in layers:
        us, megabytes = layer["median_us"], layer.get("megabytes")
        per_second, direct = 2 * layer["gmacs"], 2 * layer["direct_gmacs"]
        # Pooling layers have no multiplications.
        products = [f"{per_second * us / 1e6:.3f}", f"{per_second:.1f}", f"{direct:.1f}"] if per_second else [""] * 3
        traffic = [f"{megabytes:.2f}", f"{megabytes / us * 1e3:.1f}"] if megabytes else [""] * 2
        rows.append([layer["name"], layer["algorithm"], f"{us:.0f}", *products, *traffic, f"{layer['weight_megabytes']:.2f}"])
    return report.table(rows)
