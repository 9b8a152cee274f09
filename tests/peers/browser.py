"""Headless Chromium behind its WebDriver, and a server for what the page of the comparison loads."""

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

from engines import PATIENCE, EngineError
from environment import HERE, ROOT, Unavailable

# No time slicing between tabs that are not there, and no throttling of a page that nobody looks at.
ARGUMENTS = ["--headless=new", "--no-sandbox", "--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--disable-background-timer-throttling"]
# WebGPU on the adapter that Chromium emulates, whatever the machine has.
ARGUMENTS += ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]
# The driver takes a free port of IPv6 and then the same of IPv4, where somebody's connection may have it.
STARTS = 5
# Where `make page` puts it.
DIST = ROOT / "web/dist"


class Files(SimpleHTTPRequestHandler):
    """Several folders under one address: by their first name, or the page's own."""

    def __init__(self, folders, *arguments):
        self.folders = folders
        super().__init__(*arguments)

    def translate_path(self, path):
        first, _, rest = path.partition("?")[0].lstrip("/").partition("/")
        folder, name = (self.folders[first], rest) if first in self.folders else (HERE / "page", first)
        # None of these folders has others in it; a name with a slash is a mistake or worse.
        return str(folder / (Path(name).name or "index.html"))

    def log_message(self, *_):
        pass


Files.extensions_map = {**Files.extensions_map, ".mjs": "text/javascript", ".wasm": "application/wasm"}


class Browser:
    """A page with all engines, in a browser that has seen nothing yet. For a `with`, which ends it."""

    def __init__(self, environment):
        self.profile = tempfile.TemporaryDirectory()
        ort = environment.node / "node_modules/onnxruntime-web/dist"
        folders = {"dist": DIST, "burn": environment.burn, "ort": ort, "models": environment.models}
        self.files = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, folders))
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
        for _ in range(STARTS):
            try:
                self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
            except FileNotFoundError:
                raise Unavailable("chromedriver is not installed") from None
            said = (re.search(r"started successfully on port (\d+)", line) for line in self.driver.stdout)
            port = next((match[1] for match in said if match), None)
            if port is not None:
                break
        else:
            raise Unavailable(f"chromedriver ended {STARTS} times before it was ready")
        self.url = f"http://127.0.0.1:{port}"
        options = {"args": [*ARGUMENTS, f"--user-data-dir={self.profile.name}"]}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        session = self._ask("POST", "/session", {"capabilities": capabilities})
        self.session, self.version = session["sessionId"], session["capabilities"]["browserVersion"]
        self._command("timeouts", {"script": PATIENCE * 1000})
        self._command("url", {"url": f"http://127.0.0.1:{self.files.server_port}/"})
        self.call("load_event", "until(() => window.ready)")

    def call(self, what, expression, *arguments):
        """What a JavaScript expression of `arguments` resolves to."""
        script = f"""
            const done = arguments[arguments.length - 1];
            const until = async (met) => {{ while (!met()) await new Promise((next) => setTimeout(next, 10)); }};
            (async (...given) => {expression})(...arguments).then(
                (value) => done({{ value }}), (error) => done({{ error: String(error) }}));"""
        answer = self._command("execute/async", {"script": script, "args": arguments})
        if "error" in answer:
            raise EngineError(f"{what}: {answer['error']}")
        return answer.get("value")

    def _command(self, name, body):
        return self._ask("POST", f"/session/{self.session}/{name}", body)

    def _ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
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
                self._ask("DELETE", f"/session/{self.session}")
        except EngineError:
            pass  # it has ended already
        finally:
            if self.driver:
                self.driver.kill()
                self.driver.wait()
            self.files.shutdown()
            self.profile.cleanup()
