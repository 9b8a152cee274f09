"""Benchmarks of Shortcut's WebGPU engine outside a browser, on the machine's Vulkan adapter: with the kernels that it
selects, with each family of kernels in each precision, and layer by layer. Unless the adapter is emulated, the engine
is compared with onnxruntime-web in Node.js.
"""

import report
from engines import RESNET18, EngineError, ShortcutEngine, Unsupported, Worker
from environment import BROWSER_PEER, HERE
from rounds import TOLERANCE, compare, log_progress

FAMILIES = ("direct", "tiled")
# Maximum difference of the logits for each precision, relative to the largest logit. Random weights amplify rounding
# errors: in f32 the logits of ResNet-50 differ by 2e-5, and rounding to f16 is 8192 times coarser. Wrong logits differ
# by about 1.
TOLERANCES = {"f32": TOLERANCE, "f16": 1e-1}
VARIANTS = {f"{family}, {precision}": (family, precision) for precision in TOLERANCES for family in FAMILIES}
# onnxruntime-web in Node.js, on Dawn, which is Chromium's WebGPU implementation and available as an npm package.
DAWN_PEER = f"{BROWSER_PEER}-dawn"
# Part of the description that `trainer bench` prints for emulated adapters.
EMULATED = "a processor that emulates a GPU"


class SingleRound(ShortcutEngine):
    """An engine on an adapter on which a run takes seconds. The runs that compute the logits are also the timed ones."""

    def load(self, case):
        result = self.bench(case, "--pixels", self.models / f"pixels-b{case.batch}.u8", "--iterations", "3")
        self.median_ms = result["median_ms"]
        return result["logits"]

    def time(self, case, seconds):
        return self.median_ms


class NativeResults:
    """Results: (case, times, differences) for each case in `results`, and the layers of ResNet-18 in `layers`."""

    def __init__(self, adapter, layers, results):
        self.adapter, self.layers, self.results = adapter, layers, results

    def section(self):
        """Returns the section of the report."""
        measured = {name for _, times, _ in self.results for name in times}
        names = [name for name in ("shortcut", *VARIANTS, DAWN_PEER) if name in measured]
        comparison = report.comparison(f"WebGPU natively, {self.adapter}", self.results, names, {})
        return "\n\n".join(part for part in (comparison, self.layers and _layer_table(self.layers)) if part)

    def json(self):
        return {"adapter": self.adapter, "layers": self.layers, "cases": [report.case_json(result) for result in self.results]}


def measure(args, environment, missing):
    """Measures the selected cases, and ResNet-18 layer by layer. Returns None if there is no adapter."""
    log_progress(f"{RESNET18}: WebGPU natively, layer by layer")
    options = (environment, "webgpu", args.threads)
    default_engine = ShortcutEngine(*options)
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
    rounds, engine_class = (1, SingleRound) if emulated else (args.rounds, ShortcutEngine)
    engines = [engine_class(*options)]
    for name, (family, precision) in VARIANTS.items():
        engines.append(engine_class(*options, "--kernels", family, "--precision", precision, name=name))
    if emulated:
        missing[DAWN_PEER] = "skipped, since it takes minutes on an emulated adapter"
    elif BROWSER_PEER in environment.versions:
        command = ["node", HERE / "page/dawn_worker.mjs", environment.node / "node_modules"]
        engines.append(Worker(DAWN_PEER, command, environment, args.threads))
    try:
        return NativeResults(adapter, layers, list(_compare_cases(engines, rounds, args, environment, missing)))
    finally:
        for engine in engines:
            engine.end()


def _compare_cases(engines, rounds, args, environment, missing):
    """Yields (case, times, differences) for each case. An engine that does not support a case is skipped in the following cases."""
    tolerances = {name: TOLERANCES[precision] for name, (_, precision) in VARIANTS.items()}
    for case in args.cases:
        log_progress(f"{case}: WebGPU natively, {'; '.join(engine.name for engine in engines)}")
        models = environment.models
        times, differences, failures = compare(case, engines, rounds, args.seconds, models, tolerances)
        missing.update({f"{_missing_key(error, name)}, {name}, {case}": str(error) for name, error in failures.items()})
        engines = [engine for engine in engines if not isinstance(failures.get(engine.name), Unsupported)]
        yield case, times, differences


def _missing_key(error, name="shortcut"):
    """Returns the key of an error in `missing`. Keys that start with `shortcut` make `make bench` fail, and are used
    for errors of Shortcut's engine except unsupported cases.
    """
    return "WebGPU natively" if isinstance(error, Unsupported) or name == DAWN_PEER else "shortcut on WebGPU natively"


def _layer_table(layers):
    """Formats the layers as a table. GFLOP and GFLOP/s count the operations actually executed, of which Winograd
    convolutions need fewer than direct ones; "as direct" counts those of a direct convolution. MB counts each byte that
    a layer reads or writes once.
    """
    rows = [[f"{RESNET18}, layer", "algorithm", "us", "GFLOP", "GFLOP/s", "as direct", "MB", "GB/s", "MB of weights"]]
    for layer in layers:
        us, megabytes = layer["median_us"], layer.get("megabytes")
        gflops, direct_gflops = 2 * layer["gmacs"], 2 * layer["direct_gmacs"]
        # Pooling layers have no multiplications.
        operations = [f"{gflops * us / 1e6:.3f}", f"{gflops:.1f}", f"{direct_gflops:.1f}"] if gflops else [""] * 3
        traffic = [f"{megabytes:.2f}", f"{megabytes / us * 1e3:.1f}"] if megabytes else [""] * 2
        weights = f"{layer['weight_megabytes']:.2f}"
        rows.append([layer["name"], layer["algorithm"], f"{us:.0f}", *operations, *traffic, weights])
    return report.table(rows)
