"""
A TCP relay that keeps what clients send to an AMQP server.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Any

import pika.frame
import pika.spec

from tests.real.conftest import PATIENCE

# What depends on the driver and on time, and changes nothing at the server.
LEFT_OUT = ("Connection.", "Channel.", "Heartbeat", "Basic.Ack")


class AmqpRelay:
    """
    Listens on a port of its own and passes connections on.

    Args:
        port: of the AMQP server, on 127.0.0.1.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = [self._listener]
        self._sent: list[bytearray] = []
        self._lock = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def methods(self) -> list[list[str]]:
        """
        For each connection what was sent by it so far, a line a frame.
        """
        with self._lock:
            return [_decode(bytes(sent)) for sent in self._sent]

    def wait(self, text: str) -> None:
        """
        Wait until a line with *text* was sent.
        """
        with self._lock:
            there = self._lock.wait_for(lambda: self._has(text), PATIENCE)
        assert there, f"nobody has sent {text}"

    def close(self) -> None:
        """
        Close all connections.
        """
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _has(self, text: str) -> bool:
        return any(text in line for sent in self._sent for line in _decode(bytes(sent)))

    def _start(self, function: Any, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            sent = bytearray()
            with self._lock:
                self._sockets += [client, server]
                self._sent.append(sent)
            self._start(self._pump, client, server, sent)
            self._start(self._pump, server, client, None)

    def _pump(self, source: socket.socket, target: socket.socket, sent: bytearray | None) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if sent is not None:
                    with self._lock:
                        sent += data
                        self._lock.notify_all()
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def _decode(data: bytes) -> list[str]:
    """
    The frames as text, an argument with its value.
    """
    lines = []
    while data:
        used, frame = pika.frame.decode_frame(data)
        if not frame:
            break
        data = data[used:]
        text = _text(frame)
        if not text.startswith(LEFT_OUT):
            lines.append(text)
    return lines


def _text(frame: Any) -> str:
    if isinstance(frame, pika.frame.Method):
        return _fields(frame.method.NAME, frame.method)
    if isinstance(frame, pika.frame.Header):
        return f"  {_fields(f'{frame.body_size} bytes', frame.properties)}"
    if isinstance(frame, pika.frame.Body):
        return f"  {frame.fragment!r}"
    return type(frame).__name__


def _fields(name: str, value: Any) -> str:
    fields = {key: each for key, each in vars(value).items() if each not in (None, "", 0, False)}
    # A whole number may be of several types; texts and bytes are different ones.
    return f"{name} " + " ".join(f"{key}={fields[key]!r}" for key in sorted(fields))
