"""`make bench-server`: compares our server with LitServe and mosec on ONNX Runtime, on one machine, in alternating rounds.

All serve the same ResNet-18 with random weights to clients that each have one request in flight: a photo to be decoded,
resized and cropped (`photo`), or pixels as they are (`tensor`). Needs only the standard library and `wrk`; the environment of
the peers is created below cargo's target directory. The last line of the output is a JSON object with all measurements.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import machine
import report
import servers
from engines import Case, EngineError
from engines import Ours as Engine
from environment import Environment, Unavailable
from rounds import say
from server_measurements import ENGINE_BATCHES, Baseline, Measurements, Sample, cpu_breakdowns
from server_report import breakdown_table, comparison, cpu_table, verdicts
from servers import NETWORK, OURS, PEERS, WORKLOADS, Ours, Peer, PeerSettings
from wrk import run_load

# Warm-up of each server for each number of clients, in seconds.
WARM_UP = 1
# All clients start at once, so the first requests of many clients wait less than later ones. A load runs one second longer for
# this number of clients.
CLIENTS_PER_EXTRA_SECOND = 25
# Default settings of the peers: one process with all cores, without and with batches, and one process per core. For each load
# and figure, the best settings represent a peer. Threads that spin take CPU time from everything else, and pay off only with a
# single client.
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
    arguments = parser.parse_args()
    arguments.clients = sorted(int(number) for number in arguments.clients.split(","))
    arguments.workload = arguments.workload.split(",")
    arguments.peers = [peer for peer in arguments.peers.split(",") if peer]
    if arguments.rounds < 1 or arguments.threads < 1 or arguments.clients[0] < 1:
        parser.error("rounds, threads and clients must be at least 1")
    for names, available in ((arguments.workload, WORKLOADS), (arguments.peers, PEERS)):
        unknown = [name for name in names if name not in available]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; available: {', '.join(available)}")
    try:
        arguments.settings = [PeerSettings.parse(text) for text in arguments.settings.split(",")]
    except ValueError:
        parser.error(f"invalid --settings {arguments.settings}; example: {DEFAULT_SETTINGS}")
    return arguments


def measure(arguments, environment, contenders, missing):
    measurements = Measurements()
    engine = Engine(environment, "cpu", arguments.threads)

    def measure_baseline():
        runs = {batch: engine.bench(Case(NETWORK, batch), "--seconds", "1") for batch in ENGINE_BATCHES}
        engine_ms = {batch: run["median_ms"] for batch, run in runs.items()}
        return Baseline(engine_ms, servers.decoding_ms(environment))

    expected = servers.expected_classes(environment)
    for index in range(arguments.rounds):
        # Each round starts with another server.
        turn = contenders[index % len(contenders) :] + contenders[: index % len(contenders)]
        for workload in arguments.workload:
            for server in turn:
                key = f"{server.name}, {workload}"
                if key in missing:
                    continue
                try:
                    with server.running(workload):
                        baseline = measure_baseline if server.name == OURS else lambda: None
                        measure_server(arguments, server, workload, expected[workload], measurements, missing, baseline)
                except (EngineError, Unavailable) as error:
                    missing[key] = str(error)
                    for clients in arguments.clients:
                        measurements.by_server(workload, clients).pop(server.name, None)
            for clients in arguments.clients:
                by_server = measurements.by_server(workload, clients)
                loads = {name: samples[-1].load for name, samples in by_server.items()}
                figures = (f"{name} {load.throughput:.0f}/s {load.p99_ms:.0f} ms" for name, load in loads.items())
                say(f"{workload}, {clients} clients, round {index + 1} of {arguments.rounds}: {', '.join(figures)}")
    return measurements


def check(server, workload, expected):
    """Checks the predicted class. Servers respond in order, also to clients that have disconnected, so that afterwards no request
    of an earlier load is pending.
    """
    predicted = server.top_class(workload)
    if predicted != expected:
        raise EngineError(f"predicted class {predicted} instead of {expected}")


def measure_server(arguments, server, workload, expected, measurements, missing, measure_baseline):
    check(server, workload, expected)
    request = server.request(workload)
    before = measure_baseline()
    for clients in arguments.clients:
        key = f"{server.name}, {workload}, {clients} clients"
        if key in missing:
            continue
        run_load(*request, clients, WARM_UP)
        check(server, workload, expected)
        seconds = arguments.seconds + clients / CLIENTS_PER_EXTRA_SECOND
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
    arguments = parse_arguments()
    description = machine.describe()
    environment = Environment(arguments.target.resolve())
    servers.adopt_orphans()
    say("creating the environment of the peers")
    missing = {}
    try:
        environment.make_servers()
    except Unavailable as error:
        raise SystemExit(f"error: cannot create the environment of the peers: {error}")
    onnx = environment.models / f"{NETWORK}.onnx"
    peers = [Peer(kind, settings, environment, onnx) for kind in arguments.peers for settings in arguments.settings]
    contenders = [Ours(environment, arguments.threads, arguments.server_options.split()), *peers]

    use = machine.Use()
    measurements = measure(arguments, environment, contenders, missing)
    use = use.shares()
    breakdowns = cpu_breakdowns(arguments, measurements)
    names = [server.name for server in contenders]
    results = verdicts(arguments, measurements, breakdowns, [peer.name for peer in peers])

    report.conditions(description, use)
    versions = {name: environment.versions.get(name) for name in (*PEERS, "onnxruntime")}
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{arguments.threads} threads of our engine; settings of the peers: {SETTINGS_FORMAT}.")
    print(f"Medians of {arguments.rounds} alternating rounds, at least {arguments.seconds:g} s per load.")
    for workload in arguments.workload:
        print("\n" + comparison(arguments, measurements, workload, names))
    print("\n" + cpu_table(arguments, measurements, names))
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
    report.summary(
        machine=description,
        use=use,
        threads=arguments.threads,
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        versions=versions,
        samples=samples,
        accounts=[vars(breakdown) for breakdown in breakdowns],
        targets=[verdict.json() for verdict in results],
        missing=missing,
    )
    # Missed targets are valid results, but wrong or missing responses of our server are failures.
    return 1 if any(name.startswith(OURS) for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
