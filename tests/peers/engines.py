"""Interfaces of the benchmark driver to the engines. Each peer is a worker process that runs for the whole comparison
and measures one round per request. Shortcut is measured by `trainer bench`, in one process per round. Every round
starts with a warm-up.
"""

import ctypes
import json
import os
import select
import signal
import statistics
import subprocess

from environment import last_log_line

# Time limit for an engine's answer, in seconds. Even the slowest engine needs far less to load the largest case.
TIMEOUT = 300


class EngineError(Exception):
    """An engine failed or did not answer in time."""


class Unsupported(EngineError):
    """`trainer bench` rejected a request with an error message, for example because the adapter does not support f16."""


class Case:
    """A network and a batch size."""

    def __init__(self, network, batch):
        self.network, self.batch = network, batch

    def __str__(self):
        return f"{self.network} b{self.batch}"


RESNET18 = Case("resnet18", 1)


def end_with_driver():
    """Linux: makes the kernel kill this process when the driver ends. Otherwise a stopped worker would never end."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """A peer in a worker process, which is stopped (SIGSTOP) between its rounds, so that its idle threads do not
    disturb other measurements.
    """

    # Time limit for an answer, in seconds.
    timeout = TIMEOUT

    def __init__(self, name, command, environment, threads):
        self.name = name
        self.log = environment.log(name)
        self.models = environment.models
        self.command = [*command, str(threads)]
        # ncnn and PyTorch use OpenMP.
        self.variables = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = None

    def _start(self):
        with open(self.log, "w") as log:
            pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
            self.process = subprocess.Popen(self.command, **pipes, env=self.variables, preexec_fn=end_with_driver)

    def load(self, case):
        """Loads a case and returns its logits. Starts the worker if it is not running."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        folder = str(self.models.resolve())
        return self._ask({"load": {"folder": folder, "network": case.network, "batch": case.batch}})["logits"]

    def time(self, case, seconds):
        """Measures one round and returns the median of its runs, in ms."""
        return statistics.median(self._ask({"time": {"seconds": seconds}})["times_ms"])

    def _ask(self, request):
        process = self.process
        try:
            process.send_signal(signal.SIGCONT)
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], self.timeout)[0]:
                self.end()
                raise EngineError(f"timed out after {self.timeout} s")
            answer = process.stdout.readline()
            if answer:
                process.send_signal(signal.SIGSTOP)
                return json.loads(answer)
        except OSError:
            pass  # the worker has exited
        self.end()
        raise EngineError(f"worker exited: {last_log_line(self.log)}")

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def trainer_report(command, threads, **variables):
    """Runs a benchmark of the trainer with additional environment variables, and returns its JSON report.

    Raises Unsupported if the trainer rejects the request with an error message, and EngineError if it fails otherwise.
    """
    # Burn's flex backend reads RAYON_NUM_THREADS.
    variables = dict(os.environ, RAYON_NUM_THREADS=str(threads), **variables)
    try:
        completed = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=TIMEOUT)
    except FileNotFoundError:
        raise EngineError(f"{command[0]} does not exist; build it with: cargo build --release") from None
    except subprocess.TimeoutExpired:
        raise EngineError(f"timed out after {TIMEOUT} s") from None
    code, stderr = completed.returncode, completed.stderr
    if code != 0:
        # GPU drivers may print before the error message, and the program prints its usage after it.
        message = " ".join(stderr[max(stderr.rfind("error:"), 0) :].partition("\nUsage")[0].split())
        # Panics and signals have other exit codes.
        raise (Unsupported if code in (1, 2) else EngineError)(message or f"exit code {code}")
    return json.loads(completed.stdout)


class ShortcutEngine:
    """`trainer bench` with the weights that all engines get; its logits are computed from the same pixels."""

    def __init__(self, environment, device, threads, *options, name="shortcut"):
        self.name = name
        self.device, self.threads, self.options = device, threads, options
        self.trainer, self.models = environment.trainer, environment.models
        # Times from a checkpoint's bytes to its first logits in each round, in ms, by case.
        self.start_ms = {}

    def load(self, case):
        pixels = self.models / f"pixels-b{case.batch}.u8"
        return self.bench(case, "--pixels", pixels, "--iterations", "1")["logits"]

    def time(self, case, seconds):
        report = self.bench(case, "--seconds", str(seconds))
        self.start_ms.setdefault(str(case), []).append(report["start_ms"]["total"])
        return report["median_ms"]

    def memory(self, case):
        """Returns the peak memory of runs in bytes, minus the memory that was resident before the first run, or None if
        `trainer bench` does not report it.

        These variables make glibc return freed memory at once; otherwise memory left from loading would hide the memory
        of runs.
        """
        variables = dict(MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
        return self.bench(case, "--iterations", "5", **variables).get("memory", {}).get("runs")

    def bench(self, case, *arguments, **variables):
        """Runs `trainer bench` with additional arguments and environment variables, and returns its JSON report."""
        command = [self.trainer, "bench", "--json", "--device", self.device, "--batch", str(case.batch)]
        command += ["--threads", str(self.threads), "--checkpoint", self.models / f"{case.network}.safetensors"]
        command += [*self.options, *arguments]
        return trainer_report(command, self.threads, **variables)

    def end(self):
        pass
