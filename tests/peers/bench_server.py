"""`make bench-server`: our server beside LitServe and mosec with ONNX Runtime, on one machine, in one run, taking turns.

All serve the same network, a ResNet-18 of random weights, to clients that each have one request under way: a photo to be
decoded, resized and cropped (`photo`), or pixels as they are (`tensor`). Standard library and `wrk` only; what the peers
need is made below cargo's target directory. The last line of the output is a JSON object with everything that was measured.
"""

import argparse
import math
import statistics
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import machine
import report
import servers
from engines import Case, EngineError
from engines import Ours as Engine
from environment import Environment, Unavailable
from load import Load, Metered, post
from rounds import say
from servers import NETWORK, OURS, PEERS, WORKLOADS, Ours, Peer, Settings
from targets import Verdict

# Each server's warm-up for each number of clients, in seconds.
WARM_UP = 1
# All clients come at once, and what waits before the first of many is short. A load takes a second more for so many of them.
CLIENTS_A_SECOND = 25
ENGINE_BATCHES = (1, 8)
# In turn: images in a batch at most, ms that it waits for them, processes that compute by threads of each. What is left of a
# grid (BENCHMARKS.md): each was ahead of the others somewhere. The best of a peer's settings stands for it at each load, and
# by each measure.
SETTINGS = "1:0:1x2,1:0:2x1,8:2:1x2"
# From so many clients on, the engine is never to be idle.
BUSY_FROM = 8
# What is asked for: all at most.
BEHIND, IDLE, OWN_CPU_MS, OWN_LATENCY_MS = 1.0, 0.05, 0.3, 1.0


@dataclass
class Sample:
    """What one load saw, and what server and client took of the processors meanwhile."""

    load: Load
    metered: Metered

    @property
    def answered(self):
        """A second, refusals included. As many come in while a load is steady."""
        return (self.load.requests + self.load.errors) / self.load.seconds

    def ms(self, seconds):
        """Milliseconds a request, of seconds that were metered."""
        return 1e3 * seconds / (self.answered * self.metered.seconds)


def arguments():
    parser = argparse.ArgumentParser(prog="bench_server.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, with release/server and release/trainer in it")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every server (%(default)s)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each load in a turn, and more for many clients (%(default)s)")
    parser.add_argument("--clients", default="1,8,64,256", help="(%(default)s)")
    parser.add_argument("--workload", default=",".join(WORKLOADS), help="(%(default)s)")
    parser.add_argument("--peers", default=",".join(PEERS), help="(%(default)s)")
    parser.add_argument("--settings", default=SETTINGS, help="of the peers: batch:wait_ms:workersxthreads, and `:still` for threads that do not spin (%(default)s)")
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


class Measured:
    """By workload, number of clients and server: samples, one a round. And what stands beside ours."""

    def __init__(self):
        self.samples = {}
        # Milliseconds a run by batch, and milliseconds a photo, one a round.
        self.engine, self.decoding = {batch: [] for batch in ENGINE_BATCHES}, []

    def of(self, workload, clients):
        return self.samples.setdefault((workload, clients), {})

    def middle(self, workload, clients, name, figure):
        """The median over the rounds, or None."""
        samples = self.of(workload, clients).get(name)
        return statistics.median(map(figure, samples)) if samples else None

    def engine_throughput(self):
        """Images a second, by the better batch."""
        return max(1e3 * batch / statistics.median(ms) for batch, ms in self.engine.items())


def measure(given, environment, contenders, missing):
    measured = Measured()
    engine = Engine(environment, "cpu", given.threads)
    expected = servers.expected_classes(environment)
    for index in range(given.rounds):
        for batch, ms in measured.engine.items():
            ms.append(engine.bench(Case(NETWORK, batch), "--seconds", "2")["median_ms"])
        measured.decoding.append(servers.decoding_ms(environment))
        turn = contenders[index % len(contenders) :] + contenders[: index % len(contenders)]
        for workload in given.workload:
            for server in turn:
                lacks = f"{server.name}, {workload}"
                if lacks in missing:
                    continue
                try:
                    with server.running(workload):
                        take_turn(given, server, workload, expected[workload], measured, missing)
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


def take_turn(given, server, workload, expected, measured, missing):
    check(server, workload, expected)
    request = server.request(workload)
    for clients in given.clients:
        lacks = f"{server.name}, {workload}, {clients} clients"
        if lacks in missing:
            continue
        post(*request, clients, WARM_UP)
        check(server, workload, expected)
        load, metered = post(*request, clients, given.seconds + clients / CLIENTS_A_SECOND, server.times)
        if load.requests:
            measured.of(workload, clients).setdefault(server.name, []).append(Sample(load, metered))
        else:
            missing[lacks] = f"no answer within {load.seconds:.0f} s, but {load.errors} errors"
            measured.of(workload, clients).pop(server.name, None)
        check(server, workload, expected)


def throughput(sample):
    return sample.load.throughput


def p50(sample):
    return sample.load.p50_ms


def p99(sample):
    return sample.load.p99_ms


def errors(sample):
    return sample.load.errors


def processors(sample):
    """Milliseconds of them that a request took of the server."""
    return sample.ms(sample.metered.server.total)


class Account:
    """Where the processors went for one workload and number of clients of our server; medians of the rounds."""

    def __init__(self, measured, workload, clients):
        self.workload, self.clients = workload, clients
        rounds = [
            self._round(sample, {batch: ms[index] for batch, ms in measured.engine.items()}, measured.decoding[index])
            for index, sample in enumerate(measured.of(workload, clients)[OURS])
        ]
        for name in rounds[0]:
            setattr(self, name, statistics.median(one[name] for one in rounds))

    def _round(self, sample, engine_ms, decoding_alone):
        """The engine and the decoder by themselves are those of the same round: the machine has better times and worse."""
        server = sample.metered.server
        client, engine, decoding = (sample.ms(part) for part in (sample.metered.client, server.engine, server.decoding))
        if self.workload == "tensor":
            decoding_alone = 0.0
        elif not decoding:
            # Threads that do not say what they do decode as fast as our command line.
            decoding = decoding_alone
        left = 1 - (client + decoding) * sample.answered / (1e3 * machine.cores())
        possible = left * max(1e3 * batch / ms for batch, ms in engine_ms.items())
        return {
            "client_ms": client,
            "engine_ms": engine,
            "decoding_ms": decoding,
            "own_ms": sample.ms(server.total) - engine - decoding,
            # Images a second, by the engine on the cores that client and decoding leave to it.
            "possible": possible,
            "idle": 1 - sample.load.throughput / possible,
            # With one client nobody waits in a queue.
            "latency_ms": sample.load.p50_ms - engine_ms[1] - decoding_alone,
        }


def accounts(given, measured):
    cases = [(workload, clients) for workload in given.workload for clients in given.clients]
    return [Account(measured, *case) for case in cases if OURS in measured.of(*case)]


def number(value):
    """Three digits of it."""
    return "-" if value is None else f"{value:.{max(0, 2 - math.floor(math.log10(max(abs(value), 0.01))))}f}"


def comparison(given, measured, workload, names):
    """A server a row: images/s, P50 and P99 for each number of clients."""
    heads = [f"{count} client{'s' * (count > 1)}: images/s, P50, P99 ms" for count in given.clients]
    rows = [[f"{workload}", *heads]]
    for name in names:
        cells = []
        for clients in given.clients:
            three = [measured.middle(workload, clients, name, figure) for figure in (throughput, p50, p99)]
            failed = sum(errors(sample) for sample in measured.of(workload, clients).get(name, []))
            cells.append(", ".join(map(number, three)) + (f" ({failed} errors)" if failed else ""))
        rows.append([name, *cells])
    return report.markdown(rows)


def costs(given, measured, names):
    """The same for what each took of the processors: more than is needed where threads spin."""
    rows = [["ms of processors a request", *(f"{count} client{'s' * (count > 1)}" for count in given.clients)]]
    for name in names:
        for workload in given.workload:
            cells = [number(measured.middle(workload, clients, name, processors)) for clients in given.clients]
            rows.append([f"{name}, {workload}", *cells])
    return report.markdown(rows)


def accounting(measured, accounts):
    engine = ", ".join(f"batch {batch}: {number(statistics.median(ms))} ms" for batch, ms in measured.engine.items())
    decoding = number(statistics.median(measured.decoding))
    alone = f"The engine by itself ({engine}): {number(measured.engine_throughput())} images/s. Decoding: {decoding} ms a photo."
    rows = [["our server", "client, ms of processors a request", "engine", "decoding", "own", "images/s, possible", "short of it"]]
    rows[0].append("P50 beyond the engine's run and decoding, ms")
    for one in accounts:
        figures = (one.client_ms, one.engine_ms, one.decoding_ms, one.own_ms, one.possible)
        # With more clients than one it is the queue that is waited in.
        latency = number(one.latency_ms) if one.clients == 1 else ""
        rows.append([f"{one.workload}, {one.clients}", *map(number, figures), f"{one.idle:.1%}", latency])
    return f"{alone}\n\n{report.markdown(rows)}"


def judge(given, measured, accounts, peers):
    verdicts = []
    for workload in given.workload:
        for clients in given.clients:
            figures = {}
            for figure, best in ((throughput, max), (p99, min)):
                rivals = [measured.middle(workload, clients, name, figure) for name in peers]
                rivals = [rival for rival in rivals if rival is not None]
                own = measured.middle(workload, clients, OURS, figure)
                pair = (best(rivals), own) if rivals and own is not None else None
                figures[figure] = pair
            what = f"{workload}, {clients} client{'s' * (clients > 1)}"
            fastest, ours = figures[throughput] or (None, None)
            verdicts.append(Verdict(f"{what}: the fastest peer's throughput, of ours", fastest and fastest / ours, BEHIND))
            lowest, ours = figures[p99] or (None, None)
            verdicts.append(Verdict(f"{what}: our P99, of the lowest peer's", lowest and ours / lowest, BEHIND))
    failed = [errors(sample) for by_name in measured.samples.values() for sample in by_name.get(OURS, [])]
    verdicts.append(Verdict("requests that we refused or failed", sum(failed) if failed else None, 0))
    by_case = {(one.workload, one.clients): one for one in accounts}
    for clients in given.clients if "tensor" in given.workload else []:
        one = by_case.get(("tensor", clients))
        what = f"tensor, {clients} client{'s' * (clients > 1)}"
        if clients >= BUSY_FROM:
            verdicts.append(Verdict(f"{what}: throughput that the engine could have beyond it", one and one.idle, IDLE))
        verdicts.append(Verdict(f"{what}: our own processors' time", one and one.own_ms, OWN_CPU_MS, " ms"))
        if clients == 1:
            verdicts.append(Verdict(f"{what}: our own latency at P50", one and one.latency_ms, OWN_LATENCY_MS, " ms"))
    return verdicts


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
        engine_ms=measured.engine,
        decoding_ms=measured.decoding,
        samples=samples,
        accounts=[{name: value for name, value in vars(one).items()} for one in accounted],
        targets=[verdict.json() for verdict in verdicts],
        missing=missing,
    )
    # Missed targets are results; an answer of ours that is wrong or does not come is a failure.
    return 1 if any(name.startswith(OURS) for name in missing) else 0


if __name__ == "__main__":
    sys.exit(main())
