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
PIP_INSTALL = ("-m", "pip", "install", "--disable-pip-version-check")


class Unavailable(Exception):
    """A program or package is missing or cannot be installed."""


def last_log_line(log):
    """Returns the last line of a log, which usually states the error, followed by the log's path."""
    return f"{log.read_text().strip().rpartition(chr(10))[2]} (see {log})"


def run(command, log, **options):
    """Runs a command with its output in a log file. Raises Unavailable, with the path of the log, if the command fails."""
    try:
        with open(log, "w") as output:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=True, **options)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is not installed") from None
    except subprocess.CalledProcessError:
        raise Unavailable(last_log_line(log)) from None


def installed_packages(python):
    """Returns pip's list of packages as JSON bytes, and the versions by name."""
    packages = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True).stdout
    return packages, {package["name"]: package["version"] for package in json.loads(packages)}


class Environment:
    """The paths of programs and networks below cargo's target directory `target`, and the versions of the installed
    peers.

    `missing` holds the reason for each peer that cannot be installed, by name.
    """

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
        python_peers = (*PYTHON_PEERS, DECODER_PEER)
        installers = (
            (python_peers, self._install_python),
            (RUST_PEERS, self._build_rust),
            ([BROWSER_PEER], self._install_node),
            ([BURN_PEER], self._build_burn),
        )
        for names, install in installers:
            names = [name for name in names if name in peers]
            try:
                if names:
                    install()
            except Unavailable as error:
                self.missing.update({name: str(error) for name in names})
        try:
            self._export_models()
        except Unavailable as error:
            raise SystemExit(f"error: cannot export the networks: {error}")
        for peer in peers:
            if peer not in self.versions:
                self.missing.setdefault(peer, "not installed")

    def make_servers(self):
        """Exports the networks, and installs the servers in a separate virtual environment, because a change of the
        packages in the first one would export the networks again.
        """
        self.make([])
        folder = self.work / "serving/venv"
        if not self.serving_python.exists():
            run([sys.executable, "-m", "venv", folder], self.log("serving-venv"))
        run([self.serving_python, *PIP_INSTALL, "-r", HERE / "serving/requirements.txt"], self.log("serving-pip"))
        self.versions.update(installed_packages(self.serving_python)[1])

    def make_torch(self):
        """Installs the Python peers without exporting the networks. Raises Unavailable if PyTorch or torchvision cannot be
        installed.
        """
        self._install_python()
        for package in ("torch", "torchvision"):
            if package not in self.versions:
                raise Unavailable(self.missing.get(package, f"{package} is not installed"))

    def _install_python(self):
        """Installs the Python peers in a virtual environment that can use the system's packages, so that a torch that
        is already installed is not downloaded again.
        """
        if not self.python.exists():
            run([sys.executable, "-m", "venv", "--system-site-packages", self.work / "venv"], self.log("venv"))
        install = [self.python, *PIP_INSTALL]
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
        self.packages, versions = installed_packages(self.python)
        packages = (*PYTHON_PEERS, DECODER_PEER, "torchvision")
        self.versions.update({package: versions[package] for package in packages if package in versions})

    def _build_rust(self):
        build = ["cargo", "build", "--release", "--locked", "--manifest-path", HERE / "rust/Cargo.toml"]
        run([*build, "--target-dir", self.target], self.log("rust"))
        lock = (HERE / "rust/Cargo.lock").read_text()
        for peer, package in RUST_PEERS.items():
            self.versions[peer] = re.search(f'name = "{package}"\nversion = "(.*)"', lock)[1]

    def _install_node(self):
        """Installs the npm packages from the lock file, without running their scripts."""
        self.node.mkdir(exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / "page" / name, self.node)
        run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], self.log("npm"), cwd=self.node)
        packages = json.loads((self.node / "package.json").read_text())
        self.versions[BROWSER_PEER] = packages["dependencies"][BROWSER_PEER]

    def _build_burn(self):
        # Variables of an outer `make` would affect the inner one.
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        variables["CARGO_TARGET_DIR"] = str(self.target)
        run(["make", "--no-print-directory", "-C", ROOT, "page-burn"], self.log(BURN_PEER), env=variables)
        lock = (ROOT / "Cargo.lock").read_text()
        self.versions[BURN_PEER] = re.search('name = "burn"\nversion = "(.*)"', lock)[1]

    def _export_models(self):
        """Exports the networks, unless neither `export.py` nor a package has changed since, and imports them with the trainer."""
        if not self.packages:
            self._install_python()
        digest = hashlib.sha256((HERE / "export.py").read_bytes() + self.packages).hexdigest()
        recorded = self.models / "made-by"
        if not recorded.exists() or recorded.read_text() != digest:
            shutil.rmtree(self.models, ignore_errors=True)
            self.models.mkdir()
            run([self.python, HERE / "export.py", self.models], self.log("export"))
            recorded.write_text(digest)
        for tensors in self.models.glob("*.torch.safetensors"):
            checkpoint = tensors.with_name(tensors.name.replace(".torch", ""))
            run([self.trainer, "import", tensors, checkpoint], self.log("import"))
