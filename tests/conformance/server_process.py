"""Our server as a child process, with a temporary model folder whose models can be loaded and unloaded."""

import os
import shutil
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "checkpoints/resnet18-imagenette.safetensors"
MODEL = "classifier"
ADMIN_TOKEN = "conformance"


@contextmanager
def running_server(executable):
    """Starts the server, waits until it is ready, and yields its URL and its model folder."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CHECKPOINT, f"{folder}/{MODEL}.safetensors")
        with _running_process([executable, "--listen", "127.0.0.1:0", "--models", folder, "--admin-token", ADMIN_TOKEN]) as url:
            yield url, folder


@contextmanager
def _running_process(command):
    variables = dict(os.environ, RUST_LOG="warn")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=variables)
    try:
        url = None
        for line in process.stdout:
            if line.startswith("listening on "):
                url = line.removeprefix("listening on ").strip()
            if line.startswith("ready"):
                break
        else:
            raise SystemExit("error: the server exited before it was ready; see stderr for the cause")
        # Keep reading, because the server would block on a full pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield url
        if process.poll() is not None:
            raise SystemExit(f"error: the server exited during the tests, with status {process.returncode}")
    finally:
        process.kill()
        process.wait()
