"""Tables of servers under load, and verdicts on our targets."""

import math

import report
from server_measurements import cpu_ms, errors, p50, p99, throughput
from servers import SHORTCUT
from targets import Verdict

# Number of clients from which the engine should never be idle.
SATURATION_CLIENTS = 8
# Targets, all of them maximums.
MAX_RATIO, MAX_SHORTFALL, MAX_IDLE, MAX_OWN_CPU_MS, MAX_OWN_LATENCY_MS = 1.0, 0.05, 0.01, 0.3, 1.0


def number(value):
    """Formats a value with three significant digits."""
    if not value:
        return "-" if value is None else "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(max(abs(value), 0.01))))}f}"


def clients_label(clients):
    return f"{clients} client{'s' * (clients > 1)}"


def comparison(args, measurements, workload, names):
    """Table with one row per server: throughput, P50 and P99 for each number of clients."""
    heads = [f"{clients_label(clients)}: images/s, P50, P99 ms" for clients in args.clients]
    rows = [[f"{workload}", *heads]]
    for name in names:
        cells = []
        for clients in args.clients:
            figures = [measurements.median(workload, clients, name, figure) for figure in (throughput, p50, p99)]
            failed = sum(errors(sample) for sample in measurements.by_server(workload, clients).get(name, []))
            cells.append(", ".join(map(number, figures)) + (f" ({failed} errors)" if failed else ""))
        rows.append([name, *cells])
    return report.markdown(rows)


def cpu_table(args, measurements, names):
    """Table of CPU time per request, which includes busy waiting of servers whose threads spin."""
    rows = [["CPU ms per request", *map(clients_label, args.clients)]]
    for name in names:
        for workload in args.workload:
            cells = [number(measurements.median(workload, clients, name, cpu_ms)) for clients in args.clients]
            rows.append([f"{name}, {workload}", *cells])
    return report.markdown(rows)


def breakdown_table(measurements, breakdowns):
    """Summary of the baseline, and table with one row per CPU breakdown."""
    baseline = measurements.baseline()
    engine = ", ".join(f"batch {batch}: {number(ms)} ms" for batch, ms in baseline.engine_ms.items())
    summary = f"Engine without a server ({engine}): {number(baseline.throughput())} images/s. "
    summary += f"Decoding: {number(baseline.decoding_ms)} ms."
    heads = ["client, CPU ms per request", "engine", "decoding", "server", "possible images/s", "shortfall", "engine idle"]
    rows = [["our server", *heads, "P50 beyond engine and decoding, ms"]]
    for one in breakdowns:
        figures = (one.client_ms, one.engine_ms, one.decoding_ms, one.own_ms, one.possible)
        # With several clients, latency includes time in the queue.
        latency = number(one.latency_ms) if one.clients == 1 else ""
        shares = (f"{one.shortfall:.1%}", f"{one.idle:.1%}")
        rows.append([f"{one.workload}, {one.clients}", *map(number, figures), *shares, latency])
    return f"{summary}\n\n{report.markdown(rows)}"


def best_peer_and_ours(measurements, case, peers, figure, best):
    """Returns the best figure of all peers and settings, and ours."""
    figures = [measurements.median(*case, name, figure) for name in peers]
    best_figure = best((value for value in figures if value is not None), default=None)
    return best_figure, measurements.median(*case, SHORTCUT, figure)


def verdicts(args, measurements, breakdowns, peers):
    """Returns the verdicts on all targets. Those without a measurement have the value None."""
    results = []
    for workload in args.workload:
        for clients in args.clients:
            case, label = (workload, clients), f"{workload}, {clients_label(clients)}"
            fastest, ours = best_peer_and_ours(measurements, case, peers, throughput, max)
            ratio = fastest / ours if fastest and ours else None
            results.append(Verdict(f"{label}: throughput of the fastest peer / ours", ratio, MAX_RATIO))
            lowest, ours = best_peer_and_ours(measurements, case, peers, p99, min)
            ratio = ours / lowest if lowest and ours else None
            results.append(Verdict(f"{label}: our P99 / lowest P99 of the peers", ratio, MAX_RATIO))
    failed = [errors(sample) for by_server in measurements.samples.values() for sample in by_server.get(SHORTCUT, [])]
    results.append(Verdict("requests that failed on our server", sum(failed) if failed else None, 0))
    by_case = {(one.workload, one.clients): one for one in breakdowns}
    for clients in args.clients if "tensor" in args.workload else []:
        one = by_case.get(("tensor", clients))
        label = f"tensor, {clients_label(clients)}"
        if clients >= SATURATION_CLIENTS:
            results.append(Verdict(f"{label}: shortfall from possible throughput", one and one.shortfall, MAX_SHORTFALL))
            results.append(Verdict(f"{label}: engine idle time", one and one.idle, MAX_IDLE))
        results.append(Verdict(f"{label}: CPU time of our server", one and one.own_ms, MAX_OWN_CPU_MS, " ms"))
        if clients == 1:
            latency = one and one.latency_ms
            results.append(Verdict(f"{label}: latency added by our server, P50", latency, MAX_OWN_LATENCY_MS, " ms"))
    return results
