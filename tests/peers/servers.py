"""The servers as the driver sees them. One at a time is started, asked, and ended, so that none runs beside another's
measurement: some poll while they have nothing to do.
"""

import array
import ctypes
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import astuple, dataclass

import processors
from engines import PATIENCE, EngineError, end_with_driver
from environment import HERE, ROOT, last_words

SERVING = HERE / "serving"
PEERS = {"litserve": "/predict", "mosec": "/inference"}
OURS = "shortcut"
NETWORK = "resnet18"
PHOTO = ROOT / "samples/palace.jpg"
WORKLOADS = ("photo", "tensor")
# Beginnings of the names of our server's threads.
ENGINE_THREADS, DECODING_THREADS = ("cpu-engine",), ("decod",)
# Seconds that a server which is told to end may take to clean up; LitServe never ends by itself.
ENDING = 2


def adopt_orphans():
    """Linux: what a server leaves behind becomes this process's, to be waited for and counted as its own."""
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


@dataclass(frozen=True)
class Settings:
    """Of a peer: images in a batch at most, how long it waits for them, processes that compute, threads of each, and whether
    these spin for a while when there is nothing to do, as ONNX Runtime's do unless told otherwise.
    """

    batch: int
    wait_ms: int
    workers: int
    threads: int
    spin: bool

    @staticmethod
    def parse(text):
        matched = re.fullmatch(r"(\d+):(\d+):(\d+)x(\d+)(:still)?", text)
        if not matched:
            raise ValueError(text)
        return Settings(*map(int, matched.groups()[:4]), spin=not matched[5])

    def __str__(self):
        return f"{self.batch}:{self.wait_ms}:{self.workers}x{self.threads}" + ("" if self.spin else ":still")

    def arguments(self):
        return [str(int(number)) for number in (self.batch, self.wait_ms, self.workers, self.threads, self.spin)]


@dataclass
class Times:
    """Seconds of processors that a server took so far, and seconds in which its engine ran. Of a peer nobody knows for what."""

    total: float
    engine: float = 0.0
    decoding: float = 0.0
    running: float = 0.0

    def __sub__(self, before):
        return Times(*(now - then for now, then in zip(astuple(self), astuple(before))))


class Server:
    def __init__(self, name, environment):
        self.name, self.environment = name, environment
        self.log = environment.log(name.replace(" ", "-").replace(":", "-"))
        self.process = None

    @contextmanager
    def running(self, workload):
        # In the system's folder for such, since names of sockets must be short.
        with tempfile.TemporaryDirectory() as self.temporary:
            try:
                self._start(workload)
                yield
            finally:
                self._end()

    def _spawn(self, command, variables, stdout=None):
        variables = dict(os.environ, TMPDIR=self.temporary, **variables)
        with open(self.log, "w") as log:
            pipes = dict(stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, text=True)
            # A group of its own: all that it starts can be ended with it.
            options = dict(env=variables, start_new_session=True, preexec_fn=end_with_driver)
            self.process = subprocess.Popen(command, **pipes, **options)

    def _end(self):
        if not self.process:
            return
        self.process.terminate()
        try:
            self.process.wait(ENDING)
        except subprocess.TimeoutExpired:
            pass
        group = self.process.pid
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        try:
            while True:
                os.waitpid(-group, 0)
        except ChildProcessError:
            pass  # that was the last
        self.process = None

    def top_class(self, workload):
        """What it says of the workload's body; waits until it says anything."""
        end, error = time.monotonic() + PATIENCE, "nothing"
        url, body, headers = self.request(workload)
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise EngineError(f"it ended: {last_words(self.log)}")
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body.read_bytes(), headers), timeout=30) as answer:
                    return self.read(json.load(answer), workload)
            except urllib.error.HTTPError as refused:
                error = f"{refused.code}: {refused.read().decode(errors='replace')[:200]}"
                # Others may not be ready yet.
                if refused.code in (400, 404, 405, 415, 422):
                    break
            except (OSError, ValueError) as trouble:
                error = str(trouble)
            time.sleep(0.1)
        raise EngineError(f"no answer, but {error}")


class Peer(Server):
    def __init__(self, kind, settings, environment, onnx):
        super().__init__(f"{kind} {settings}", environment)
        self.kind, self.settings, self.onnx = kind, settings, onnx

    def _start(self, workload):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        program = SERVING / f"{self.kind}_server.py"
        self.url = f"http://127.0.0.1:{port}{PEERS[self.kind]}"
        command = [self.environment.serving_python, "-B", program, str(port), workload, self.onnx]
        # ONNX Runtime's threads are set by the program; those that numpy would start are not wanted.
        self._spawn([*command, *self.settings.arguments()], {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

    def request(self, workload):
        body = PHOTO if workload == "photo" else self.environment.models / "pixels-b1.u8"
        return self.url, body, {"Content-Type": "application/octet-stream"}

    @staticmethod
    def read(answer, _):
        return answer["predictions"][0]["index"]

    def times(self):
        return Times(sum(processors.of_process(pid) for pid in processors.tree(self.process.pid)))


class Ours(Server):
    def __init__(self, environment, threads, options):
        super().__init__(OURS, environment)
        self.threads, self.options = threads, options
        self.tensor = _tensor_request(environment)

    def _start(self, _):
        command = [self.environment.server, "--listen", "127.0.0.1:0", "--threads", str(self.threads), *self.options]
        command += ["--model", f"{NETWORK}={self.environment.models / NETWORK}.safetensors"]
        self._spawn(command, {"RUST_LOG": "warn"}, subprocess.PIPE)
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
            if line.startswith("ready"):
                return
        raise EngineError(f"it ended before it was ready: {last_words(self.log)}")

    def request(self, workload):
        if workload == "photo":
            return f"{self.url}/predict", PHOTO, {"Content-Type": "image/jpeg"}
        body, header = self.tensor
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(header)}
        return f"{self.url}/v2/models/{NETWORK}/infer", body, headers

    @staticmethod
    def read(answer, workload):
        if workload == "photo":
            return answer["predictions"][0]["index"]
        # "value:index:label", the highest value first.
        return int(answer["outputs"][0]["data"][0].split(":")[1])

    def times(self):
        """By the names of its threads, all of which live as long as it does but those that decode."""
        times = Times(processors.of_process(self.process.pid))
        for thread in processors.threads(self.process.pid):
            try:
                name = (thread / "comm").read_text()
                seconds = processors.of_thread(thread)
            except OSError:
                continue  # it has ended
            if name.startswith(ENGINE_THREADS):
                times.engine += seconds
            elif name.startswith(DECODING_THREADS):
                times.decoding += seconds
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=PATIENCE) as metrics:
            sums = re.findall(r"^shortcut_inference_seconds_sum\S* (\S+)$", metrics.read().decode(), re.MULTILINE)
        times.running = sum(map(float, sums))
        return times


def _tensor_request(environment):
    """A file with a request of the Open Inference Protocol's binary extension, and the length of its JSON."""
    pixels = (environment.models / "pixels-b1.u8").read_bytes()
    described = {"name": "images", "datatype": "UINT8", "shape": [1, 224, 224, 3]}
    described["parameters"] = {"binary_data_size": len(pixels)}
    wanted = {"name": "logits", "parameters": {"classification": 5}}
    header = json.dumps({"inputs": [described], "outputs": [wanted]}).encode()
    file = environment.work / "tensor-request"
    file.write_bytes(header + pixels)
    return file, len(header)


def expected_classes(environment):
    """By workload: what our command line says of the photo, and PyTorch of the pixels."""
    command = [environment.trainer, "predict", "--json", "--checkpoint", environment.models / f"{NETWORK}.safetensors"]
    said = subprocess.run([*command, PHOTO], check=True, capture_output=True, text=True).stdout
    logits = array.array("f")
    logits.frombytes((environment.models / f"{NETWORK}.logits.f32").read_bytes())
    first = logits[: len(logits) // 8]
    return {"photo": json.loads(said)["predictions"][0]["index"], "tensor": first.index(max(first))}


def decoding_ms(environment, photos=40):
    """What decoding, resizing and cropping the photo takes on one thread, by our command line."""
    command = [environment.trainer, "predict", "--json", "--checkpoint", environment.models / f"{NETWORK}.safetensors"]
    said = subprocess.run([*command, *[PHOTO] * (photos + 1)], check=True, capture_output=True, text=True).stdout
    # Of a program's first photo everything is slow.
    timings = [json.loads(line)["timing_ms"] for line in said.splitlines()[1:]]
    return statistics.median(timing["decode"] + timing["preprocess"] for timing in timings)
