"""`make bench-server`: our server beside LitServe and mosec with ONNX Runtime, on one machine, in one run, taking turns.

All serve the same network, a ResNet-18 of random weights, to clients that each have one request under way: a photo to be
decoded, resized and cropped (`photo`), or pixels as they are (`tensor`). Standard library and `wrk` only; what the peers
need is made below cargo's target directory. The last line of the output is a JSON object with everything that was measured.
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
from load import post
from rounds import say
from server_report import accounting, comparison, costs, judge
from servers import NETWORK, OURS, PEERS, WORKLOADS, Ours, Peer, Settings
from under_load import ENGINE_BATCHES, Alone, Measured, Sample, accounts

# Each server's warm-up for each number of clients, in seconds.
WARM_UP = 1
# All clients come at once, and what waits before the first of many is short. A load takes a second more for so many of them.
CLIENTS_A_SECOND = 25
# Of the peers: a process with all cores, image by image and in batches, and a process for each core. The best of them stands
# for its peer, for each load and by each measure. Threads that spin take cores from whoever else has something to do, and
# pay with one client alone.
SETTINGS = "1:0:1x{cores},8:2:1x{cores}:still,1:0:{cores}x1".format(cores=machine.cores())
SETTINGS_ARE = "batch:wait_ms:workersxthreads, and `:still` behind it for threads that do not spin"


def arguments():
    parser = argparse.ArgumentParser(prog="bench_server.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, with release/server and release/trainer in it")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every server (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of a load, and more for many clients (%(default)s)")
    parser.add_argument("--clients", default="1,8,64,256", help="(%(default)s)")
    parser.add_argument("--workload", default=",".join(WORKLOADS), help="(%(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="(%(default)s)")
    parser.add_argument("--settings", default=SETTINGS, help=f"of the peers: {SETTINGS_ARE} (%(default)s)")
    parser.add_argument("--threads", type=int, default=machine.cores(), help="of our engine (%(default)s)")
    parser.add_argument("--server-options", default="", help="more of our server's, in one argument")
    given = parser.parse_args()
    given.clients = sorted(int(number) for number in given.clients.split(","))
    given.workload, given.peers = given.workload.split(","), [peer for peer in given.peers.split(",") if peer]
    if given.rounds < 1 or given.threads < 1 or given.clients[0] < 1:
        parser.error("at least one round, one thread and one client are wanted")
    for names, known in ((given.workload, WORKLOADS), (given.peers, PEERS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            parser.error(f"unknown: {', '.join(unknown)}; known are {', '.join(known)}")
    try:
        given.settings = [Settings.parse(text) for text in given.settings.split(",")]
    except ValueError:
        parser.error(f"{given.settings}: settings such as {SETTINGS} are expected")
    return given


def measure(given, environment, contenders, missing):
    measured = Measured()
    engine = Engine(environment, "cpu", given.threads)

    def alone():
        runs = {batch: engine.bench(Case(NETWORK, batch), "--seconds", "1") for batch in ENGINE_BATCHES}
        return Alone({batch: run["median_ms"] for batch, run in runs.items()}, servers.decoding_ms(environment))

    expected = servers.expected_classes(environment)
    for index in range(given.rounds):
        turn = contenders[index % len(contenders) :] + contenders[: index % len(contenders)]
        for workload in given.workload:
            for server in turn:
                lacks = f"{server.name}, {workload}"
                if lacks in missing:
                    continue
                try:
                    with server.running(workload):
                        beside = alone if server.name == OURS else lambda: None
                        take_turn(given, server, workload, expected[workload], measured, missing, beside)
                except (EngineError, Unavailable) as error:
                    missing[lacks] = str(error)
                    for clients in given.clients:
                        measured.of(workload, clients).pop(server.name, None)
            for clients in given.clients:
                last = {name: samples[-1].load for name, samples in measured.of(workload, clients).items()}
                told = (f"{name} {load.throughput:.0f}/s {load.p99_ms:.0f} ms" for name, load in last.items())
                say(f"{workload}, {clients} clients, round {index + 1} of {given.rounds}: {', '.join(told)}")
    return measured


def check(server, workload, expected):
    """Its answer comes after all others that it still owes, to clients too that have gone: nothing is left of a load."""
    answered = server.top_class(workload)
    if answered != expected:
        raise EngineError(f"it answers class {answered} where {expected} is right")


def take_turn(given, server, workload, expected, measured, missing, alone):
    check(server, workload, expected)
    request = server.request(workload)
    before = alone()
    for clients in given.clients:
        lacks = f"{server.name}, {workload}, {clients} clients"
        if lacks in missing:
            continue
        post(*request, clients, WARM_UP)
        check(server, workload, expected)
        load, metered = post(*request, clients, given.seconds + clients / CLIENTS_A_SECOND, server.times)
        after = alone()
        if load.requests:
            beside = before and Alone.middle([before, after])
            measured.of(workload, clients).setdefault(server.name, []).append(Sample(load, metered, beside))
        else:
            missing[lacks] = f"no answer within {load.seconds:.0f} s, but {load.errors} errors"
            measured.of(workload, clients).pop(server.name, None)
        check(server, workload, expected)
        before = after


def main():
    given = arguments()
    described = machine.describe()
    environment = Environment(given.target.resolve())
    servers.adopt_orphans()
    say("making what the peers need")
    missing = {}
    try:
        environment.make_servers()
    except Unavailable as error:
        raise SystemExit(f"error: the servers' environment cannot be made: {error}")
    onnx = environment.models / f"{NETWORK}.onnx"
    peers = [Peer(kind, settings, environment, onnx) for kind in given.peers for settings in given.settings]
    contenders = [Ours(environment, given.threads, given.server_options.split()), *peers]

    use = machine.Use()
    measured = measure(given, environment, contenders, missing)
    use = use.shares()
    accounted = accounts(given, measured)
    names = [server.name for server in contenders]
    verdicts = judge(given, measured, accounted, [peer.name for peer in peers])

    report.conditions(described, use)
    versions = {name: environment.versions.get(name) for name in (*PEERS, "onnxruntime")}
    print(", ".join(f"{name} {version}" for name, version in versions.items()))
    print(f"{given.threads} threads of our engine; peers by batch:wait_ms:workersxthreads.")
    print(f"Medians of {given.rounds} rounds in turn, {given.seconds:g} s of each load and more for many clients.")
    for workload in given.workload:
        print("\n" + comparison(given, measured, workload, names))
    print("\n" + costs(given, measured, names))
    if accounted:
        print("\n" + accounting(measured, accounted))
    rows = [["target", "here", "at most", ""], *(verdict.row() for verdict in verdicts)]
    print("\n" + report.markdown(rows))
    for name, reason in sorted(missing.items()):
        print(f"MISSING {name}: {reason}")
    samples = [
        {"workload": workload, "clients": clients, "server": name, "rounds": [asdict(sample) for sample in samples]}
        for (workload, clients), by_name in measured.samples.items()
        for name, samples in by_name.items()
    ]
    report.summary(
        machine=described,
        use=use,
        threads=given.threads,
        rounds=given.rounds,
        seconds=given.seconds,
        versions=versions,
        samples=samples,
        accounts=[{name: value for name, value in vars(one).items()} for one in accounted],
        targets=[verdict.json() for verdict in verdicts],
        missing=missing,
    )
    # Missed targets are results; an answer of ours that is wrong or does not come is a failure.
    return 1 if any(name.startswith(OURS) for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
