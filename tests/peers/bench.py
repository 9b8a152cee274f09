"""`make bench`: Shortcut beside other people's engines, on one machine, in one run, taking turns.

Standard library only; what the peers need is made below cargo's target directory (environment.py). The last line of the
output is a JSON object with everything that was measured.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
from pathlib import Path

import machine
import report
import targets
from browser import Browser, InBrowser
from engines import Case, EngineError, Ours, Worker
from environment import BROWSER_PEER, DECODER_PEER, HERE, PYTHON_PEERS, RUST_PEERS, Environment, Unavailable
from rounds import compare, say
from targets import Verdict

ROOT = HERE.parent.parent
DIST = ROOT / "web/dist"
PEERS = [*PYTHON_PEERS, *RUST_PEERS, BROWSER_PEER, DECODER_PEER]
NATIVE_PEERS = [*PYTHON_PEERS, *RUST_PEERS]
# What export.py writes.
CASES = ["resnet18:1", "resnet18:8", "resnet50:1", "resnet50:8"]
RESNET18 = Case("resnet18", 1)
# Far more than decoding and resizing takes.
DECODING_SECONDS = 300
# What the page calls its engines for WebGPU. An emulated adapter takes seconds a run, so few rounds of them.
WEBGPU = ("shortcut-webgpu", "onnxruntime-web-webgpu")
WEBGPU_ROUNDS = 2


def arguments():
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, with release/trainer in it")
    parser.add_argument("--rounds", type=int, default=7, help="turns of every engine (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of every engine (%(default)s)")
    parser.add_argument("--device", default="cpu", help="ours (%(default)s)")
    parser.add_argument("--cases", default=",".join(CASES), help="network:batch (%(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="(%(default)s)")
    given = parser.parse_args()
    given.cases, given.peers = given.cases.split(","), given.peers.split(",")
    if given.rounds < 1 or given.threads < 1:
        parser.error("at least one round and one thread are wanted")
    for names, known in ((given.cases, CASES), (given.peers, PEERS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    given.cases = [Case(network, int(batch)) for network, batch in (case.split(":") for case in given.cases)]
    return given


def native(given, environment, missing):
    """(case, times, differences) for each case, and our engine with what it saw."""
    ours = Ours(environment, given.device, given.threads)
    engines = [ours]
    for name in given.peers:
        if name in environment.versions and name in NATIVE_PEERS:
            python = [environment.python, HERE / "worker.py", name]
            command = [environment.rust, name] if name in RUST_PEERS else python
            engines.append(Worker(name, command, environment, given.threads))
    results = []
    try:
        for case in given.cases:
            say(f"{case}: loading {', '.join(engine.name for engine in engines)}")
            times, differences, failures = compare(case, engines, given.rounds, given.seconds, environment.models)
            missing.update({f"{name}, {case}": reason for name, reason in failures.items()})
            results.append((case, times, differences))
    finally:
        for engine in engines:
            engine.end()
    return results, ours


def in_browser(given, environment, missing, providers, rounds):
    """The same for the page, or None without its peer or a browser; and the browser's version. `providers` are our engine
    and theirs."""
    if BROWSER_PEER not in given.peers:
        return None, None
    browser = None
    try:
        browser = Browser(environment, DIST)
        names = ["shortcut", *([BROWSER_PEER] if BROWSER_PEER in environment.versions else [])]
        engines = [InBrowser(name, maker, browser, environment) for name, maker in zip(names, providers)]
        times, differences, failures = compare(RESNET18, engines, rounds, given.seconds, environment.models)
        missing.update({f"{name}, in the browser": reason for name, reason in failures.items()})
        return (RESNET18, times, differences), f"Chromium {browser.version}"
    except (Unavailable, EngineError) as error:
        missing["browser"] = str(error)
        return None, None
    finally:
        if browser:
            browser.end()


def decoding(given, environment, missing):
    """What preprocess.py says, or None without its peer."""
    if DECODER_PEER not in given.peers or DECODER_PEER not in environment.versions:
        return None
    say(f"decoding and resizing beside {DECODER_PEER}")
    command = [environment.python, HERE / "preprocess.py", "--trainer", environment.trainer]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DECODING_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        missing["decoding"] = f"it took more than {DECODING_SECONDS} seconds"
        return None
    except subprocess.CalledProcessError as error:
        missing["decoding"] = error.stderr.strip().rpartition("\n")[2]
        return None
    words, _, summary = done.stdout.strip().rpartition("\n")
    return words, json.loads(summary)


def worker_sizes(given, missing):
    """Bytes of the page's worker, and gzipped; with the browser's comparison only."""
    built = DIST / "worker_bg.wasm"
    if BROWSER_PEER not in given.peers:
        return {}
    if not built.exists():
        missing["worker"] = f"{built} is not there; `make page` builds it"
        return {}
    return {"built": built.stat().st_size, "gzipped": len(gzip.compress(built.read_bytes()))}


def judge(results, ours, page, webgpu, photos, memory, sizes):
    verdicts = []
    for case, times, _ in results:
        medians = report.medians(times)
        rival = targets.fastest_rival(medians)
        if (case.network, case.batch) in targets.NATIVE:
            ratio = medians["shortcut"] / medians[rival] if rival and "shortcut" in medians else None
            target = targets.NATIVE[case.network, case.batch]
            absent = [name for name in targets.RIVALS if name not in medians]
            without = f" (without {', '.join(absent)})" if absent else ""
            verdicts.append(Verdict(f"{case}, of {rival or 'the fastest rival'}{without}", ratio, target))
    by_cpu, by_gpu = (result and report.ratios(report.medians(result[1])).get(BROWSER_PEER) for result in (page, webgpu))
    starts = ours.starts.get(str(RESNET18))
    worker = sizes.get("built")
    return verdicts + [
        Verdict(f"{RESNET18.network} in a page, of {BROWSER_PEER}", by_cpu, targets.BROWSER),
        Verdict(f"the same on emulated WebGPU, of {BROWSER_PEER} there", by_gpu, targets.WEBGPU),
        Verdict(f"12 MP decoded and resized, of {DECODER_PEER}", photos and photos["12 MP"]["ratio"], targets.DECODING),
        Verdict("memory of runs beyond the weights, resnet18 b1", memory and memory / 1e6, targets.RUNS_MB, " MB"),
        Verdict("bytes to first logits, resnet18", starts and statistics.median(starts), targets.START_MS, " ms"),
        Verdict("worker", worker and worker / 1e6, targets.WORKER_MB, " MB"),
    ]


def rounded(result):
    """A case for the summary."""
    case, times, differences = result
    medians = report.medians(times)
    return {
        "network": case.network,
        "batch": case.batch,
        "ms": {name: round(ms, 3) for name, ms in medians.items()},
        "ratios": {name: round(ratio, 4) for name, ratio in report.ratios(medians).items()},
        "rounds_ms": {name: [round(ms, 3) for ms in rounds] for name, rounds in times.items()},
        "logits_differ_by": {name: float(f"{value:.2g}") for name, value in differences.items()},
    }


def main():
    given = arguments()
    described = machine.describe()
    environment = Environment(given.target.resolve())
    say("making what the peers need")
    environment.make(given.peers)
    missing = environment.missing
    missing.update({peer: "not asked for" for peer in PEERS if peer not in given.peers})

    use = machine.Use()
    results, ours = native(given, environment, missing)
    # The browser is a program that nobody started here.
    use = use.shares()
    try:
        memory = ours.memory(RESNET18)
    except EngineError as error:
        memory, missing["memory"] = None, str(error)
    page, browser = in_browser(given, environment, missing, ("shortcut", BROWSER_PEER), given.rounds)
    webgpu, _ = in_browser(given, environment, missing, WEBGPU, min(given.rounds, WEBGPU_ROUNDS))
    words, photos = decoding(given, environment, missing) or (None, None)
    sizes = worker_sizes(given, missing)
    verdicts = judge(results, ours, page, webgpu, photos and photos["photos"], memory, sizes)

    names = ["shortcut", *NATIVE_PEERS]
    sections = [report.comparison("native", results, names, environment.versions)]
    if page:
        sections.append(report.comparison(browser, [page], ["shortcut", BROWSER_PEER], environment.versions))
    if webgpu:
        title = f"{browser}, WebGPU emulated (SwiftShader)"
        sections.append(report.comparison(title, [webgpu], ["shortcut", BROWSER_PEER], environment.versions))
    if words:
        sections.append(words)
    report.in_words(described, use, given.threads, given.rounds, given.seconds, sections, verdicts, missing)
    report.summary(
        machine=described,
        use=use,
        threads=given.threads,
        device=given.device,
        rounds=given.rounds,
        seconds=given.seconds,
        versions={**environment.versions, "browser": browser},
        native=[rounded(result) for result in results],
        browser=page and rounded(page),
        webgpu=webgpu and rounded(webgpu),
        decoding=photos,
        runs_bytes=memory,
        start_ms={case: round(statistics.median(ms), 1) for case, ms in ours.starts.items()},
        worker_bytes=sizes,
        targets=[verdict.json() for verdict in verdicts],
        missing=missing,
    )
    # Missed targets are results; an answer of ours that is wrong or does not come is a failure.
    return 1 if any(name.startswith("shortcut") for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
