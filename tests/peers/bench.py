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
from engines import RESNET18, Case, EngineError, ShortcutEngine, Worker
from environment import BROWSER_PEER, BURN_PEER, DECODER_PEER, HERE, PYTHON_PEERS, RUST_PEERS, Environment
from rounds import compare, log_progress
from targets import Verdict

NATIVE_PEERS = [*PYTHON_PEERS, *RUST_PEERS]
PEERS = [*NATIVE_PEERS, *in_browser.PEERS, DECODER_PEER]
# The networks and batch sizes that export.py writes.
CASES = ["resnet18:1", "resnet18:8", "resnet50:1", "resnet50:8"]
# Time limit for preprocess.py, in seconds; it needs far less.
DECODING_TIMEOUT = 300


def parse_arguments():
    parser = argparse.ArgumentParser(prog="bench.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, which contains release/trainer")
    parser.add_argument("--rounds", type=int, default=7, help="number of rounds of each engine (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="duration of a round (default: %(default)s)")
    threads_help = "number of threads of each engine (default: %(default)s)"
    parser.add_argument("--threads", type=int, default=machine.cores(), help=threads_help)
    parser.add_argument("--device", default="cpu", help="device of Shortcut (default: %(default)s)")
    switch = dict(action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--webgpu", **switch, help="also measure Shortcut's WebGPU engine natively (default: %(default)s)")
    cases_help = "comma-separated list of network:batch (default: %(default)s)"
    parser.add_argument("--cases", default=",".join(CASES), help=cases_help)
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated list of peers (default: %(default)s)")
    args = parser.parse_args()
    args.cases, args.peers = args.cases.split(","), args.peers.split(",")
    if args.rounds < 1 or args.threads < 1:
        parser.error("--rounds and --threads must be at least 1")
    for option, names, available in (("--cases", args.cases, CASES), ("--peers", args.peers, PEERS)):
        unknown = [name for name in names if name not in available]
        if unknown:
            parser.error(f"{option}: unknown {', '.join(unknown)}; choose from {', '.join(available)}")
    args.cases = [Case(network, int(batch)) for network, batch in (case.split(":") for case in args.cases)]
    return args


def measure_native(args, environment, missing):
    """Returns (case, times, differences) for each case, and Shortcut's engine, which has recorded its start times. Adds
    the reason for each missing result to `missing`.
    """
    shortcut = ShortcutEngine(environment, args.device, args.threads)
    engines = [shortcut]
    for name in args.peers:
        if name in environment.versions and name in NATIVE_PEERS:
            python_command = [environment.python, HERE / "worker.py", name]
            command = [environment.rust, name] if name in RUST_PEERS else python_command
            engines.append(Worker(name, command, environment, args.threads))
    results = []
    try:
        for case in args.cases:
            log_progress(f"{case}: loading {', '.join(engine.name for engine in engines)}")
            times, differences, failures = compare(case, engines, args.rounds, args.seconds, environment.models)
            missing.update({f"{name}, {case}": str(error) for name, error in failures.items()})
            results.append((case, times, differences))
    finally:
        for engine in engines:
            engine.end()
    return results, shortcut


def measure_decoding(args, environment, missing):
    """Returns the table and the JSON summary that preprocess.py prints, or None if its peer is missing or it fails."""
    if DECODER_PEER not in args.peers or DECODER_PEER not in environment.versions:
        return None
    log_progress(f"comparing decoding and resizing with {DECODER_PEER}")
    command = [environment.python, HERE / "preprocess.py", "--trainer", environment.trainer]
    try:
        completed = subprocess.run(command, capture_output=True, text=True, timeout=DECODING_TIMEOUT, check=True)
    except subprocess.TimeoutExpired:
        missing["decoding"] = f"preprocess.py timed out after {DECODING_TIMEOUT} s"
        return None
    except subprocess.CalledProcessError as error:
        missing["decoding"] = error.stderr.strip().rpartition("\n")[2]
        return None
    table, _, summary = completed.stdout.strip().rpartition("\n")
    return table, json.loads(summary)


def worker_sizes(args, environment, missing):
    """Returns the size of the page's worker in bytes, plain and gzipped, if a peer that runs in the browser is selected."""
    module = DIST / "worker_bg.wasm"
    if not any(peer in args.peers for peer in in_browser.PEERS):
        return {}
    if not module.exists():
        missing["worker"] = f"{module} does not exist; build it with `make page`"
        return {}
    sizes = {"built": module.stat().st_size, "gzipped": len(gzip.compress(module.read_bytes()))}
    if BURN_PEER in environment.versions:
        sizes[BURN_PEER] = (environment.burn / "worker_bg.wasm").stat().st_size
    return sizes


def compare_with_targets(results, shortcut, page, photos, memory, sizes):
    """Returns a verdict for each target; quantities that were not measured are None."""
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
    start_times = shortcut.start_ms.get(str(RESNET18))
    worker = sizes.get("built")
    return verdicts + [
        Verdict(f"{RESNET18.network} in a page, to {BROWSER_PEER}", page.ratio("CPU"), targets.BROWSER),
        Verdict(f"the same on emulated WebGPU, to {BROWSER_PEER}", page.ratio("WebGPU"), targets.WEBGPU),
        Verdict("the first run on emulated WebGPU, including loading", page.first_run_ratio("WebGPU"), targets.WEBGPU_FIRST),
        Verdict(f"12 MP decoded and resized, to {DECODER_PEER}", photos and photos["12 MP"]["ratio"], targets.DECODING),
        Verdict("memory of runs beyond the weights, resnet18 b1", memory and memory / 1e6, targets.RUNS_MB, " MB"),
        Verdict("bytes to first logits, resnet18", start_times and statistics.median(start_times), targets.START_MS, " ms"),
        Verdict("worker", worker and worker / 1e6, targets.WORKER_MB, " MB"),
    ]


def main():
    args = parse_arguments()
    description = machine.describe()
    environment = Environment(args.target.resolve())
    log_progress("installing the peers" + (", which takes minutes the first time" if BURN_PEER in args.peers else ""))
    environment.make(args.peers)
    missing = environment.missing
    missing.update({peer: "not selected" for peer in PEERS if peer not in args.peers})

    monitor = machine.ContentionMonitor()
    results, shortcut = measure_native(args, environment, missing)
    # Read before the browser starts: it is not a child of this process and would count as another program.
    contention = monitor.shares()
    native_webgpu = webgpu.measure(args, environment, missing) if args.webgpu else None
    try:
        memory = shortcut.memory(RESNET18)
    except EngineError as error:
        memory, missing["memory"] = None, str(error)
    page = in_browser.measure(args, environment, missing)
    decoding_table, decoding = measure_decoding(args, environment, missing) or (None, None)
    sizes = worker_sizes(args, environment, missing)
    verdicts = compare_with_targets(results, shortcut, page, decoding and decoding["photos"], memory, sizes)

    names = ["shortcut", *NATIVE_PEERS]
    sections = [report.comparison("native", results, names, environment.versions)]
    sections += page.sections(environment.versions)
    if native_webgpu:
        sections.append(native_webgpu.section())
    if decoding_table:
        sections.append(decoding_table)
    report.print_report(
        description, contention, args.threads, args.rounds, args.seconds, sections, verdicts, missing
    )
    report.print_json(
        machine=description,
        use=contention,
        threads=args.threads,
        device=args.device,
        rounds=args.rounds,
        seconds=args.seconds,
        versions={**environment.versions, "browser": page.browser},
        native=[report.case_json(result) for result in results],
        **page.json(),
        webgpu_natively=native_webgpu and native_webgpu.json(),
        decoding=decoding,
        runs_bytes=memory,
        start_ms={case: round(statistics.median(ms), 1) for case, ms in shortcut.start_ms.items()},
        worker_bytes=sizes,
        targets=[verdict.json() for verdict in verdicts],
        missing=missing,
    )
    # Missed targets are valid results, but wrong or missing answers of Shortcut are failures.
    return 1 if any(name.startswith("shortcut") for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
