"""
A proxy that asks subscribers for a token, as one in front of a daemon may.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

GUARDED = re.compile(rb"GET /(\?|poll|ws)")


class Gate:
    """
    Forwards requests with the token: as `Authorization: Bearer`,
    websockets, which cannot, as a cookie. At `/token` it gives away both.

    Each connection carries one request.

    Args:
        port: of the daemon.
        token: the one that opens.

    Attributes:
        port: its own.
        refused: how many requests were.
    """

    def __init__(self, port: int, token: str) -> None:
        self.refused = 0
        self._daemon = port
        self._token = token
        self._ends: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._start(self._accept)

    @property
    def url(self) -> str:
        """
        Its address for HTTP, without a slash at the end.
        """
        return f"http://127.0.0.1:{self.port}"

    def change(self, token: str) -> None:
        """
        Change the token, and cut the connections that used another one.
        """
        with self._lock:
            self._token = token
            self._cut()

    def close(self) -> None:
        """
        Close the listener and all connections, and join the threads.
        """
        _shut(self._listener)
        self._threads[0].join()  # it accepts no more connections
        with self._lock:
            self._cut()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: socket.socket) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _cut(self) -> None:
        for end in self._ends:
            _shut(end)

    def _accept(self) -> None:
        with self._listener, suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    self._ends.add(client)
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            self._relay(client)
        with self._lock:
            self._ends.discard(client)

    def _relay(self, client: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            received = client.recv(65536)
            if not received:
                return
            request += received
        with self._lock:
            answer = self._answer(request)
            if answer is None:
                daemon = socket.create_connection(("127.0.0.1", self._daemon))
                self._ends.add(daemon)
        if answer is not None:
            client.sendall(answer)
            return
        with daemon:
            daemon.sendall(request.replace(b"Connection: keep-alive", b"Connection: close"))
            back = self._start(_pump, client, daemon)
            _pump(daemon, client)
            back.join()
            with self._lock:
                self._ends.discard(daemon)

    def _answer(self, request: bytes) -> bytes | None:
        token = self._token.encode()
        if request.startswith(b"GET /token "):
            cookie = b"Set-Cookie: token=" + token
            return _response(b"200 OK", cookie, token)
        if not GUARDED.match(request):
            return None
        upgrade = b"\r\nUpgrade: websocket\r\n" in request
        shown = b"token=" if upgrade else b"Authorization: Bearer "
        if shown + token + b"\r\n" in request:
            return None
        self.refused += 1
        return _response(b"401 Unauthorized", b"WWW-Authenticate: Bearer", b"who are you")


def _response(status: bytes, header: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\n%s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
    return head % (status, header, len(body)) + b"Connection: close\r\n\r\n" + body


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _shut(target)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
