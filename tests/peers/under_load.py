"""What was measured of servers under load, and where our server's processors went."""

import statistics
from dataclasses import dataclass

import machine
from load import Load, Metered
from servers import OURS

# Images that the engine runs by itself, to stand beside the server.
ENGINE_BATCHES = (1, 8)


@dataclass
class Alone:
    """What engine and decoder take when nothing else runs: milliseconds a run by batch, and milliseconds a photo."""

    engine_ms: dict
    decoding_ms: float

    def throughput(self):
        """Images a second, by the better batch."""
        return max(1e3 * batch / ms for batch, ms in self.engine_ms.items())

    @staticmethod
    def middle(several):
        """The median; of two, the mean."""
        engine_ms = {batch: statistics.median(one.engine_ms[batch] for one in several) for batch in ENGINE_BATCHES}
        return Alone(engine_ms, statistics.median(one.decoding_ms for one in several))


@dataclass
class Sample:
    """What one load saw, and what server and client took of the processors meanwhile; of ours, with what engine and decoder
    do by themselves just before and after: the machine has better times and worse.
    """

    load: Load
    metered: Metered
    alone: Alone | None

    @property
    def answered(self):
        """A second, refusals included. As many come in while a load is steady."""
        return (self.load.requests + self.load.errors) / self.load.seconds

    def ms(self, seconds):
        """Milliseconds a request, of seconds that were metered."""
        return 1e3 * seconds / (self.answered * self.metered.seconds)


class Measured:
    """By workload, number of clients and server: samples, one a round."""

    def __init__(self):
        self.samples = {}

    def of(self, workload, clients):
        return self.samples.setdefault((workload, clients), {})

    def middle(self, workload, clients, name, figure):
        """The median over the rounds, or None."""
        samples = self.of(workload, clients).get(name)
        return statistics.median(map(figure, samples)) if samples else None

    def alone(self):
        """The median of all."""
        ours = (sample for by_name in self.samples.values() for sample in by_name.get(OURS, []))
        return Alone.middle([sample.alone for sample in ours])


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
        rounds = list(map(self._round, measured.of(workload, clients)[OURS]))
        for name in rounds[0]:
            setattr(self, name, statistics.median(one[name] for one in rounds))

    def _round(self, sample):
        decoding_alone = sample.alone.decoding_ms
        server = sample.metered.server
        client, engine, decoding = (sample.ms(part) for part in (sample.metered.client, server.engine, server.decoding))
        if self.workload == "tensor":
            decoding_alone = 0.0
        elif not decoding:
            # Threads that do not say what they do decode as fast as our command line.
            decoding = decoding_alone
        left = 1 - (client + decoding) * sample.answered / (1e3 * machine.cores())
        possible = left * sample.alone.throughput()
        return {
            "client_ms": client,
            "engine_ms": engine,
            "decoding_ms": decoding,
            "own_ms": sample.ms(server.total) - engine - decoding,
            # Images a second, by the engine on the cores that client and decoding leave to it.
            "possible": possible,
            "short": 1 - sample.load.throughput / possible,
            "idle": 1 - server.running / sample.metered.seconds,
            # With one client nobody waits in a queue.
            "latency_ms": sample.load.p50_ms - sample.alone.engine_ms[1] - decoding_alone,
        }


def accounts(given, measured):
    cases = [(workload, clients) for workload in given.workload for clients in given.clients]
    return [Account(measured, *case) for case in cases if OURS in measured.of(*case)]
