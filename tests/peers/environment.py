"""Installs the peers below cargo's target directory: a virtual environment, npm packages, the workers in Rust, and the
networks. A failed installation is not an error: the peers that need it are reported as missing, with the reason.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON_PEERS = ("onnxruntime", "openvino", "ncnn", "torch")
RUST_PEERS = {"rten": "rten", "tract": "tract-onnx"}
BROWSER_PEER = "onnxruntime-web"
# The page's worker with Burn's WebGPU engine.
BURN_PEER = "burn-webgpu"
DECODER_PEER = "pillow"
INSTALL = ("-m", "pip", "install", "--disable-pip-version-check")


class Unavailable(Exception):
    """A program or package cannot be installed."""


def last_words(log):
    """Returns the last line of a log, which usually states the error, and the log's path."""
    return f"{log.read_text().strip().rpartition(chr(10))[2]} (see {log})"


def run(command, log, **options):
    """Runs a command with its output in a log file; the error names the file."""
    try:
        with open(log, "w") as output:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True, **options)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError:
        raise Unavailable(last_words(log)) from None


def installed(python):
    """Returns pip's list of packages as JSON bytes, and the versions by name."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True).stdout
    return listed, {package["name"]: package["version"] for package in json.loads(listed)}


class Environment:
    def __init__(self, target):
        self.target = target
        self.work = target / "peers"
        self.python = self.work / "venv/bin/python"
        self.node = self.work / "node"
        self.models = self.work / "models"
        self.rust = target / "release/peers"
        self.trainer = target / "release/trainer"
        self.server = target / "release/server"
        self.serving_python = self.work / "serving/venv/bin/python"
        self.burn = target / "dist-burn"
        # pip's list of packages, as JSON bytes.
        self.packages = b""
        self.versions = {}
        self.missing = {}
        self.work.mkdir(parents=True, exist_ok=True)

    def log(self, name):
        return self.work / f"{name}.log"

    def make(self, peers):
        """Installs these peers; afterwards each is in `versions` or `missing`."""
        python = [peer for peer in (*PYTHON_PEERS, DECODER_PEER) if peer in peers]
        rust = [peer for peer in RUST_PEERS if peer in peers]
        makers = ((python, self._venv), (rust, self._rust), ([BROWSER_PEER], self._node), ([BURN_PEER], self._burn))
        for names, make in makers:
            names = [name for name in names if name in peers]
            try:
                if names:
                    make()
            except Unavailable as error:
                self.missing.update({name: str(error) for name in names})
        try:
            self._models()
        except Unavailable as error:
            raise SystemExit(f"error: cannot export the networks: {error}")
        for peer in peers:
            if peer not in self.versions:
                self.missing.setdefault(peer, "not installed")

    def make_servers(self):
        """Prepares the comparison of servers: the networks, and a separate environment for the servers, because the
        packages of the first one identify the exported networks.
        """
        self.make([])
        folder = self.work / "serving/venv"
        if not self.serving_python.exists():
            run([sys.executable, "-m", "venv", folder], self.log("serving-venv"))
        run([self.serving_python, *INSTALL, "-r", HERE / "serving/requirements.txt"], self.log("serving-pip"))
        self.versions.update(installed(self.serving_python)[1])

    def _venv(self):
        """Creates the environment with access to the system's packages, so that an installed torch is not downloaded again."""
        if not self.python.exists():
            run([sys.executable, "-m", "venv", "--system-site-packages", self.work / "venv"], self.log("venv"))
        install = [self.python, *INSTALL]
        requirements = HERE / "requirements.txt"
        try:
            run([*install, "-r", requirements], self.log("pip"))
        except Unavailable:
            # Install packages one by one, so that one unavailable package does not prevent the others.
            for line in requirements.read_text().splitlines():
                if line and not line.startswith("#"):
                    try:
                        run([*install, line], self.log(f"pip-{line.partition('=')[0]}"))
                    except Unavailable as error:
                        self.missing[line.partition("=")[0]] = str(error)
        self.packages, versions = installed(self.python)
        self.versions.update({peer: versions[peer] for peer in (*PYTHON_PEERS, DECODER_PEER) if peer in versions})

    def _rust(self):
        build = ["cargo", "build", "--release", "--locked", "--manifest-path", HERE / "rust/Cargo.toml"]
        run([*build, "--target-dir", self.target], self.log("rust"))
        lock = (HERE / "rust/Cargo.lock").read_text()
        for peer, package in RUST_PEERS.items():
            self.versions[peer] = re.search(f'name = "{package}"\nversion = "(.*)"', lock)[1]

    def _node(self):
        """Installs from the lock file, without running packages' scripts."""
        self.node.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "page" / name, self.node)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], self.log("npm"), cwd=self.node)
        packages = json.loads((self.node / "package.json").read_text())
        self.versions[BROWSER_PEER] = packages["dependencies"][BROWSER_PEER]

    def _burn(self):
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        variables["CARGO_TARGET_DIR"] = str(self.target)
        run(["make", "--no-print-directory", "-C", ROOT, "page-burn"], self.log(BURN_PEER), env=variables)
        lock = (ROOT / "Cargo.lock").read_text()
        self.versions[BURN_PEER] = re.search('name = "burn"\nversion = "(.*)"', lock)[1]

    def _models(self):
        """Exports the networks, again if `export.py` or a package changed, and imports them with the trainer."""
        if not self.packages:
            self._venv()
        recipe = hashlib.sha256((HERE / "export.py").read_bytes() + self.packages).hexdigest()
        made = self.models / "made-by"
        if not made.exists() or made.read_text() != recipe:
            shutil.rmtree(self.models, ignore_errors=True)
            self.models.mkdir()
            run([self.python, HERE / "export.py", self.models], self.log("export"))
            made.write_text(recipe)
        for tensors in self.models.glob("*.torch.safetensors"):
            checkpoint = tensors.with_name(tensors.name.replace(".torch", ""))
            run([self.trainer, "import", tensors, checkpoint], self.log("import"))
