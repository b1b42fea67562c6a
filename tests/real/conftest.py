"""
Real processes for tests: the daemon, other servers, a browser.

Each listens on a port of its own on 127.0.0.1, runs in a temporary folder, and
ends with its test. The logs of all of them are shown if the test fails.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

ROOT = Path(__file__).parents[2]
CLIENTS = Path(__file__).parent / "clients"
PATIENCE = 60.0  # seconds, the timeout of all waits: only a defect takes so long
PAUSE = 0.02  # seconds between two checks of another process

CHROMIUM = (
    "--headless",
    "--no-sandbox",  # it refuses to run as root otherwise
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def require(program: str, package: str) -> str:
    """
    Return the path of *program*.

    If it is missing, the test fails under CI and `make test`, where no test may be
    skipped unnoticed. Elsewhere the test is skipped, and the reason names the package to
    install. WITHOUT in the environment names packages that are not used at all.

    Args:
        program: the command's name.
        package: Debian's package that contains it.

    Returns:
        its absolute path.
    """
    if package in os.environ.get("WITHOUT", "").split():
        pytest.skip(f"without {package}, as WITHOUT says")
    # Servers are in sbin, which is not in the path of all users.
    own = f"{ROOT}/.venv-graphite/bin:{ROOT}/.venv-uwsgi/bin"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:{own}"
    found = shutil.which(program, path=path)
    if found:
        return found
    report_missing(f"{program} is missing: install {package}, as make test does")


def require_npm(package: str) -> None:
    """
    Fail or skip the test if *package* of npm is missing in CLIENTS; see `require`.
    """
    require("node", "nodejs")
    require("npm", "npm")
    if not (CLIENTS / "node_modules" / package).is_dir():
        report_missing(f"{package} is missing: npm install in {CLIENTS}, as make test does")


def require_module(name: str, command: str) -> None:
    """
    Fail or skip the test if the module *name* is missing; see `require`.

    Args:
        name: of the module.
        command: that installs it.
    """
    if find_spec(name) is None:
        report_missing(f"{name} is missing: {command}, as make test does")


def report_missing(reason: str) -> NoReturn:
    """
    Fail the test under CI and `make test`, or skip it elsewhere.
    """
    if os.environ.get("CI") or os.environ.get("REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def free_port() -> int:
    """
    Return a TCP port of 127.0.0.1 that is not in use now.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class NotStarted(Exception):
    """
    A server ended, or did not accept connections in time; the text has its log.
    """


class Server:
    """
    A process that listens on a port.

    Args:
        command: program and arguments.
        port: on 127.0.0.1; the server runs when it accepts connections there.
        folder: where it runs and may write; its output goes to a file in it.
        environment: on top of the test's own.
    """

    def __init__(
        self, command: Sequence[str], port: int, folder: Path, environment: dict[str, str]
    ) -> None:
        self.command = list(command)
        self.port = port
        self.folder = folder
        self.environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """
        Return its URL, without a slash at the end.
        """
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """
        Return the id of its process.
        """
        return self._running().pid

    @property
    def log(self) -> str:
        """
        Return all of its output, that before restarts included.
        """
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def start(self) -> None:
        """
        Start it and wait until it accepts connections.

        Raises:
            NotStarted: it ended or did not listen in time; the process has ended.
        """
        assert self._process is None, "the server runs already"
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._accepts():
            if self._ended_within(PAUSE):
                reason = f"it ended with status {self._reap()}"
            elif time.monotonic() > deadline:
                self.kill(signal.SIGKILL)
                reason = f"nothing listens on port {self.port} after {PATIENCE:g} seconds"
            else:
                continue
            raise NotStarted(f"{self}: {reason}\n{self.log}")

    def send(self, number: signal.Signals) -> None:
        """
        Send a signal that does not end the process, such as SIGHUP, SIGSTOP and SIGCONT.
        """
        self._running().send_signal(number)

    def kill(self, number: signal.Signals = signal.SIGTERM) -> int:
        """
        Send a signal that ends the process, and wait for its end.

        Returns:
            its exit status; negative if a signal killed it.
        """
        self._running().send_signal(number)
        if not self._ended_within(PATIENCE):
            self._reap()
            raise AssertionError(f"{self}: still runs {PATIENCE:g} seconds after {number.name}")
        return self._reap()

    def restart(self, number: signal.Signals = signal.SIGTERM) -> None:
        """
        Stop the server and start it again, on the same port and in the same folder.
        """
        self.kill(number)
        self.start()

    def stop(self) -> None:
        """
        Stop the server unless the test did.

        Raises:
            AssertionError: the server had ended by itself.
        """
        if self._process is None:
            return
        if self._ended_within(0):
            raise AssertionError(f"{self}: ended by itself with status {self._reap()}")
        self.send(signal.SIGCONT)  # a stopped process would not handle the next signal
        self.kill()

    def __str__(self) -> str:
        return " ".join([Path(self.command[0]).name, *self.command[1:]])

    @property
    def _log(self) -> Path:
        return self.folder / "log.txt"

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self}: does not run"
        return self._process

    def _accepts(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), PAUSE).close()
        except OSError:
            return False
        # Another process may have taken the port in the meantime; then this one has ended.
        return not self._ended_within(0)

    def _ended_within(self, seconds: float) -> bool:
        try:
            self._running().wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _reap(self) -> int:
        process = self._running()
        self._process = None
        with suppress(ProcessLookupError):  # usually there are no children left
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait(PATIENCE)


class Serve(Protocol):
    """
    Starts any server.
    """

    def __call__(
        self,
        command: Sequence[str],
        port: int,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> Server:
        """
        Start *command*, which has to listen on *port*, in *folder* or a new one.
        """


class StartDaemon(Protocol):
    """
    Starts the daemon.
    """

    def __call__(
        self,
        *options: str,
        port: int | None = None,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> Server:
        """
        Start the daemon with *options* (`"--name=value"`), on a free port if none is given.
        """


_SERVERS = pytest.StashKey[list[Server]]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """
    Show the logs of the servers of a test that failed.
    """
    report = yield
    if report.failed:
        for server in item.stash.get(_SERVERS, []):
            report.sections.append((f"log of {server}", server.log))
    return report


@pytest.fixture
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serve]:
    """
    Return a function that starts servers; they are stopped after the test, the last one first.
    """
    servers: list[Server] = request.node.stash.setdefault(_SERVERS, [])

    def start(
        command: Sequence[str],
        port: int,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> Server:
        home = folder or tmp_path / f"{Path(command[0]).name}-{port}"
        home.mkdir(exist_ok=True)
        server = Server(command, port, home, environment or {})
        servers.append(server)
        server.start()
        return server

    yield start
    errors = []
    for server in reversed(servers):
        try:
            server.stop()
        except AssertionError as error:
            errors.append(str(error))
    if errors:
        pytest.fail("\n".join(errors), pytrace=False)


@pytest.fixture
def daemon(serve: Serve) -> Iterator[StartDaemon]:
    """
    Return a function that starts daemons: `twistd -n --pidfile= realtime --port=...`.

    A traceback in the log of a daemon fails the test; a test that expects one
    starts its daemon by `serve`.
    """
    daemons: list[Server] = []

    def start(
        *options: str,
        port: int | None = None,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> Server:
        port = port or free_port()
        command = [*TWISTD, "realtime", f"--port={port}", *options]
        server = serve(command, port, folder, environment)
        daemons.append(server)
        return server

    yield start
    for server in daemons:
        if "Traceback (most recent call last)" in server.log:
            pytest.fail(f"{server}: logged a traceback", pytrace=False)


TWISTD = (str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=")


class Browser:
    """
    One page of Chromium, controlled by chromedriver (W3C WebDriver).

    Args:
        driver: the port of a running chromedriver.
        chromium: where the program is.
        profile: an empty folder for its user data.
        flags: for chromium, in addition to CHROMIUM.
    """

    def __init__(self, driver: int, chromium: str, profile: Path, *flags: str) -> None:
        self._driver = driver
        options = {
            "binary": chromium,
            "args": [*CHROMIUM, *flags, f"--user-data-dir={profile}"],
        }
        capabilities = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        self._session = "/session"
        answer = self._call("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{answer['sessionId']}"

    def open(self, url: str) -> None:
        """
        Open *url* and wait until the page is loaded.
        """
        self._call("POST", "/url", {"url": url})

    @property
    def window(self) -> str:
        """
        Return the handle of this tab, for `switch`.
        """
        return str(self._call("GET", "/window"))

    def new_tab(self) -> None:
        """
        Open a tab and switch to it.
        """
        self.switch(self._call("POST", "/window/new", {"type": "tab"})["handle"])

    def switch(self, window: str) -> None:
        """
        Switch to another tab.
        """
        self._call("POST", "/window", {"handle": window})

    def close_tab(self) -> None:
        """
        Close this tab; the caller has to switch to another one.
        """
        self._call("DELETE", "/window")

    def evaluate(self, expression: str) -> Any:
        """
        Return the value of a JavaScript expression in the page; promises are awaited.

        Raises:
            AssertionError: the script threw; the text is the browser's.
        """
        return self._call("POST", "/execute/sync", {"script": f"return ({expression})", "args": []})

    def wait_for(self, expression: str, seconds: float = PATIENCE) -> Any:
        """
        Evaluate *expression* until its value is truthy, and return the value.

        Raises:
            AssertionError: the value is not truthy after *seconds*.
        """
        deadline = time.monotonic() + seconds
        while True:
            value = self.evaluate(expression)
            if value:
                return value
            assert time.monotonic() < deadline, f"after {seconds:g} seconds: {expression} = {value}"
            time.sleep(PAUSE)

    def click(self, selector: str) -> None:
        """
        Click the element of a CSS selector, as a user does: the page may play sound from then on.
        """
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"/element/{next(iter(found.values()))}/click", {"clicks": 1})

    def freeze(self, frozen: bool = True) -> None:
        """
        Freeze the page, as browsers do with background tabs, or resume it.
        """
        params = {"state": "frozen" if frozen else "active"}
        command = {"cmd": "Page.setWebLifecycleState", "params": params}
        self._call("POST", "/goog/cdp/execute", command)

    def console(self) -> list[str]:
        """
        Return the console messages of the page since the last call.
        """
        entries = self._call("POST", "/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries]

    def screenshot(self, path: Path) -> None:
        """
        Write a screenshot of the page to *path*, as PNG.
        """
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def close(self) -> None:
        """
        Close the browser.
        """
        self._call("DELETE", "")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._driver, timeout=PATIENCE)
        try:
            connection.request(method, self._session + path, json.dumps(body) if body else None)
            response = connection.getresponse()
            value = json.loads(response.read())["value"]
        finally:
            connection.close()
        if response.status != 200:
            raise AssertionError(f"{value['error']}: {value['message']}")
        return value


@pytest.fixture
def browser(serve: Serve, tmp_path: Path) -> Iterator[Browser]:
    """
    Yield a headless Chromium with an empty profile.
    """
    chromium = require("chromium", "chromium")
    chromedriver = require("chromedriver", "chromium-driver")
    port = free_port()
    serve([chromedriver, f"--port={port}"], port)
    browser = Browser(port, chromium, tmp_path / "profile")
    yield browser
    browser.close()
