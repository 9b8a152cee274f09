"""The clients in examples/ against the server."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request

import pytest
from serving import MODEL, ROOT

PHOTO = "samples/palace.jpg"
CLIENTS = {"python": [sys.executable, "examples/predict.py"], "node": ["node", "examples/predict.mjs"]}


@pytest.mark.parametrize("name", CLIENTS)
def test_examples_print_the_servers_answer(name):
    program, script = CLIENTS[name]
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")
    url = os.environ["SHORTCUT_URL"]
    with urllib.request.urlopen(f"{url}/predict", (ROOT / PHOTO).read_bytes()) as response:
        label = json.load(response)["predictions"][0]["label"]

    def run(*photos):
        return subprocess.run([program, script, *photos], cwd=ROOT, env=dict(os.environ, SERVER=url), capture_output=True, text=True)

    answered = run(PHOTO)
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.startswith(f"{PHOTO}: {label} "), answered.stdout
    assert f"({MODEL} on cpu)" in answered.stdout

    refused = run("README.md")
    assert refused.returncode != 0
    assert "415" in refused.stderr, refused.stderr
