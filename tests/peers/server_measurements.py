"""Measurements of servers under load, and the breakdown of our server's CPU time."""

import statistics
from dataclasses import dataclass

import machine
from servers import SHORTCUT
from wrk import CpuUsage, LoadResult

# Batch sizes of the engine without a server, as a baseline.
ENGINE_BATCHES = (1, 8)


@dataclass
class Baseline:
    """Times of the engine and the decoder without a server: milliseconds per run for each batch size, and per photo."""

    engine_ms: dict
    decoding_ms: float

    def throughput(self):
        """Images per second of the engine, with the faster batch size."""
        return max(1e3 * batch / ms for batch, ms in self.engine_ms.items())

    @staticmethod
    def median(baselines):
        """Median of several baselines; of two, the mean."""
        engine_ms = {batch: statistics.median(one.engine_ms[batch] for one in baselines) for batch in ENGINE_BATCHES}
        return Baseline(engine_ms, statistics.median(one.decoding_ms for one in baselines))


@dataclass
class Sample:
    """Result of one load. For our server it includes a baseline measured just before and after, because the speed of
    the machine varies over time.
    """

    load: LoadResult
    cpu_usage: CpuUsage
    baseline: Baseline | None

    @property
    def response_rate(self):
        """Responses per second including errors, which equals the request rate while the load is steady."""
        return (self.load.requests + self.load.errors) / self.load.seconds

    def ms_per_request(self, cpu_seconds):
        """Converts CPU seconds of `cpu_usage` to milliseconds per request."""
        return 1e3 * cpu_seconds / (self.response_rate * self.cpu_usage.seconds)


class Measurements:
    """Samples by workload, number of clients and server, one per round."""

    def __init__(self):
        self.samples = {}

    def by_server(self, workload, clients):
        return self.samples.setdefault((workload, clients), {})

    def median(self, workload, clients, name, figure):
        """Median over the rounds, or None if there is no sample."""
        samples = self.by_server(workload, clients).get(name)
        return statistics.median(map(figure, samples)) if samples else None

    def baseline(self):
        """Median of all baselines."""
        ours = (sample for by_server in self.samples.values() for sample in by_server.get(SHORTCUT, []))
        return Baseline.median([sample.baseline for sample in ours])


def throughput(sample):
    return sample.load.throughput


def p50(sample):
    return sample.load.p50_ms


def p99(sample):
    return sample.load.p99_ms


def errors(sample):
    return sample.load.errors


def cpu_ms(sample):
    """CPU time of the server per request, in milliseconds."""
    return sample.ms_per_request(sample.cpu_usage.server.total)


class CpuBreakdown:
    """Breakdown of our server's CPU time per request, for a workload and number of clients; medians of the rounds."""

    def __init__(self, measurements, workload, clients):
        self.workload, self.clients = workload, clients
        rounds = list(map(self._round, measurements.by_server(workload, clients)[SHORTCUT]))
        for name in rounds[0]:
            setattr(self, name, statistics.median(one[name] for one in rounds))

    def _round(self, sample):
        baseline_decoding = sample.baseline.decoding_ms
        cpu_usage = sample.cpu_usage
        parts = (cpu_usage.client, cpu_usage.server.engine, cpu_usage.server.decoding)
        client, engine, decoding = map(sample.ms_per_request, parts)
        if self.workload == "tensor":
            baseline_decoding = 0.0
        elif not decoding:
            # If the decoding threads cannot be recognised by name, assume that they are as fast as our command line.
            decoding = baseline_decoding
        free_share = 1 - (client + decoding) * sample.response_rate / (1e3 * machine.cores())
        possible = free_share * sample.baseline.throughput()
        return {
            "client_ms": client,
            "engine_ms": engine,
            "decoding_ms": decoding,
            # CPU time of the server itself.
            "own_ms": cpu_ms(sample) - engine - decoding,
            # Images per second that the engine could reach on the cores not used by client and decoding.
            "possible": possible,
            # Share of that which is not reached.
            "shortfall": 1 - sample.load.throughput / possible,
            # Share of the time in which the engine is idle.
            "idle": 1 - cpu_usage.server.running / cpu_usage.seconds,
            # Latency added by the server; meaningful for a single client only, whose requests never wait in a queue.
            "latency_ms": sample.load.p50_ms - sample.baseline.engine_ms[1] - baseline_decoding,
        }


def cpu_breakdowns(args, measurements):
    cases = [(workload, clients) for workload in args.workload for clients in args.clients]
    return [CpuBreakdown(measurements, *case) for case in cases if SHORTCUT in measurements.by_server(*case)]
