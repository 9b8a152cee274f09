"""The example clients in `examples/` print the server's predictions and errors."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request

import pytest
from server_process import MODEL, ROOT

PHOTO = "samples/palace.jpg"
CLIENTS = {"python": [sys.executable, "examples/predict.py"], "node": ["node", "examples/predict.mjs"]}


@pytest.mark.parametrize("name", CLIENTS)
def test_examples_print_predictions_and_errors(name):
    program, script = CLIENTS[name]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    url = os.environ["SHORTCUT_URL"]
    with urllib.request.urlopen(f"{url}/predict", (ROOT / PHOTO).read_bytes()) as response:
        label = json.load(response)["predictions"][0]["label"]

    def run(*photos):
        return subprocess.run([program, script, *photos], cwd=ROOT, env=dict(os.environ, SERVER=url), capture_output=True, text=True)

    classified = run(PHOTO)
    assert classified.returncode == 0, classified.stderr
    assert classified.stdout.startswith(f"{PHOTO}: {label} "), classified.stdout
    assert f"({MODEL} on cpu)" in classified.stdout

    rejected = run("README.md")
    assert rejected.returncode != 0
    assert "415" in rejected.stderr, rejected.stderr
