"""
Unmodified Socket.IO and Engine.IO clients, each a process that reads commands and writes events
as lines.
"""

from __future__ import annotations

import base64
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from tests.real.conftest import CLIENTS, PATIENCE, require, require_npm

Line = list[Any]


class Peer:
    """
    A client in a process.

    Args:
        kind: `js 4` and `js 2` are npm's socket.io-client, `python` is python-socketio;
            `engine 3` to `engine 6` are npm's engine.io-client, `engine python` is
            python-engineio.
        url: of the server, with the namespace.
        options: such as `transports`, `auth`, `path`.
    """

    def __init__(self, kind: str, url: str, **options: Any) -> None:
        self.lines: list[Line] = []
        self._requests = 0
        self._queue: queue.Queue[Line | None] = queue.Queue()
        self._process = subprocess.Popen(
            [*_command(kind), url, json.dumps(options)],
            cwd=CLIENTS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._queue.put(json.loads(text, object_hook=_from_line))
        self._queue.put(None)

    def send(self, *words: Any) -> None:
        """
        Send a command to the process.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words, default=_to_line) + "\n")
        self._process.stdin.flush()

    def emit(self, event: str, *arguments: Any) -> None:
        """
        Emit an event.
        """
        self.send("emit", event, *arguments)

    def request(self, event: str, *arguments: Any) -> Line:
        """
        Emit an event, and return the values of its acknowledgement.
        """
        self._requests += 1
        self.send("ask", self._requests, event, *arguments)
        return self.wait("ack", self._requests)[2:]

    def wait(self, *words: Any) -> Line:
        """
        Wait for the next line that begins with *words*, and return it.

        All lines up to it are appended to `lines`.
        """
        deadline = time.monotonic() + PATIENCE
        seen: list[Line] = []
        while True:
            try:
                line = self._queue.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no line {words}; lines: {seen[-20:]}") from None
            assert line is not None, f"the client ended without {words}; lines: {seen[-20:]}"
            self.lines.append(line)
            if line[: len(words)] == list(words):
                return line
            seen.append(line)

    def events(self, name: str, count: int) -> list[Line]:
        """
        Wait for *count* events *name*, and return the arguments of all of them.
        """
        while True:
            found = [line[2:] for line in self.lines if line[:2] == ["event", name]]
            if len(found) >= count:
                return found
            self.wait("event", name)

    def close(self) -> None:
        """
        Kill the process.
        """
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        self._reading.join(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


class Cutter:
    """
    A relay to a server, whose connections break at any byte, without a closing handshake.

    Args:
        port: the server's.

    Attributes:
        budget: returns how many bytes to the client the next connection carries; None for
            no limit.
        cuts: connections that used up their budget.
    """

    def __init__(self, port: int) -> None:
        self.server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.budget: Callable[[], int | None] = lambda: None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """
        The URL of the relay.
        """
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """
        Break all connections, and stop listening.
        """
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)

    def cut(self) -> None:
        """
        Break all open connections; later ones lead to the `server` of now.
        """
        with self._lock:
            for each in tuple(self._open):
                _shut(each)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            # A connection that is made while `cut` runs must not reach the former server.
            with self._lock:
                try:
                    far = socket.create_connection(("127.0.0.1", self.server))
                except OSError:
                    _shut(near)
                    continue
                self._open |= {near, far}
            for source, sink, budget in ((near, far, None), (far, near, self.budget())):
                thread = threading.Thread(
                    target=self._pump, args=(source, sink, budget), daemon=True
                )
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, left: int | None) -> None:
        """
        Copy bytes, at most *left* of them.
        """
        try:
            while data := source.recv(65536):
                if left is not None and len(data) >= left:
                    sink.sendall(data[:left])
                    self.cuts += 1
                    break
                sink.sendall(data)
                left = left and left - len(data)
        except OSError:
            pass
        for each in (source, sink):
            _shut(each)
            self._open.discard(each)


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


def require_clients(kind: str) -> None:
    """
    Fail or skip if clients of *kind* are not installed; see `require`.
    """
    if kind in ("python", "engine python"):
        return
    require_npm("engine.io-client-3" if kind.startswith("engine") else "socket.io-client-2")


def _command(kind: str) -> list[str]:
    require_clients(kind)
    if kind == "python":
        return [sys.executable, "socketio_client.py", "4"]
    if kind == "engine python":
        return [sys.executable, "engineio_client.py"]
    if kind.startswith("engine "):
        return [require("node", "nodejs"), "engineio_client.js", kind.removeprefix("engine ")]
    return [require("node", "nodejs"), "socketio_client.js", kind.removeprefix("js ")]


def _to_line(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()}


def _from_line(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if "base64" in value else value
