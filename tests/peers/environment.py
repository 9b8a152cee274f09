"""Makes what the peers need, all of it below cargo's target directory: a virtual environment, npm's packages, the workers in
Rust, and the networks. What cannot be made is no error: its peers are missing, and why is kept to be said.
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
# Our worker with Burn's WebGPU engine in it.
BURN_PEER = "burn-webgpu"
DECODER_PEER = "pillow"
INSTALL = ("-m", "pip", "install", "--disable-pip-version-check")


class Unavailable(Exception):
    """Something that the machine or a registry does not give; the message says what."""


def last_words(log):
    """The last line of a log, which mostly tells why it ends, and where the rest is."""
    return f"{log.read_text().strip().rpartition(chr(10))[2]} (see {log})"


def run(command, log, **options):
    """Runs a command quietly; its output goes to a file that a failure names."""
    try:
        with open(log, "w") as output:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True, **options)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError:
        raise Unavailable(last_words(log)) from None


def installed(python):
    """What pip lists, as it comes, and versions by name."""
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
        # What pip lists.
        self.packages = b""
        self.versions = {}
        self.missing = {}
        self.work.mkdir(parents=True, exist_ok=True)

    def log(self, name):
        return self.work / f"{name}.log"

    def make(self, peers):
        """Everything for these peers; afterwards `versions` and `missing` name them all."""
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
            raise SystemExit(f"error: the networks cannot be exported, so there is nothing to compare: {error}")
        for peer in peers:
            if peer not in self.versions:
                self.missing.setdefault(peer, "it is not installed")

    def make_servers(self):
        """For the comparison of servers: the networks, and an environment of the servers' own, since what the networks are
        made with is what pip lists in the other one.
        """
        self.make([])
        folder = self.work / "serving/venv"
        if not self.serving_python.exists():
            run([sys.executable, "-m", "venv", folder], self.log("serving-venv"))
        run([self.serving_python, *INSTALL, "-r", HERE / "serving/requirements.txt"], self.log("serving-pip"))
        self.versions.update(installed(self.serving_python)[1])

    def _venv(self):
        """With the packages of the Python that makes it, so that a torch which is there is not fetched again."""
        if not self.python.exists():
            run([sys.executable, "-m", "venv", "--system-site-packages", self.work / "venv"], self.log("venv"))
        install = [self.python, *INSTALL]
        requirements = HERE / "requirements.txt"
        try:
            run([*install, "-r", requirements], self.log("pip"))
        except Unavailable:
            # One at a time, so that a package which cannot be had takes no other with it.
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
        """From the lock file, no package's scripts run."""
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
        """Exported once, and again when `export.py` or a package changes; then imported by our own trainer."""
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
