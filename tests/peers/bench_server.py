"""`make bench-server`: compares our server with LitServe and mosec on ONNX Runtime, in alternating rounds.

All run on one machine and serve the same ResNet-18 with random weights to clients that each have one request in flight:
a photo to be decoded, resized and cropped (`photo`), or raw pixels (`tensor`). Needs only the standard library and
`wrk`; the environment of the peers is created below cargo's target directory. The last line of the output is a JSON
object with all measurements.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import machine
import report
import servers
from engines import Case, EngineError, ShortcutEngine
from environment import Environment, Unavailable
from rounds import log_progress
from server_measurements import ENGINE_BATCHES, Baseline, Measurements, Sample, cpu_breakdowns
from server_report import breakdown_table, comparison, cpu_table, verdicts
from servers import NETWORK, PEERS, SHORTCUT, WORKLOADS, Peer, PeerSettings, ShortcutServer
from wrk import run_load

# Warm-up of each server for each number of clients, in seconds.
WARM_UP = 1
# All clients start at once, so the first requests of many clients wait less than later ones. A load runs one second
# longer for this number of clients.
CLIENTS_PER_EXTRA_SECOND = 25
# Default settings of the peers: one process with all cores, without and with batches, and one process per core. For
# each load and figure, the best settings represent a peer. Threads that spin take CPU time from everything else, and
# pay off only with a single client.
DEFAULT_SETTINGS = "1:0:1x{cores},8:2:1x{cores}:still,1:0:{cores}x1".format(cores=machine.cores())
SETTINGS_FORMAT = "batch:wait_ms:workersxthreads, with the suffix `:still` for threads that do not spin"


def parse_arguments():
    parser = argparse.ArgumentParser(prog="bench_server.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, which contains release/server and release/trainer")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="minimum duration of a load (default: %(default)s)")
    parser.add_argument("--clients", default="1,8,64,256", help="numbers of clients (default: %(default)s)")
    parser.add_argument("--workload", default=",".join(WORKLOADS), help="workloads (default: %(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="servers to compare with (default: %(default)s)")
    parser.add_argument(
        "--settings", default=DEFAULT_SETTINGS, help=f"settings of the peers: {SETTINGS_FORMAT} (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=machine.cores(), help="threads of our engine (default: %(default)s)")
    parser.add_argument("--server-options", default="", help="additional options of our server, as one argument")
    args = parser.parse_args()
    args.clients = sorted(int(number) for number in args.clients.split(","))
    args.workload = args.workload.split(",")
    args.peers = [peer for peer in args.peers.split(",") if peer]
    if args.rounds < 1 or args.threads < 1 or args.clients[0] < 1:
        parser.error("rounds, threads and clients must be at least 1")
    for names, available in ((args.workload, WORKLOADS), (args.peers, PEERS)):
        unknown = [name for name in names if name not in available]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; available: {', '.join(available)}")
    try:
        args.settings = [PeerSettings.parse(text) for text in args.settings.split(",")]
    except ValueError:
        parser.error(f"invalid --settings {args.settings}; example: {DEFAULT_SETTINGS}")
    return args


def measure(args, environment, contenders, missing):
    """Returns the measurements of all rounds. Adds the reasons for those that failed to `missing`."""
    measurements = Measurements()
    engine = ShortcutEngine(environment, "cpu", args.threads)

    def measure_baseline():
        runs = {batch: engine.bench(Case(NETWORK, batch), "--seconds", "1") for batch in ENGINE_BATCHES}
        engine_ms = {batch: run["median_ms"] for batch, run in runs.items()}
        return Baseline(engine_ms, servers.decoding_ms(environment))

    expected = servers.expected_classes(environment)
    for index in range(args.rounds):
        # Each round starts with another server.
        order = contenders[index % len(contenders) :] + contenders[: index % len(contenders)]
        for workload in args.workload:
            for server in order:
                key = f"{server.name}, {workload}"
                if key in missing:
                    continue
                try:
                    with server.running(workload):
                        baseline = measure_baseline if server.name == SHORTCUT else lambda: None
                        measure_server(args, server, workload, expected[workload], measurements, missing, baseline)
                except (EngineError, Unavailable) as error:
                    missing[key] = str(error)
                    for clients in args.clients:
                        measurements.by_server(workload, clients).pop(server.name, None)
            for clients in args.clients:
                by_server = measurements.by_server(workload, clients)
                loads = {name: samples[-1].load for name, samples in by_server.items()}
                figures = (f"{name} {load.throughput:.0f}/s {load.p99_ms:.0f} ms" for name, load in loads.items())
                log_progress(f"{workload}, {clients} clients, round {index + 1} of {args.rounds}: {', '.join(figures)}")
    return measurements


def check(server, workload, expected):
    """Checks the predicted class. Servers respond in order, also to clients that have disconnected, so that afterwards
    no request of an earlier load is pending.
    """
    predicted = server.top_class(workload)
    if predicted != expected:
        raise EngineError(f"predicted class {predicted} instead of {expected}")


def measure_server(args, server, workload, expected, measurements, missing, measure_baseline):
    """Measures a running server with each number of clients."""
    check(server, workload, expected)
    request = server.request(workload)
    before = measure_baseline()
    for clients in args.clients:
        key = f"{server.name}, {workload}, {clients} clients"
        if key in missing:
            continue
        run_load(*request, clients, WARM_UP)
        check(server, workload, expected)
        seconds = args.seconds + clients / CLIENTS_PER_EXTRA_SECOND
        load, cpu_usage = run_load(*request, clients, seconds, server.cpu_times)
        after = measure_baseline()
        by_server = measurements.by_server(workload, clients)
        if load.requests:
            baseline = before and Baseline.median([before, after])
            by_server.setdefault(server.name, []).append(Sample(load, cpu_usage, baseline))
        else:
            missing[key] = f"no successful response within {load.seconds:.0f} s, {load.errors} errors"
            by_server.pop(server.name, None)
        check(server, workload, expected)
        before = after


def main():
    args = parse_arguments()
    description = machine.describe()
    environment = Environment(args.target.resolve())
    servers.adopt_orphans()
    log_progress("creating the environment of the peers")
    missing = {}
    try:
        environment.make_servers()
    except Unavailable as error:
        raise SystemExit(f"error: cannot create the environment of the peers: {error}")
    onnx = environment.models / f"{NETWORK}.onnx"
    peers = [Peer(kind, settings, environment, onnx) for kind in args.peers for settings in args.settings]
    contenders = [ShortcutServer(environment, args.threads, args.server_options.split()), *peers]

    monitor = machine.ContentionMonitor()
    measurements = measure(args, environment, contenders, missing)
    contention = monitor.shares()
    breakdowns = cpu_breakdowns(args, measurements)
    names = [server.name for server in contenders]
    results = verdicts(args, measurements, breakdowns, [peer.name for peer in peers])

    report.print_conditions(description, contention)
    versions = {name: environment.versions.get(name) for name in (*PEERS, "onnxruntime")}
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{args.threads} threads of our engine; settings of the peers: {SETTINGS_FORMAT}.")
    print(f"Medians of {args.rounds} alternating rounds, at least {args.seconds:g} s per load.")
    for workload in args.workload:
        print("\n" + comparison(args, measurements, workload, names))
    print("\n" + cpu_table(args, measurements, names))
    if breakdowns:
        print("\n" + breakdown_table(measurements, breakdowns))
    rows = [["target", "measured", "at most", ""], *(verdict.row() for verdict in results)]
    print("\n" + report.markdown(rows))
    for name, reason in sorted(missing.items()):
        print(f"MISSING {name}: {reason}")
    samples = [
        {"workload": workload, "clients": clients, "server": name, "rounds": [asdict(sample) for sample in samples]}
        for (workload, clients), by_server in measurements.samples.items()
        for name, samples in by_server.items()
    ]
    report.print_json(
        machine=description,
        use=contention,
        threads=args.threads,
        rounds=args.rounds,
        seconds=args.seconds,
        versions=versions,
        samples=samples,
        accounts=[vars(breakdown) for breakdown in breakdowns],
        targets=[verdict.json() for verdict in results],
        missing=missing,
    )
    # Missed targets are valid results, but wrong or missing responses of our server are failures.
    return 1 if any(name.startswith(SHORTCUT) for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
