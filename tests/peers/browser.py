"""Headless Chromium controlled through WebDriver, and an HTTP server for the files that the benchmark's page loads."""

import json
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from engines import TIMEOUT, EngineError
from environment import HERE, ROOT, Unavailable

# Disable the browser's background work, and the throttling of pages that are not visible.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--disable-background-timer-throttling"]
# Run WebGPU on the adapter that Chromium emulates, even if the machine has a GPU.
ARGUMENTS += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
# chromedriver takes a free IPv6 port and then needs the same IPv4 port. If that is in use, chromedriver is started
# again.
MAX_STARTS = 5
# The output folder of `make page`.
DIST = ROOT / "web/dist"


class FileHandler(SimpleHTTPRequestHandler):
    """Serves a file from the folder that the first component of its path names, or from the folder `page`."""

    def __init__(self, folders, *arguments):
        self.folders = folders
        super().__init__(*arguments)

    def translate_path(self, path):
        first, _, rest = path.partition("?")[0].lstrip("/").partition("/")
        folder, name = (self.folders[first], rest) if first in self.folders else (HERE / "page", first)
        # The folders have no subfolders. Use only the last component, so that no path leaves the folder.
        return str(folder / (Path(name).name or "index.html"))

    def log_message(self, *_):
        pass


MIME_TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm"}
FileHandler.extensions_map = {**FileHandler.extensions_map, **MIME_TYPES}


class Browser:
    """A page with all engines in a browser with an empty profile. Use it in a `with` statement, which closes the browser."""

    def __init__(self, environment):
        self.profile = tempfile.TemporaryDirectory()
        ort = environment.node / "node_modules/onnxruntime-web/dist"
        folders = {"dist": DIST, "burn": environment.burn, "ort": ort, "models": environment.models}
        self.files = ThreadingHTTPServer(("127.0.0.1", 0), partial(FileHandler, folders))
        threading.Thread(target=self.files.serve_forever, daemon=True).start()
        self.driver, self.session = None, None
        try:
            self._start()
        except BaseException:
            self.end()
            raise

    def _start(self):
        if not shutil.which("chromium"):
            raise Unavailable("chromium is not installed")
        port = None
        for _ in range(MAX_STARTS):
            try:
                self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
            except FileNotFoundError:
                raise Unavailable("chromedriver is not installed") from None
            matches = (re.search(r"started successfully on port (\d+)", line) for line in self.driver.stdout)
            port = next((match[1] for match in matches if match), None)
            if port is not None:
                break
        else:
            raise Unavailable(f"chromedriver exited {MAX_STARTS} times before it was ready")
        self.url = f"http://127.0.0.1:{port}"
        options = {"args": [*ARGUMENTS, f"--user-data-dir={self.profile.name}"]}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = self._request("POST", "/session", {"capabilities": capabilities})
        self.session, self.version = session["sessionId"], session["capabilities"]["browserVersion"]
        self._command("timeouts", {"script": TIMEOUT * 1000})
        self._command("url", {"url": f"http://127.0.0.1:{self.files.server_port}/"})
        self.call("load_event", "until(() => window.ready)")

    def call(self, description, expression, *arguments):
        """Evaluates a JavaScript expression and returns the value that it resolves to. The expression can use the
        arguments as `args`, and the function `until(condition)`. `description` is the prefix of error messages.
        """
        script = f"""
            const done = arguments[arguments.length - 1];
            const until = async (condition) => {{ while (!condition()) await new Promise((next) => setTimeout(next, 10)); }};
            (async (...args) => {expression})(...arguments).then(
                (value) => done({{ value }}), (error) => done({{ error: String(error) }}));"""
        answer = self._command("execute/async", {"script": script, "args": arguments})
        if "error" in answer:
            raise EngineError(f"{description}: {answer['error']}")
        return answer.get("value")

    def _command(self, name, body):
        return self._request("POST", f"/session/{self.session}/{name}", body)

    def _request(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise EngineError(f"chromedriver: {json.load(error)['value']['message'].splitlines()[0]}") from None
        except OSError as error:
            raise EngineError(f"chromedriver: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        try:
            if self.session:
                self._request("DELETE", f"/session/{self.session}")
        except EngineError:
            pass  # the session has already ended
        finally:
            if self.driver:
                self.driver.kill()
                self.driver.wait()
            self.files.shutdown()
            self.profile.cleanup()
