"""Load from `wrk`: so many clients, each with one request under way, for so many seconds."""

import json
import math
import subprocess
import time
from dataclasses import dataclass

import processors
from environment import HERE, Unavailable

# Seconds. Who answers later than that counts as an error.
TIMEOUT = 60
# Seconds of a load that are not metered. When all clients come at once, more is taken in than given out; in the end wrk adds
# up what it saw.
BEGINNING, END = 1, 0.1
SCRIPT = HERE / "serving/post.lua"


@dataclass
class Metered:
    """Seconds of processors that the server and wrk took within so many seconds of a load."""

    seconds: float
    server: object
    client: float


@dataclass
class Load:
    seconds: float
    requests: int
    # Answers that are no success, and requests without one.
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def throughput(self):
        return self.requests / self.seconds


def post(url, body, headers, clients, seconds, meter=None):
    """Posts a file. One thread of wrk does for all clients: it only copies bytes, and the servers need the cores.

    `meter` tells what the server took so far; what comes beside the load is metered while it is steady.
    """
    seconds = max(math.ceil(seconds), 2)
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{seconds}s"]
    command += ["--timeout", f"{TIMEOUT}s", "--script", SCRIPT, url, "--", body]
    command += [part for header in headers.items() for part in header]
    try:
        wrk = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise Unavailable("wrk is not installed") from None
    try:
        metered = meter and _metered(wrk.pid, seconds, meter)
        said, trouble = wrk.communicate(timeout=seconds + 2 * TIMEOUT)
    except (subprocess.TimeoutExpired, OSError) as error:
        raise Unavailable(f"wrk: {error}") from None
    finally:
        wrk.kill()
        wrk.wait()
    if wrk.returncode != 0:
        raise Unavailable(f"wrk: {trouble.strip() or said.strip()}")
    said = json.loads(said.strip().rpartition("\n")[2])
    latencies = as_measured(said["latencies"], said["requests"], said["us"], clients)
    p50, p99 = (percentile(latencies, share) / 1e3 for share in (0.5, 0.99))
    failed = said["errors"]
    return Load(said["us"] / 1e6, said["requests"] - failed["status"], sum(failed.values()), p50, p99), metered


def _metered(wrk, seconds, meter):
    def read():
        return time.monotonic(), meter(), sum(map(processors.of_thread, processors.threads(wrk)))

    time.sleep(BEGINNING)
    before = read()
    time.sleep(seconds - BEGINNING - END)
    return Metered(*(end - start for start, end in zip(before, read())))


def as_measured(latencies, requests, us, clients):
    """wrk makes latencies up: for each that is longer than twice the mean time between a connection's requests it adds
    those that other requests would have had if they had come at a steady pace. Its clients do not; so they are taken out
    again, with what wrk computes, from the longest downwards.
    """
    counts = dict(map(tuple, latencies))
    pace = us // (requests // clients) if requests >= clients else 0
    for latency in sorted(counts, reverse=True):
        if not pace or latency < 2 * pace:
            break
        invented = latency - pace
        while counts[latency] and invented > pace:
            counts[invented] -= counts[latency]
            invented -= pace
    if min(counts.values(), default=0) < 0:
        raise Unavailable("wrk counts latencies in another way than was expected")
    return counts


def percentile(counts, share):
    """The least latency that this share of all does not exceed."""
    rank, seen = math.ceil(share * sum(counts.values())), 0
    for latency in sorted(counts):
        seen += counts[latency]
        if seen >= rank:
            return latency
    return math.nan
