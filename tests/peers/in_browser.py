"""Benchmarks in the browser, on the CPU and on emulated WebGPU: repeated runs, for which all engines take turns on one
page, and first runs, each in a new browser.
"""

import hashlib
import statistics

import report
from browser import Browser
from engines import RESNET18, EngineError
from environment import BROWSER_PEER, BURN_PEER, Unavailable
from rounds import check, compare, log_progress, reference

PEERS = (BROWSER_PEER, BURN_PEER)
# Names of the engines in page/bench.js.
FACTORIES = {
    "CPU": {"shortcut": "shortcut", BROWSER_PEER: BROWSER_PEER},
    "WebGPU": {"shortcut": "shortcut-webgpu", BROWSER_PEER: "onnxruntime-web-webgpu", BURN_PEER: "burn-webgpu"},
}
TITLES = {"CPU": "", "WebGPU": ", WebGPU emulated (SwiftShader)"}
# On an emulated adapter a run takes seconds, and the first one up to two minutes.
WEBGPU_ROUNDS = 2
FIRST_RUNS = 2
FIRST_RUN_NOTE = f"""\
First run: ms from the creation of an engine's worker until the page has its first logits, {RESNET18}; loaded: until the
engine reports that it is ready. This includes fetching the engine's module and weights (from this machine), compiling the
module and the shaders, and preparing the weights. Each of the {FIRST_RUNS} runs takes place in a new browser with an empty
profile, in which only the page and its image have been loaded."""


class BrowserEngine:
    """One of the page's engines, with the interface of the native engines."""

    def __init__(self, name, factory, browser, models):
        self.name, self.factory, self.browser, self.models = name, factory, browser, models

    def load(self, case):
        return self.first_run(case)[1]

    def first_run(self, case):
        """Returns the milliseconds until the engine was loaded and until it returned its first logits, and these logits."""
        checkpoint = (self.models / f"{case.network}.safetensors").read_bytes()
        sha256 = hashlib.sha256(checkpoint).hexdigest()
        settings = {"network": case.network, "bytes": len(checkpoint), "sha256": sha256, "classes": 1000}
        answer = self.browser.call(self.name, "window.load(...args)", self.factory, settings)
        return answer["ms"], answer["logits"]

    def time(self, case, seconds):
        return statistics.median(self.browser.call(self.name, "window.time(...args)", self.factory, seconds))


class BrowserResults:
    """Results by kind of engine (CPU or WebGPU): (case, times, differences) of repeated runs in `repeated_runs`, and
    the times until each engine was loaded and until it answered in `first_runs`.
    """

    def __init__(self):
        self.browser, self.repeated_runs, self.first_runs = None, {}, {}

    def ratio(self, kind):
        """Returns Shortcut's time for repeated runs divided by the peer's, or None if one of them was not measured."""
        return _ratio(self.repeated_runs[kind][1]) if kind in self.repeated_runs else None

    def first_run_ratio(self, kind):
        return _ratio(self.first_runs[kind]["answered"]) if kind in self.first_runs else None

    def sections(self, versions):
        """Yields one section of the report for each kind, and one for first runs."""
        names = ["shortcut", *PEERS]
        for kind, result in self.repeated_runs.items():
            yield report.comparison(self.browser + TITLES[kind], [result], list(FACTORIES[kind]), versions)
        if self.first_runs:
            columns = [(f"{kind}, {event}", times) for kind, events in self.first_runs.items() for event, times in events.items()]
            yield report.comparison("first run", columns, names, versions) + f"\n{FIRST_RUN_NOTE}"

    def json(self):
        first_runs = {
            kind: {event: _rounded(times) for event, times in events.items()} for kind, events in self.first_runs.items()
        }
        cpu, webgpu = (
            kind in self.repeated_runs and report.case_json(self.repeated_runs[kind]) or None for kind in FACTORIES
        )
        return {"browser": cpu, "webgpu": webgpu, "first_run_ms": first_runs}


def measure(args, environment, missing):
    """Returns the results, which are empty if none of the selected peers runs in the browser."""
    results = BrowserResults()
    if not any(peer in args.peers for peer in PEERS):
        return results
    try:
        for kind in FACTORIES:
            with Browser(environment) as browser:
                results.browser = f"Chromium {browser.version}"
                rounds = min(args.rounds, WEBGPU_ROUNDS) if kind == "WebGPU" else args.rounds
                results.repeated_runs[kind] = _repeated_runs(kind, browser, rounds, args.seconds, environment, missing)
        for kind in FACTORIES:
            results.first_runs[kind] = _first_runs(kind, environment, missing)
    except (Unavailable, EngineError) as error:
        missing["browser"] = str(error)
    return results


def _rounded(times):
    return {name: [round(ms) for ms in values] for name, values in times.items()}


def _ratio(times):
    return report.ratios(report.medians(times)).get(BROWSER_PEER)


def _installed_factories(kind, environment):
    """Returns the names in page/bench.js of the installed engines, by engine name."""
    factories = FACTORIES[kind].items()
    return {name: factory for name, factory in factories if name == "shortcut" or name in environment.versions}


def _repeated_runs(kind, browser, rounds, seconds, environment, missing):
    models, factories = environment.models, _installed_factories(kind, environment)
    engines = [BrowserEngine(name, factory, browser, models) for name, factory in factories.items()]
    log_progress(f"{RESNET18}: loading {', '.join(engine.name for engine in engines)} in the browser, {kind}")
    times, differences, failures = compare(RESNET18, engines, rounds, seconds, models)
    missing.update({f"{name}, in the browser, {kind}": str(error) for name, error in failures.items()})
    return RESNET18, times, differences


def _first_runs(kind, environment, missing):
    """Measures first runs. An engine that fails once is omitted from the results."""
    factories, loaded, answered = _installed_factories(kind, environment), {}, {}
    expected = reference(RESNET18, environment.models)
    for index in range(FIRST_RUNS):
        for name, factory in list(factories.items()):
            with Browser(environment) as browser:
                try:
                    ms, logits = BrowserEngine(name, factory, browser, environment.models).first_run(RESNET18)
                    check(logits, expected)
                    loaded.setdefault(name, []).append(ms["loaded"])
                    answered.setdefault(name, []).append(ms["answered"])
                except EngineError as error:
                    missing[f"{name}, first run in the browser, {kind}"] = str(error)
                    for by_name in (factories, loaded, answered):
                        by_name.pop(name, None)
        summary = ", ".join(f"{name} {ms[-1]:.0f} ms" for name, ms in answered.items())
        log_progress(f"{kind} in the browser, first run {index + 1} of {FIRST_RUNS}: {summary}")
    return {"loaded": loaded, "answered": answered}
