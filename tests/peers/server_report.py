"""Servers under load in tables, and held against what was to be reached."""

import math

import report
from servers import OURS
from targets import Verdict
from under_load import errors, p50, p99, processors, throughput

# From so many clients on, the engine is never to be idle.
BUSY_FROM = 8
# What is asked for: all at most.
BEHIND, SHORT, IDLE, OWN_CPU_MS, OWN_LATENCY_MS = 1.0, 0.05, 0.01, 0.3, 1.0


def number(value):
    """Three digits of it."""
    if not value:
        return "-" if value is None else "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(max(abs(value), 0.01))))}f}"


def of(clients):
    return f"{clients} client{'s' * (clients > 1)}"


def comparison(given, measured, workload, names):
    """A server a row: images/s, P50 and P99 for each number of clients."""
    heads = [f"{of(count)}: images/s, P50, P99 ms" for count in given.clients]
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
    rows = [["ms of processors a request", *map(of, given.clients)]]
    for name in names:
        for workload in given.workload:
            cells = [number(measured.middle(workload, clients, name, processors)) for clients in given.clients]
            rows.append([f"{name}, {workload}", *cells])
    return report.markdown(rows)


def accounting(measured, accounts):
    alone = measured.alone()
    engine = ", ".join(f"batch {batch}: {number(ms)} ms" for batch, ms in alone.engine_ms.items())
    decoding = number(alone.decoding_ms)
    alone = f"The engine by itself ({engine}): {number(alone.throughput())} images/s. Decoding: {decoding} ms."
    heads = ["client, ms of processors a request", "engine", "decoding", "own", "images/s, possible", "short of it", "engine idle"]
    rows = [["our server", *heads, "P50 beyond the engine's run and decoding, ms"]]
    for one in accounts:
        figures = (one.client_ms, one.engine_ms, one.decoding_ms, one.own_ms, one.possible)
        # With more clients than one it is the queue that is waited in.
        latency = number(one.latency_ms) if one.clients == 1 else ""
        rows.append([f"{one.workload}, {one.clients}", *map(number, figures), f"{one.short:.1%}", f"{one.idle:.1%}", latency])
    return f"{alone}\n\n{report.markdown(rows)}"


def beside_best(measured, case, peers, figure, best):
    """The best of the peers, whatever its settings, and ours."""
    rivals = [measured.middle(*case, name, figure) for name in peers]
    return best((rival for rival in rivals if rival is not None), default=None), measured.middle(*case, OURS, figure)


def judge(given, measured, accounts, peers):
    verdicts = []
    for workload in given.workload:
        for clients in given.clients:
            case = (workload, clients)
            fastest, ours = beside_best(measured, case, peers, throughput, max)
            behind = fastest / ours if fastest and ours else None
            verdicts.append(Verdict(f"{workload}, {of(clients)}: the fastest peer's throughput, of ours", behind, BEHIND))
            lowest, ours = beside_best(measured, case, peers, p99, min)
            behind = ours / lowest if lowest and ours else None
            verdicts.append(Verdict(f"{workload}, {of(clients)}: our P99, of the lowest peer's", behind, BEHIND))
    failed = [errors(sample) for by_name in measured.samples.values() for sample in by_name.get(OURS, [])]
    verdicts.append(Verdict("requests that we refused or failed", sum(failed) if failed else None, 0))
    by_case = {(one.workload, one.clients): one for one in accounts}
    for clients in given.clients if "tensor" in given.workload else []:
        one = by_case.get(("tensor", clients))
        what = f"tensor, {of(clients)}"
        if clients >= BUSY_FROM:
            verdicts.append(Verdict(f"{what}: throughput that the engine could have beyond it", one and one.short, SHORT))
            verdicts.append(Verdict(f"{what}: share of the time in which the engine is idle", one and one.idle, IDLE))
        verdicts.append(Verdict(f"{what}: our own processors' time", one and one.own_ms, OWN_CPU_MS, " ms"))
        if clients == 1:
            verdicts.append(Verdict(f"{what}: our own latency at P50", one and one.latency_ms, OWN_LATENCY_MS, " ms"))
    return verdicts
