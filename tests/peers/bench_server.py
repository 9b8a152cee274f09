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
from load import Load, post
from rounds import say
from servers import NETWORK, OURS, PEERS, WORKLOADS, Ours, Peer, Settings, Times
from targets import Verdict

# Each server's warm-up for each number of clients, in seconds.
WARM_UP = 2
ENGINE_BATCHES = (1, 8)
# In turn: images in a batch at most, ms that it waits for them, processes that compute by threads of each. What is left of a
# grid (BENCHMARKS.md): each was ahead of the others somewhere. The best of a peer's settings stands for it at each load, and
# by each measure.
SETTINGS = "1:0:2x1,1:0:1x2,8:2:1x2,8:2:2x1"
# From so many clients on, the engine is never to be idle.
BUSY_FROM = 8
# What is asked for: all at most.
BEHIND, IDLE, OWN_CPU_MS, OWN_LATENCY_MS = 1.0, 0.05, 0.3, 1.0


@dataclass
class Sample:
    """What one load saw, and what the server took of the processors meanwhile."""

    load: Load
    times: Times


def arguments():
    parser = argparse.ArgumentParser(prog="bench_server.py", description=__doc__.splitlines()[0])
    parser.add_argument("target", type=Path, help="cargo's target directory, with release/server and release/trainer in it")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every server (%(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load in a turn (%(default)s)")
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
                        take_turn(given, server, workload, expected[workload], measured)
                except (EngineError, Unavailable) as error:
                    missing[lacks] = str(error)
                    for clients in given.clients:
                        measured.of(workload, clients).pop(server.name, None)
            for clients in given.clients:
                last = {name: samples[-1].load for name, samples in measured.of(workload, clients).items()}
                told = (f"{name} {load.throughput:.0f}/s {load.p99_ms:.0f} ms" for name, load in last.items())
                say(f"{workload}, {clients} clients, round {index + 1} of {given.rounds}: {', '.join(told)}")
    return measured


def take_turn(given, server, workload, expected, measured):
    answered = server.top_class(workload)
    if answered != expected:
        raise EngineError(f"it answers class {answered} where {expected} is right")
    url, body, headers = server.request(workload)
    for clients in given.clients:
        post(url, body, headers, clients, WARM_UP)
        before = server.times()
        load = post(url, body, headers, clients, given.seconds)
        sample = Sample(load, server.times() - before)
        if not load.requests:
            raise EngineError(f"{clients} clients got no answer, but {load.errors} errors")
        measured.of(workload, clients).setdefault(server.name, []).append(sample)


def throughput(sample):
    return sample.load.throughput


def p50(sample):
    return sample.load.p50_ms


def p99(sample):
    return sample.load.p99_ms


def errors(sample):
    return sample.load.errors


class Account:
    """Where our server's processors went for one workload and number of clients; medians of the rounds."""

    def __init__(self, measured, workload, clients):
        self.workload, self.clients = workload, clients
        cores = machine.cores()
        samples = measured.of(workload, clients)[OURS]
        rows = [self._row(sample, decoding, cores) for sample, decoding in zip(samples, measured.decoding)]
        self.client_ms, self.engine_ms, self.decoding_ms, self.own_ms, left = map(statistics.median, zip(*rows))
        # The engine on the cores that client and decoding leave to it.
        self.possible = measured.engine_throughput() * left
        self.idle = 1 - statistics.median(map(throughput, samples)) / self.possible
        engine = measured.engine[1]
        beside = [ms + decoding * (workload == "photo") for ms, decoding in zip(engine, measured.decoding)]
        self.latency_ms = statistics.median(p50(sample) - ms for sample, ms in zip(samples, beside))

    def _row(self, sample, decoding, cores):
        """Milliseconds of processors a request: client, engine, decoding, the rest; and the share of cores that is left."""
        load, times = sample.load, sample.times
        requests = load.requests + load.errors
        client, whole, engine = (1e3 * part / requests for part in (load.cpu_seconds, times.total, times.engine))
        # Threads that do not say what they do decode as fast as our command line.
        named = 1e3 * times.decoding / requests
        decoding = named or (decoding if self.workload == "photo" else 0.0)
        left = 1 - (client + decoding) * requests / (1e3 * load.seconds * cores)
        return client, engine, decoding, whole - engine - decoding, left


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


def accounting(given, measured, accounts):
    engine = ", ".join(f"batch {batch}: {number(statistics.median(ms))} ms" for batch, ms in measured.engine.items())
    lines = [
        f"The engine by itself ({engine}): {number(measured.engine_throughput())} images/s. Decoding: "
        f"{number(statistics.median(measured.decoding))} ms a photo.",
        "",
    ]
    rows = [["our server", "client, ms of processors a request", "engine", "decoding", "own", "images/s, possible", "idle"]]
    rows[0].append("P50 beyond the engine's run and decoding, ms")
    for one in accounts:
        figures = (one.client_ms, one.engine_ms, one.decoding_ms, one.own_ms, one.possible)
        # With more clients than one it is the queue that is waited in.
        latency = number(one.latency_ms) if one.clients == 1 else ""
        rows.append([f"{one.workload}, {one.clients}", *map(number, figures), f"{one.idle:.1%}", latency])
    return "\n".join(lines) + "\n" + report.markdown(rows)


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
            what = f"{workload}, {clients} clients"
            fastest, ours = figures[throughput] or (None, None)
            verdicts.append(Verdict(f"{what}: the fastest peer's throughput, of ours", fastest and fastest / ours, BEHIND))
            lowest, ours = figures[p99] or (None, None)
            verdicts.append(Verdict(f"{what}: our P99, of the lowest peer's", lowest and ours / lowest, BEHIND))
    by_case = {(one.workload, one.clients): one for one in accounts}
    for clients in given.clients if "tensor" in given.workload else []:
        one = by_case.get(("tensor", clients))
        what = f"tensor, {clients} clients"
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
    print(f"Medians of {given.rounds} rounds in turn, {given.seconds:g} s of each load, behind {WARM_UP} s of it.")
    for workload in given.workload:
        print("\n" + comparison(given, measured, workload, names))
    if accounted:
        print("\n" + accounting(given, measured, accounted))
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
