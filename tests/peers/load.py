"""Load from `wrk`: so many clients, each with one request under way, for so many seconds."""

import json
import math
import resource
import subprocess
from dataclasses import dataclass

from environment import HERE, Unavailable

# Seconds. Who answers later than that counts as an error.
TIMEOUT = 60
SCRIPT = HERE / "serving/post.lua"


@dataclass
class Load:
    seconds: float
    requests: int
    # Answers that are no success, and requests without one.
    errors: int
    p50_ms: float
    p99_ms: float
    # What wrk itself took of the processors.
    cpu_seconds: float

    @property
    def throughput(self):
        return self.requests / self.seconds


def post(url, body, headers, clients, seconds):
    """Posts a file. One thread of wrk does for all clients: it only copies bytes, and the servers need the cores."""
    command = ["wrk", "--threads", "1", "--connections", str(clients), "--duration", f"{math.ceil(seconds)}s"]
    command += ["--timeout", f"{TIMEOUT}s", "--script", SCRIPT, url, "--", body]
    command += [part for header in headers.items() for part in header]
    before = _children()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 2 * TIMEOUT, check=True)
    except FileNotFoundError:
        raise Unavailable("wrk is not installed") from None
    except subprocess.SubprocessError as error:
        raise Unavailable(f"wrk: {error.stderr or error}") from None
    said = json.loads(done.stdout.strip().rpartition("\n")[2])
    errors = sum(said["errors"].values())
    latencies = as_measured(said["latencies"], said["requests"], said["us"], clients)
    p50, p99 = (percentile(latencies, share) / 1e3 for share in (0.5, 0.99))
    return Load(said["us"] / 1e6, said["requests"] - said["errors"]["status"], errors, p50, p99, _children() - before)


def _children():
    """Seconds of processors that children took which have ended, this one's among them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
