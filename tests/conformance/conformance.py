"""`make conformance`: third-party programs check that our server and trainer conform to specifications.

    python conformance.py PROGRAMS [--only client|openapi|trainer|feature-maps|pruning|exports] [--seconds N] [--seed N] [-- ARGUMENTS]

`client` runs NVIDIA's `tritonclient` (test_*.py), a client of the Open Inference Protocol and Triton's extensions to
it; `openapi` runs schemathesis, which generates valid and invalid requests from our OpenAPI document and checks every
response against it. Each of them gets a new server. `trainer` reads the event files of training runs with TensorBoard
(test_event_files.py), recomputes the figures of evaluations with scikit-learn (test_evaluation_files.py), and tries the progress
bar in a terminal emulator (test_display.py). `feature-maps` compares the outputs of layers with PyTorch's (feature_maps.py),
`pruning` pruned networks (pruning.py), and `exports` the outputs of exported files (exports.py); they run only if `make bench` has
installed PyTorch, which takes several GB.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import server_process

HERE = Path(__file__).resolve().parent
# Not applicable: for the schema, a photo or tensor is any byte string, most of which the server rejects.
EXCLUDED_CHECKS = ["positive_data_acceptance"]
PYTEST = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short"]
TRAINER_TESTS = [HERE / f"test_{name}.py" for name in ("display", "event_files", "evaluation_files")]


def run_client_tests(programs, _, extra_arguments):
    with server_process.running_server(programs / "server") as (url, folder):
        variables = dict(os.environ, SHORTCUT_URL=url, SHORTCUT_REPOSITORY=folder)
        command = [*PYTEST, HERE, *(f"--ignore={path}" for path in TRAINER_TESTS)]
        return subprocess.run([*command, *extra_arguments], env=variables).returncode


def run_trainer_tests(programs, _, extra_arguments):
    variables = dict(os.environ, SHORTCUT_TRAINER=str(programs / "trainer"))
    return subprocess.run([*PYTEST, *TRAINER_TESTS, *extra_arguments], env=variables).returncode


def run_schemathesis(programs, arguments, extra_arguments):
    # schemathesis writes a folder to the working directory.
    with server_process.running_server(programs / "server") as (url, _), tempfile.TemporaryDirectory() as working_directory:
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml"]
        command += ["run", f"{url}/openapi.json", "--no-color"]
        command += ["--header", f"Authorization: Bearer {server_process.ADMIN_TOKEN}"]
        command += ["--checks", "all", "--exclude-checks", ",".join(EXCLUDED_CHECKS), "--mode", "all"]
        # Disable the database of earlier findings, so that runs are independent.
        command += ["--seed", str(arguments.seed), "--generation-database", "none", "--max-time", str(arguments.seconds)]
        command += ["--request-timeout", "10", "--suppress-health-check", "all", "--continue-on-failure"]
        return subprocess.run([*command, *extra_arguments], cwd=working_directory).returncode


def run_with_pytorch(script, programs, extra_arguments):
    python = programs.parent / "peers/venv/bin/python"
    if not python.exists():
        print(f"skipped: there is no PyTorch at {python}; `make bench` installs it")
        return 0
    command = [python, "-B", HERE / script, programs / "trainer"]
    return subprocess.run([*command, *extra_arguments]).returncode


def run_feature_maps(programs, _, extra_arguments):
    return run_with_pytorch("feature_maps.py", programs, extra_arguments)


def run_pruning(programs, _, extra_arguments):
    return run_with_pytorch("pruning.py", programs, extra_arguments)


def run_exports(programs, _, extra_arguments):
    return run_with_pytorch("exports.py", programs, extra_arguments)


SUITES = {
    "client": run_client_tests,
    "openapi": run_schemathesis,
    "trainer": run_trainer_tests,
    "feature-maps": run_feature_maps,
    "pruning": run_pruning,
    "exports": run_exports,
}


def main():
    own_arguments, extra_arguments = sys.argv[1:], []
    if "--" in own_arguments:
        separator = own_arguments.index("--")
        own_arguments, extra_arguments = own_arguments[:separator], own_arguments[separator + 1 :]
    parser = argparse.ArgumentParser(prog="conformance.py", description=__doc__.splitlines()[0])
    parser.add_argument("programs", type=Path, help="folder of the executables server and trainer")
    parser.add_argument("--only", choices=SUITES, help="run only this suite; it receives the arguments after --")
    parser.add_argument("--seconds", type=int, default=120, help="duration of schemathesis (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="random seed of schemathesis (default: %(default)s)")
    arguments = parser.parse_args(own_arguments)
    if extra_arguments and not arguments.only:
        parser.error("arguments after -- require --only")
    failed = []
    for name, run in SUITES.items():
        if arguments.only in (None, name):
            print(f"== {name}", flush=True)
            if run(arguments.programs.resolve(), arguments, extra_arguments) != 0:
                failed.append(name)
    if failed:
        sys.exit(f"error: these suites failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
