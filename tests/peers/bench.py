"""`make bench`: compares Shortcut with other inference engines on one machine, in alternating runs.

Uses only the standard library. environment.py installs the peers below cargo's target directory. The last line of the
output is a JSON object with all measurements.
"""

import argparse
import gzip
import json
import statistics
import subprocess
import sys
from pathlib import Path

import in_browser
import machine
import report
import targets
import webgpu
from browser import DIST
from engines import RESNET18, Case, EngineError, Ours, Worker
from environment import BROWSER_PEER, BURN_PEER, DECODER_PEER, HERE, PYTHON_PEERS, RUST_PEERS, Environment
from rounds import compare, say
from targets import Verdict

NATIVE_PEERS = [*PYTHON_PEERS, *RUST_PEERS]
PEERS = [*NATIVE_PEERS, *in_browser.PEERS, DECODER_PEER]
# The networks and batch sizes that export.py writes.
CASES = ["resnet18:1", "resnet18:8", "resnet50:1", "resnet50:8"]
# Timeout in seconds, far above the time that preprocess.py needs.
DECODING_SECONDS = 300


def arguments():
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, with release/trainer in it")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds of every engine (%(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a round (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="threads of every engine (%(default)s)")
    parser.add_argument("--device", default="cpu", help="device of Shortcut (%(default)s)")
    switch = dict(action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--webgpu", **switch, help="also measure Shortcut's WebGPU engine natively (%(default)s)")
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated list of network:batch (%(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated list of peers (%(default)s)")
    given = parser.parse_args()
    given.cases, given.peers = given.cases.split(","), given.peers.split(",")
    if given.rounds < 1 or given.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    for names, known in ((given.cases, CASES), (given.peers, PEERS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
    given.cases = [Case(network, int(batch)) for network, batch in (case.split(":") for case in given.cases)]
    return given


def native(given, environment, missing):
    """Returns (case, times, differences) for each case, and Shortcut's engine with its start times."""
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
            missing.update({f"{name}, {case}": str(error) for name, error in failures.items()})
            results.append((case, times, differences))
    finally:
        for engine in engines:
            engine.end()
    return results, ours


def decoding(given, environment, missing):
    """Returns the text and the JSON summary of preprocess.py, or None without its peer."""
    if DECODER_PEER not in given.peers or DECODER_PEER not in environment.versions:
        return None
    say(f"comparing decoding and resizing with {DECODER_PEER}")
    command = [environment.python, HERE / "preprocess.py", "--trainer", environment.trainer]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DECODING_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        missing["decoding"] = f"timed out after {DECODING_SECONDS} seconds"
        return None
    except subprocess.CalledProcessError as error:
        missing["decoding"] = error.stderr.strip().rpartition("\n")[2]
        return None
    words, _, summary = done.stdout.strip().rpartition("\n")
    return words, json.loads(summary)


def worker_sizes(given, environment, missing):
    """Returns the size of the page's worker in bytes, plain and gzipped, if the browser is measured."""
    built = DIST / "worker_bg.wasm"
    if not any(peer in given.peers for peer in in_browser.PEERS):
        return {}
    if not built.exists():
        missing["worker"] = f"{built} does not exist; build it with `make page`"
        return {}
    sizes = {"built": built.stat().st_size, "gzipped": len(gzip.compress(built.read_bytes()))}
    if BURN_PEER in environment.versions:
        sizes[BURN_PEER] = (environment.burn / "worker_bg.wasm").stat().st_size
    return sizes


def judge(results, ours, page, photos, memory, sizes):
    verdicts = []
    for case, times, _ in results:
        medians = report.medians(times)
        rival = targets.fastest_rival(medians)
        if (case.network, case.batch) in targets.NATIVE:
            ratio = medians["shortcut"] / medians[rival] if rival and "shortcut" in medians else None
            target = targets.NATIVE[case.network, case.batch]
            absent = [name for name in targets.RIVALS if name not in medians]
            without = f" (without {', '.join(absent)})" if absent else ""
            verdicts.append(Verdict(f"{case}, to {rival or 'the fastest rival'}{without}", ratio, target))
    starts = ours.starts.get(str(RESNET18))
    worker = sizes.get("built")
    return verdicts + [
        Verdict(f"{RESNET18.network} in a page, to {BROWSER_PEER}", page.ratio("CPU"), targets.BROWSER),
        Verdict(f"the same on emulated WebGPU, to {BROWSER_PEER}", page.ratio("WebGPU"), targets.WEBGPU),
        Verdict("the first run on emulated WebGPU, including loading", page.first_ratio("WebGPU"), targets.WEBGPU_FIRST),
        Verdict(f"12 MP decoded and resized, to {DECODER_PEER}", photos and photos["12 MP"]["ratio"], targets.DECODING),
        Verdict("memory of runs beyond the weights, resnet18 b1", memory and memory / 1e6, targets.RUNS_MB, " MB"),
        Verdict("bytes to first logits, resnet18", starts and statistics.median(starts), targets.START_MS, " ms"),
        Verdict("worker", worker and worker / 1e6, targets.WORKER_MB, " MB"),
    ]


def main():
    given = arguments()
    described = machine.describe()
    environment = Environment(given.target.resolve())
    say("installing the peers" + (", which takes minutes the first time" if BURN_PEER in given.peers else ""))
    environment.make(given.peers)
    missing = environment.missing
    missing.update({peer: "not selected" for peer in PEERS if peer not in given.peers})

    use = machine.Use()
    results, ours = native(given, environment, missing)
    # Read before the browser starts: it is not a child of this process and would count as another program.
    use = use.shares()
    on_adapter = webgpu.measure(given, environment, missing) if given.webgpu else None
    try:
        memory = ours.memory(RESNET18)
    except EngineError as error:
        memory, missing["memory"] = None, str(error)
    page = in_browser.measure(given, environment, missing)
    words, photos = decoding(given, environment, missing) or (None, None)
    sizes = worker_sizes(given, environment, missing)
    verdicts = judge(results, ours, page, photos and photos["photos"], memory, sizes)

    names = ["shortcut", *NATIVE_PEERS]
    sections = [report.comparison("native", results, names, environment.versions)]
    sections += page.words(environment.versions)
    if on_adapter:
        sections.append(on_adapter.words())
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
        versions={**environment.versions, "browser": page.browser},
        native=[report.rounded(result) for result in results],
        **page.json(),
        webgpu_natively=on_adapter and on_adapter.json(),
        decoding=photos,
        runs_bytes=memory,
        start_ms={case: round(statistics.median(ms), 1) for case, ms in ours.starts.items()},
        worker_bytes=sizes,
        targets=[verdict.json() for verdict in verdicts],
        missing=missing,
    )
    # A missed target is a result. A wrong or missing answer of Shortcut is a failure.
    return 1 if any(name.startswith("shortcut") for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
