"""Our WebGPU engine natively, on whatever adapter Vulkan has: each family of kernels in each precision, and layer by layer
those that the engine chooses by itself.
"""

import report
from engines import RESNET18, EngineError, Ours, Refused
from rounds import TOLERANCE, compare, say

FAMILIES = ("direct", "tiled")
# By how much logits may differ. Halves have 11 bits, of every value that goes from layer to layer.
PRECISIONS = {"f32": TOLERANCE, "f16": 2e-2}
VARIANTS = {f"{family}, {precision}": (family, precision) for precision in PRECISIONS for family in FAMILIES}
# Names of programs that emulate a GPU, in those of their adapters. They take seconds a run.
EMULATIONS = ("llvmpipe", "lavapipe", "swiftshader", "basic render")
EMULATED_ROUNDS = 1


class Native:
    """What was measured."""

    def __init__(self, adapter, layers, results):
        self.adapter, self.layers, self.results = adapter, layers, results

    def words(self):
        names = [name for name in VARIANTS if any(name in times for _, times, _ in self.results)]
        compared = report.comparison(f"WebGPU natively, {self.adapter}", self.results, names, {})
        return "\n\n".join(part for part in (compared, self.layers and _table(self.layers)) if part)

    def json(self):
        return {"adapter": self.adapter, "layers": self.layers, "cases": [report.rounded(result) for result in self.results]}


def measure(given, environment, missing):
    """The given cases, and one layer by layer; None without an adapter."""
    say(f"{RESNET18}: WebGPU natively, layer by layer")
    alone = Ours(environment, "webgpu", given.threads)
    try:
        adapter = alone.bench(RESNET18, "--iterations", "1").get("adapter", "on an adapter without a name")
    except EngineError as error:
        missing[_who(error)] = str(error)
        return None
    try:
        layers = alone.bench(RESNET18, "--iterations", "1", "--layers")["layers"]
    except EngineError as error:
        layers, missing[f"{_who(error)}, layer by layer"] = [], str(error)
    rounds = min(given.rounds, EMULATED_ROUNDS) if emulated(adapter) else given.rounds
    return Native(adapter, layers, list(_families(given, rounds, environment, missing)))


def emulated(adapter):
    return any(name in adapter.lower() for name in EMULATIONS)


def _families(given, rounds, environment, missing):
    """(case, times, differences) for each case. What is refused once is not asked for again."""
    options = {name: ("--kernels", family, "--precision", precision) for name, (family, precision) in VARIANTS.items()}
    tolerances = {name: PRECISIONS[precision] for name, (_, precision) in VARIANTS.items()}
    engines = [Ours(environment, "webgpu", given.threads, *rest, name=name) for name, rest in options.items()]
    for case in given.cases:
        if not engines:
            return
        say(f"{case}: WebGPU natively, {'; '.join(engine.name for engine in engines)}")
        models = environment.models
        times, differences, failures = compare(case, engines, rounds, given.seconds, models, tolerances)
        missing.update({f"{_who(error)}, {name}, {case}": str(error) for name, error in failures.items()})
        engines = [engine for engine in engines if not isinstance(failures.get(engine.name), Refused)]
        yield case, times, differences


def _who(error):
    """What is refused is missing; whatever else goes wrong with our engine is its failure, and so the comparison's."""
    return "WebGPU natively" if isinstance(error, Refused) else "shortcut on WebGPU natively"


def _table(layers):
    """Operations are those carried out, of which Winograd's way has fewer than a direct convolution."""
    rows = [["layer", "algorithm", "us", "GFLOP", "GFLOP/s", "as direct", "MB", "of weights"]]
    for layer in layers:
        per_second, direct = 2 * layer["gmacs"], 2 * layer["direct_gmacs"]
        rows.append([
            layer["name"],
            layer["algorithm"],
            f"{layer['median_us']:.0f}",
            f"{per_second * layer['median_us'] / 1e6:.3f}",
            f"{per_second:.1f}",
            f"{direct:.1f}",
            f"{layer['megabytes']:.2f}" if "megabytes" in layer else "-",
            f"{layer['weight_megabytes']:.2f}",
        ])
    return report.table(rows)
