"""The engines as the driver sees them: peers are workers that live as long as the comparison and are asked for a round at a
time, ours is `trainer bench`, a process a round. A round of either begins with a warm-up of its own.
"""

import ctypes
import json
import os
import select
import signal
import statistics
import subprocess

from environment import last_words

# In seconds: far beyond the slowest engine's loading of the largest case.
PATIENCE = 300


class EngineError(Exception):
    """An engine does not answer, or says that it cannot."""


class Refused(EngineError):
    """An engine of ours that says what it cannot do, and ends."""


class Case:
    """A network and a batch size."""

    def __init__(self, network, batch):
        self.network, self.batch = network, batch

    def __str__(self):
        return f"{self.network} b{self.batch}"


RESNET18 = Case("resnet18", 1)


def end_with_driver():
    """Linux: a worker whose driver was killed would stay stopped for ever."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Worker:
    """A peer. Between its rounds it is stopped, so that none of its threads spins beside another's measurement."""

    def __init__(self, name, command, environment, threads):
        self.name = name
        self.log = environment.log(name)
        self.models = environment.models
        self.command = [*command, str(threads)]
        # OpenMP's threads are ncnn's and PyTorch's.
        self.variables = dict(os.environ, OMP_NUM_THREADS=str(threads))
        self.process = None

    def _start(self):
        with open(self.log, "w") as log:
            pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
            self.process = subprocess.Popen(self.command, **pipes, env=self.variables, preexec_fn=end_with_driver)

    def load(self, case):
        """The logits of the images that all engines get. Who failed before gets another chance."""
        if self.process is None or self.process.poll() is not None:
            self._start()
        folder = str(self.models.resolve())
        return self._ask({"load": {"folder": folder, "network": case.network, "batch": case.batch}})["logits"]

    def time(self, case, seconds):
        """The median of a round, in ms."""
        return statistics.median(self._ask({"time": {"seconds": seconds}})["times_ms"])

    def _ask(self, request):
        process = self.process
        try:
            process.send_signal(signal.SIGCONT)
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            if not select.select([process.stdout], [], [], PATIENCE)[0]:
                self.end()
                raise EngineError(f"no answer within {PATIENCE} s")
            answer = process.stdout.readline()
            if answer:
                process.send_signal(signal.SIGSTOP)
                return json.loads(answer)
        except OSError:
            pass  # nobody reads any more
        self.end()
        raise EngineError(f"it ended: {last_words(self.log)}")

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
        # From a checkpoint's bytes to its first logits, in ms, by case.
        self.starts = {}

    def load(self, case):
        pixels = self.models / f"pixels-b{case.batch}.u8"
        return self.bench(case, "--pixels", pixels, "--iterations", "1")["logits"]

    def time(self, case, seconds):
        report = self.bench(case, "--seconds", str(seconds))
        self.starts.setdefault(str(case), []).append(report["start_ms"]["total"])
        return report["median_ms"]

    def memory(self, case):
        """Bytes that runs need beyond what was resident before the first.

        Freed memory is given back at once here, or what is left of loading would hide what runs take.
        """
        returned = dict(MALLOC_MMAP_THRESHOLD_="65536", MALLOC_TRIM_THRESHOLD_="65536")
        return self.bench(case, "--iterations", "5", **returned).get("memory", {}).get("runs")

    def bench(self, case, *arguments, **variables):
        """What `trainer bench --json` reports."""
        command = [self.trainer, "bench", "--json", "--device", self.device, "--batch", str(case.batch)]
        command += ["--threads", str(self.threads), "--checkpoint", self.models / f"{case.network}.safetensors"]
        command += [*self.options, *arguments]
        variables = dict(os.environ, RAYON_NUM_THREADS=str(self.threads), **variables)  # flex takes it from there
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise EngineError(f"no answer within {PATIENCE} s") from None
        if done.returncode != 0:
            # Drivers of a GPU may have talked before, and what comes after the reason is how to use the program.
            said = " ".join(done.stderr[max(done.stderr.rfind("error:"), 0) :].partition("\nUsage")[0].split())
            # A panic and a signal have codes of their own.
            raise (Refused if done.returncode in (1, 2) else EngineError)(said or f"it ended with {done.returncode}")
        return json.loads(done.stdout)

    def end(self):
        pass
