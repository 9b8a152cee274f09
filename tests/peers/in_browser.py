"""What is measured in the browser, on the CPU and on WebGPU, which is emulated there: runs in turn on one page, and first
runs, each in a browser of its own.
"""

import hashlib
import statistics

import report
from browser import Browser
from engines import RESNET18, EngineError
from environment import BROWSER_PEER, BURN_PEER, Unavailable
from rounds import check, compare, reference, say

PEERS = (BROWSER_PEER, BURN_PEER)
# What the page calls the engines.
MAKERS = {
    "CPU": {"shortcut": "shortcut", BROWSER_PEER: BROWSER_PEER},
    "WebGPU": {"shortcut": "shortcut-webgpu", BROWSER_PEER: "onnxruntime-web-webgpu", BURN_PEER: "burn-webgpu"},
}
TITLES = {"CPU": "", "WebGPU": ", WebGPU emulated (SwiftShader)"}
# An emulated adapter takes seconds a run, and up to two minutes for a first one.
WEBGPU_ROUNDS = 2
FIRST_RUNS = 2
FIRST_RUN = f"""\
First run: ms from the creation of an engine's worker until the page has its first logits, {RESNET18}; loaded: until the
engine says that it is ready. Meanwhile its module and its weights are fetched (from this machine), compiled and prepared,
and shaders too. Each of {FIRST_RUNS} is the first thing that happens in a browser of its own with an empty profile; the page
and its image are there already."""


class InBrowser:
    """One of the page's engines, asked as the native ones are."""

    def __init__(self, name, maker, browser, models):
        self.name, self.maker, self.browser, self.models = name, maker, browser, models

    def load(self, case):
        return self.first(case)[1]

    def first(self, case):
        """Milliseconds until it is loaded and until the first logits have come, and these."""
        checkpoint = (self.models / f"{case.network}.safetensors").read_bytes()
        sha256 = hashlib.sha256(checkpoint).hexdigest()
        settings = {"network": case.network, "bytes": len(checkpoint), "sha256": sha256, "classes": 1000}
        first = self.browser.call(self.name, "window.load(...given)", self.maker, settings)
        return first["ms"], first["logits"]

    def time(self, case, seconds):
        return statistics.median(self.browser.call(self.name, "window.time(...given)", self.maker, seconds))


class Page:
    """By kind of engine: (case, times, differences) of runs, and two dictionaries of times by name for first runs: until an
    engine is loaded, and until it has answered.
    """

    def __init__(self):
        self.browser, self.runs, self.first = None, {}, {}

    def ratio(self, kind):
        return _ratio(self.runs[kind][1]) if kind in self.runs else None

    def first_ratio(self, kind):
        return _ratio(self.first[kind]["answered"]) if kind in self.first else None

    def words(self, versions):
        """One section for each kind, and one for first runs."""
        names = ["shortcut", *PEERS]
        for kind, result in self.runs.items():
            yield report.comparison(self.browser + TITLES[kind], [result], list(MAKERS[kind]), versions)
        if self.first:
            columns = [(f"{kind}, {to}", times) for kind in self.first for to, times in self.first[kind].items()]
            yield report.comparison("first run", columns, names, versions) + f"\n{FIRST_RUN}"

    def json(self):
        first = {kind: {to: _whole(times) for to, times in first.items()} for kind, first in self.first.items()}
        cpu, webgpu = (kind in self.runs and report.rounded(self.runs[kind]) or None for kind in MAKERS)
        return {"browser": cpu, "webgpu": webgpu, "first_run_ms": first}


def measure(given, environment, missing):
    """Nothing where no peer of it was asked for."""
    page = Page()
    if not any(peer in given.peers for peer in PEERS):
        return page
    try:
        for kind in MAKERS:
            with Browser(environment) as browser:
                page.browser = f"Chromium {browser.version}"
                rounds = min(given.rounds, WEBGPU_ROUNDS) if kind == "WebGPU" else given.rounds
                page.runs[kind] = _steady(kind, browser, rounds, given.seconds, environment, missing)
        for kind in MAKERS:
            page.first[kind] = _first_runs(kind, environment, missing)
    except (Unavailable, EngineError) as error:
        missing["browser"] = str(error)
    return page


def _whole(times):
    return {name: [round(ms) for ms in several] for name, several in times.items()}


def _ratio(times):
    return report.ratios(report.medians(times)).get(BROWSER_PEER)


def _engines(kind, environment):
    """The page's name of each that there is."""
    makers = MAKERS[kind].items()
    return {name: maker for name, maker in makers if name == "shortcut" or name in environment.versions}


def _steady(kind, browser, rounds, seconds, environment, missing):
    models = environment.models
    engines = [InBrowser(name, maker, browser, models) for name, maker in _engines(kind, environment).items()]
    say(f"{RESNET18}: loading {', '.join(engine.name for engine in engines)} in the browser, {kind}")
    times, differences, failures = compare(RESNET18, engines, rounds, seconds, models)
    missing.update({f"{name}, in the browser, {kind}": str(error) for name, error in failures.items()})
    return RESNET18, times, differences


def _first_runs(kind, environment, missing):
    """Who fails once is left out."""
    engines, loaded, answered = _engines(kind, environment), {}, {}
    expected = reference(RESNET18, environment.models)
    for index in range(FIRST_RUNS):
        for name, maker in list(engines.items()):
            with Browser(environment) as browser:
                try:
                    ms, logits = InBrowser(name, maker, browser, environment.models).first(RESNET18)
                    check(logits, expected)
                    loaded.setdefault(name, []).append(ms["loaded"])
                    answered.setdefault(name, []).append(ms["answered"])
                except EngineError as error:
                    missing[f"{name}, first run in the browser, {kind}"] = str(error)
                    for times in (engines, loaded, answered):
                        times.pop(name, None)
        told = ", ".join(f"{name} {ms[-1]:.0f}" for name, ms in answered.items())
        say(f"{kind} in the browser, first run {index + 1} of {FIRST_RUNS}: {told}")
    return {"loaded": loaded, "answered": answered}
