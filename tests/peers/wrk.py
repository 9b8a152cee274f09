"""Generates load with `wrk`: a number of clients, each with one request in flight, for a number of seconds."""

import json
import math
import subprocess
import time
from dataclasses import dataclass

import processors
from environment import HERE, Unavailable

# Time limit for a response, in seconds; later ones count as errors.
TIMEOUT = 60
# Seconds at the start and end of a load in which CPU time is not measured. At the start all clients send at once, so
# that more requests arrive than are completed; at the end wrk evaluates its statistics.
START_MARGIN, END_MARGIN = 1, 0.1
SCRIPT = HERE / "serving/post.lua"


@dataclass
class CpuUsage:
    """CPU time of the server and of wrk within `seconds` of a load, in seconds."""

    seconds: float
    server: object
    client: float


@dataclass
class LoadResult:
    """Statistics of wrk for one load."""

    seconds: float
    # Successful requests.
    requests: int
    # Error responses, and requests without a response.
    errors: int
    p50_ms: float
    p99_ms: float

    @property
    def throughput(self):
        """Successful requests per second."""
        return self.requests / self.seconds


def run_load(url, body, headers, clients, seconds, read_server_cpu=None):
    """Posts the file `body` and returns a LoadResult and a CpuUsage. One thread of wrk serves all clients, because it
    only copies bytes, and the servers need the cores.

    `read_server_cpu` returns the CPU time of the server so far. It is called while the load is steady; without it, the
    CpuUsage is None.
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
        cpu_usage = read_server_cpu and _measure_cpu(wrk.pid, seconds, read_server_cpu)
        output, error_output = wrk.communicate(timeout=seconds + 2 * TIMEOUT)
    except (subprocess.TimeoutExpired, OSError) as error:
        raise Unavailable(f"wrk: {error}") from None
    finally:
        wrk.kill()
        wrk.wait()
    if wrk.returncode != 0:
        raise Unavailable(f"wrk: {error_output.strip() or output.strip()}")
    statistics = json.loads(output.strip().rpartition("\n")[2])
    latencies = measured_latencies(statistics["latencies"], statistics["requests"], statistics["us"], clients)
    p50, p99 = (percentile(latencies, share) / 1e3 for share in (0.5, 0.99))
    errors = statistics["errors"]
    successes = statistics["requests"] - errors["status"]
    return LoadResult(statistics["us"] / 1e6, successes, sum(errors.values()), p50, p99), cpu_usage


def _measure_cpu(wrk_pid, seconds, read_server_cpu):
    """Measures the CPU time of the server and of wrk while the load is steady."""

    def read():
        return time.monotonic(), read_server_cpu(), sum(map(processors.of_thread, processors.threads(wrk_pid)))

    time.sleep(START_MARGIN)
    before = read()
    time.sleep(seconds - START_MARGIN - END_MARGIN)
    return CpuUsage(*(end - start for start, end in zip(before, read())))


def measured_latencies(latencies, requests, us, clients):
    """Removes the latencies that wrk adds to its measurements. To correct for coordinated omission, wrk adds for each
    latency longer than twice the mean interval between the requests of a connection those of the requests that would
    have been sent at a constant rate. Its clients do not send at a constant rate, so this reverses wrk's computation,
    starting with the longest latency.
    """
    counts = dict(map(tuple, latencies))
    interval = us // (requests // clients) if requests >= clients else 0
    for latency in sorted(counts, reverse=True):
        if not interval or latency < 2 * interval:
            break
        added = latency - interval
        while counts[latency] and added > interval:
            counts[added] -= counts[latency]
            added -= interval
    if min(counts.values(), default=0) < 0:
        raise Unavailable("the latency statistics of this version of wrk have an unexpected form")
    return counts


def percentile(counts, share):
    """Returns the smallest latency that `share` of all latencies do not exceed, or NaN if there are none."""
    rank, counted = math.ceil(share * sum(counts.values())), 0
    for latency in sorted(counts):
        counted += counts[latency]
        if counted >= rank:
            return latency
    return math.nan
