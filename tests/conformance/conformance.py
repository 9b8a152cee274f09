"""`make conformance`: other people's programs against our server, to see that it keeps to what others wrote down.

    python conformance.py SERVER [--only client|openapi] [--seconds N] [--seed N] [-- ARGUMENTS OF THEIRS]

`client` is NVIDIA's `tritonclient` (test_*.py), which speaks the Open Inference Protocol and Triton's extensions to it;
`openapi` is schemathesis, which makes up requests, right and wrong, from our OpenAPI document, and holds every answer
against it. Each gets a server of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import serving

HERE = Path(__file__).resolve().parent
# A photo or a tensor is any string of bytes to a schema, and most strings are none: what is right by the schema may be refused.
MEANINGLESS = ["positive_data_acceptance"]


def client(server, _, more):
    with serving.running(server) as (url, folder):
        variables = dict(os.environ, SHORTCUT_URL=url, SHORTCUT_REPOSITORY=folder)
        command = [sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", HERE, *more]
        return subprocess.run(command, env=variables).returncode


def openapi(server, given, more):
    # It leaves a folder of its own where it runs.
    with serving.running(server) as (url, _), tempfile.TemporaryDirectory() as here:
        command = [Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml"]
        command += ["run", f"{url}/openapi.json", "--no-color"]
        command += ["--header", f"Authorization: Bearer {serving.TOKEN}"]
        command += ["--checks", "all", "--exclude-checks", ",".join(MEANINGLESS), "--mode", "all"]
        # Nothing is kept between two runs.
        command += ["--seed", str(given.seed), "--generation-database", "none", "--max-time", str(given.seconds)]
        command += ["--request-timeout", "10", "--suppress-health-check", "all", "--continue-on-failure", *more]
        return subprocess.run(command, cwd=here).returncode


PARTS = {"client": client, "openapi": openapi}


def main():
    arguments, more = sys.argv[1:], []
    if "--" in arguments:
        at = arguments.index("--")
        arguments, more = arguments[:at], arguments[at + 1 :]
    parser = argparse.ArgumentParser(prog="conformance.py", description=__doc__.splitlines()[0])
    parser.add_argument("server", type=Path, help="our binary")
    parser.add_argument("--only", choices=PARTS, help="one of both; what follows -- is for it")
    parser.add_argument("--seconds", type=int, default=120, help="for schemathesis (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="for schemathesis (%(default)s)")
    given = parser.parse_args(arguments)
    if more and not given.only:
        parser.error("arguments behind -- are for one of both: --only says for which")
    failed = []
    for name, run in PARTS.items():
        if given.only in (None, name):
            print(f"== {name}", flush=True)
            if run(given.server.resolve(), given, more) != 0:
                failed.append(name)
    if failed:
        sys.exit(f"error: {', '.join(failed)}: the server does not conform")


if __name__ == "__main__":
    main()
