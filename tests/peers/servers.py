"""Starts the servers to compare, sends them requests, and stops them. Only one runs at a time, because some of them
poll while they are idle, which would disturb the measurements of others.
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
from engines import TIMEOUT, EngineError, end_with_driver
from environment import HERE, ROOT, last_log_line

SERVING = HERE / "serving"
PEERS = {"litserve": "/predict", "mosec": "/inference"}
SHORTCUT = "shortcut"
NETWORK = "resnet18"
PHOTO = ROOT / "samples/palace.jpg"
WORKLOADS = ("photo", "tensor")
# Prefixes of the thread names of our server.
ENGINE_THREADS, DECODING_THREADS = ("cpu-engine",), ("decod",)
# Seconds that a server may take to clean up after SIGTERM; LitServe never exits.
SHUTDOWN_TIMEOUT = 2


def adopt_orphans():
    """Linux: makes this process the parent of orphaned processes of servers, so that it can wait for them and account
    for their CPU time.
    """
    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


@dataclass(frozen=True)
class PeerSettings:
    """Settings of a peer: maximum batch size, how long to wait for a batch to fill, number of inference processes,
    threads per process, and whether idle threads spin for a while (the default of ONNX Runtime).
    """

    batch: int
    wait_ms: int
    workers: int
    threads: int
    spin: bool

    @staticmethod
    def parse(text):
        match = re.fullmatch(r"(\d+):(\d+):(\d+)x(\d+)(:still)?", text)
        if not match:
            raise ValueError(text)
        return PeerSettings(*map(int, match.groups()[:4]), spin=not match[5])

    def __str__(self):
        return f"{self.batch}:{self.wait_ms}:{self.workers}x{self.threads}" + ("" if self.spin else ":still")

    def arguments(self):
        return [str(int(number)) for number in (self.batch, self.wait_ms, self.workers, self.threads, self.spin)]


@dataclass
class CpuTimes:
    """CPU time of a server so far, in total and, for our server only, of its engine and of decoding, and the time in
    which its engine was running; all in seconds.
    """

    total: float
    engine: float = 0.0
    decoding: float = 0.0
    running: float = 0.0

    def __sub__(self, before):
        return CpuTimes(*(now - earlier for now, earlier in zip(astuple(self), astuple(before))))


class Server:
    """A server to compare. Subclasses start it, describe its requests, and parse its responses."""

    def __init__(self, name, environment):
        self.name, self.environment = name, environment
        self.log = environment.log(name.replace(" ", "-").replace(":", "-"))
        self.process = None

    @contextmanager
    def running(self, workload):
        """Starts the server for a workload, and stops it at the end of the `with` statement."""
        # In the system's temporary folder, because paths of sockets must be short.
        with tempfile.TemporaryDirectory() as self.temporary:
            try:
                self._start(workload)
                yield
            finally:
                self._stop()

    def _spawn(self, command, variables, stdout=None):
        variables = dict(os.environ, TMPDIR=self.temporary, **variables)
        with open(self.log, "w") as log:
            pipes = dict(stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, text=True)
            # In a new process group, so that all its child processes can be killed together.
            options = dict(env=variables, start_new_session=True, preexec_fn=end_with_driver)
            self.process = subprocess.Popen(command, **pipes, **options)

    def _stop(self):
        if not self.process:
            return
        self.process.terminate()
        try:
            self.process.wait(SHUTDOWN_TIMEOUT)
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
            pass  # no process of the group is left
        self.process = None

    def top_class(self, workload):
        """Returns the predicted class for the body of the workload, retrying until the server is ready."""
        end, error = time.monotonic() + TIMEOUT, "no attempt"
        url, body, headers = self.request(workload)
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise EngineError(f"exited: {last_log_line(self.log)}")
            try:
                with urllib.request.urlopen(urllib.request.Request(url, body.read_bytes(), headers), timeout=30) as response:
                    return self.parse(json.load(response), workload)
            except urllib.error.HTTPError as response:
                error = f"{response.code}: {response.read().decode(errors='replace')[:200]}"
                # With other statuses, the server may not be ready yet.
                if response.code in (400, 404, 405, 415, 422):
                    break
            except (OSError, ValueError) as exception:
                error = str(exception)
            time.sleep(0.1)
        raise EngineError(f"no successful response; last error: {error}")


class Peer(Server):
    """LitServe or mosec with certain settings."""

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
        # The program sets the threads of ONNX Runtime. Numpy should not start additional ones.
        self._spawn([*command, *self.settings.arguments()], {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

    def request(self, workload):
        body = PHOTO if workload == "photo" else self.environment.models / "pixels-b1.u8"
        return self.url, body, {"Content-Type": "application/octet-stream"}

    @staticmethod
    def parse(response, _):
        return response["predictions"][0]["index"]

    def cpu_times(self):
        return CpuTimes(sum(processors.of_process(pid) for pid in processors.tree(self.process.pid)))


class ShortcutServer(Server):
    """Shortcut's server."""

    def __init__(self, environment, threads, options):
        super().__init__(SHORTCUT, environment)
        self.threads, self.options = threads, options
        self.tensor_request = _write_tensor_request(environment)

    def _start(self, _):
        command = [self.environment.server, "--listen", "127.0.0.1:0", "--threads", str(self.threads), *self.options]
        command += ["--model", f"{NETWORK}={self.environment.models / NETWORK}.safetensors"]
        self._spawn(command, {"RUST_LOG": "warn"}, subprocess.PIPE)
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.url = line.removeprefix("listening on ").strip()
            if line.startswith("ready"):
                return
        raise EngineError(f"exited before it was ready: {last_log_line(self.log)}")

    def request(self, workload):
        if workload == "photo":
            return f"{self.url}/predict", PHOTO, {"Content-Type": "image/jpeg"}
        body, header_length = self.tensor_request
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(header_length)}
        return f"{self.url}/v2/models/{NETWORK}/infer", body, headers

    @staticmethod
    def parse(response, workload):
        if workload == "photo":
            return response["predictions"][0]["index"]
        # "value:index:label", highest value first.
        return int(response["outputs"][0]["data"][0].split(":")[1])

    def cpu_times(self):
        """Distinguishes threads by their names. Only decoding threads may end while the server runs."""
        times = CpuTimes(processors.of_process(self.process.pid))
        for thread in processors.threads(self.process.pid):
            try:
                name = (thread / "comm").read_text()
                seconds = processors.of_thread(thread)
            except OSError:
                continue  # the thread has ended
            if name.startswith(ENGINE_THREADS):
                times.engine += seconds
            elif name.startswith(DECODING_THREADS):
                times.decoding += seconds
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=TIMEOUT) as metrics:
            sums = re.findall(r"^shortcut_inference_seconds_sum\S* (\S+)$", metrics.read().decode(), re.MULTILINE)
        times.running = sum(map(float, sums))
        return times


def _write_tensor_request(environment):
    """Writes the body of a request with a binary tensor (Open Inference Protocol), and returns its path and the length
    of the JSON header.
    """
    pixels = (environment.models / "pixels-b1.u8").read_bytes()
    description = {"name": "images", "datatype": "UINT8", "shape": [1, 224, 224, 3]}
    description["parameters"] = {"binary_data_size": len(pixels)}
    output = {"name": "logits", "parameters": {"classification": 5}}
    header = json.dumps({"inputs": [description], "outputs": [output]}).encode()
    file = environment.work / "tensor-request"
    file.write_bytes(header + pixels)
    return file, len(header)


def expected_classes(environment):
    """Returns the expected class for each workload: by our command line for the photo, by PyTorch for the pixels."""
    command = [environment.trainer, "predict", "--json", "--checkpoint", environment.models / f"{NETWORK}.safetensors"]
    output = subprocess.run([*command, PHOTO], check=True, capture_output=True, text=True).stdout
    logits = array.array("f")
    logits.frombytes((environment.models / f"{NETWORK}.logits.f32").read_bytes())
    first = logits[: len(logits) // 8]
    return {"photo": json.loads(output)["predictions"][0]["index"], "tensor": first.index(max(first))}


def decoding_ms(environment, photos=40):
    """Measures with our command line the milliseconds to decode, resize and crop the photo on one thread."""
    command = [environment.trainer, "predict", "--json", "--checkpoint", environment.models / f"{NETWORK}.safetensors"]
    output = subprocess.run([*command, *[PHOTO] * (photos + 1)], check=True, capture_output=True, text=True).stdout
    # The first photo of a process is slower.
    timings = [json.loads(line)["timing_ms"] for line in output.splitlines()[1:]]
    return statistics.median(timing["decode"] + timing["preprocess"] for timing in timings)
