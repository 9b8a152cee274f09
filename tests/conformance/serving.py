"""Our server as a child process, with a folder of models that may be loaded and unloaded."""

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
TOKEN = "conformance"


@contextmanager
def running(server):
    """Its address, as soon as it is ready, and its folder of models."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(CHECKPOINT, f"{folder}/{MODEL}.safetensors")
        with _running([server, "--listen", "127.0.0.1:0", "--models", folder, "--admin-token", TOKEN]) as url:
            yield url, folder


@contextmanager
def _running(command):
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
            raise SystemExit("error: the server ended before it was ready; what it wrote to stderr says why")
        # Read on, or the server would hang on a full pipe.
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield url
        if process.poll() is not None:
            raise SystemExit(f"error: the server ended meanwhile, with {process.returncode}")
    finally:
        process.kill()
        process.wait()
