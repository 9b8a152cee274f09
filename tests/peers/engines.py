"""Interfaces of the benchmark driver to the engines. Each peer is a worker process that lives as long as the comparison and
computes one round per request. Shortcut is `trainer bench`, one process per round. Every round starts with a warm-up.
"""

import ctypes
import json
import os
import select
import signal
import statistics
import subprocess

from environment import last_words

# Timeout in seconds, far above the slowest engine's time to load the largest case.
PATIENCE = 300


class EngineError(Exception):
    """An engine failed or did not answer in time."""


class Refused(EngineError):
    """`trainer bench` reported that it cannot do what was requested."""


class Case:
    """A network with a batch size."""

    def __init__(self, network, batch):
        self.network, self.batch = network, batch

    def __str__(self):
        return f"{self.network} b{self.batch}"


RESNET18 = Case("resnet18", 1)


def end_with_driver():
    """Asks Linux to kill this worker when the driver dies; otherwise a stopped worker would never end."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """A peer. It is stopped (SIGSTOP) between its rounds, so that its idle threads do not disturb other measurements."""

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
        """Loads a case and returns its logits. Starts the worker again if it failed before."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        folder = str(self.models.resolve())
        return self._ask({"load": {"folder": folder, "network": case.network, "batch": case.batch}})["logits"]

    def time(self, case, seconds):
        """Returns the median time of one round, in ms."""
        return statistics.median(self._ask({"time": {"seconds": seconds}})["times_ms"])

    def _ask(self, request):
        process = self.process
        try:
            process.send_signal(signal.SIGCONT)
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], PATIENCE)[0]:
                self.end()
                raise EngineError(f"timed out after {PATIENCE} s")
            answer = process.stdout.readline()
            if answer:
                process.send_signal(signal.SIGSTOP)
                return json.loads(answer)
        except OSError:
            pass  # the worker has exited
        self.end()
        raise EngineError(f"worker exited: {last_words(self.log)}")

    def end(self):
        if self.process:
            self.process.kill()
            self.process.wait()


class Ours:
    """`trainer bench` on the same weights and, for its logits, the same pixels."""

    def __init__(self, environment, device, threads, *options, name="shortcut"):
        self.name = name
        self.device, self.threads, self.options = device, threads, options
        self.trainer, self.models = environment.trainer, environment.models
        # Times from a checkpoint's bytes to its first logits, in ms, by case.
        self.starts = {}

    def load(self, case):
        pixels = self.models / f"pixels-b{case.batch}.u8"
        return self.bench(case, "--pixels", pixels, "--iterations", "1")["logits"]

    def time(self, case, seconds):
        report = self.bench(case, "--seconds", str(seconds))
        self.starts.setdefault(str(case), []).append(report["start_ms"]["total"])
        return report["median_ms"]

    def memory(self, case):
        """Returns the peak memory of runs in bytes, minus the memory that was resident before the first run.

        glibc is told to return freed memory at once; otherwise memory left from loading would hide the memory of runs.
        """
        returned = dict(MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
        return self.bench(case, "--iterations", "5", **returned).get("memory", {}).get("runs")

    def bench(self, case, *arguments, **variables):
        """Returns the report of `trainer bench --json`."""
        command = [self.trainer, "bench", "--json", "--device", self.device, "--batch", str(case.batch)]
        command += ["--threads", str(self.threads), "--checkpoint", self.models / f"{case.network}.safetensors"]
        command += [*self.options, *arguments]
        variables = dict(os.environ, RAYON_NUM_THREADS=str(self.threads), **variables)  # read by flex
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise EngineError(f"timed out after {PATIENCE} s") from None
        if done.returncode != 0:
            # GPU drivers may print before the error message, and the program prints its usage after it.
            message = " ".join(done.stderr[max(done.stderr.rfind("error:"), 0) :].partition("\nUsage")[0].split())
            # Panics and signals have other exit codes.
            raise (Refused if done.returncode in (1, 2) else EngineError)(message or f"exit code {done.returncode}")
        return json.loads(done.stdout)

    def end(self):
        pass
