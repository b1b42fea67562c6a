"""
The same as socketio_client.js, by python-socketio.

    python socketio_client.py 4 URL '{"transports": ["polling"]}'
"""

from __future__ import annotations

import base64
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import engineio
import socketio

_printing = threading.Lock()


def to_line(value: Any) -> Any:
    """
    Values that JSON cannot express.
    """
    return {"base64": base64.b64encode(value).decode()}


def from_line(value: dict[str, Any]) -> Any:
    """
    Bytes as they were.
    """
    return base64.b64decode(value["base64"]) if "base64" in value else value


def report(*words: Any) -> None:
    """
    Write a line.
    """
    with _printing:
        sys.stdout.write(json.dumps(words, default=to_line) + "\n")
        sys.stdout.flush()


class InOrder(engineio.Client):  # type: ignore[misc]
    """
    A client that handles packets in the order of their arrival. The base class handles each in a
    thread of its own, so that attachments may overtake the packet to which they belong.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._executor = ThreadPoolExecutor(max_workers=1)

    def start_background_task(self, target: Any, *arguments: Any, **named: Any) -> Any:
        """
        Start what runs beside others, or what waits for its turn.
        """
        if target == self.handlers.get("message"):
            return self._executor.submit(target, *arguments, **named)
        return super().start_background_task(target, *arguments, **named)


class Client(socketio.Client):  # type: ignore[misc]
    """
    One that keeps the order.
    """

    def _engineio_client_class(self) -> type[InOrder]:
        return InOrder


def main() -> None:
    """
    Connect, and execute the given commands.
    """
    _, _, url, options = sys.argv
    given = json.loads(options)
    space = urlsplit(url).path or "/"
    client = Client(reconnection_delay=0.05, reconnection_delay_max=0.2)
    client.on("connect", lambda: report("connect", client.transport(), False), space)
    client.on("connect_error", lambda reason="": report("error", str(reason)), space)
    client.on("disconnect", lambda reason="": report("disconnect", reason), space)

    @client.on("*", namespace=space)
    def on_event(name: str, *arguments: Any) -> Any:
        report("event", name, *arguments)
        return arguments if name == "ask" else None

    where = {"socketio_path": given["path"]} if "path" in given else {}
    client.connect(
        url, namespaces=[space], transports=given.get("transports"), auth=given.get("auth"), **where
    )
    for line in sys.stdin:
        what, *words = json.loads(line, object_hook=from_line)
        if what == "emit":
            client.emit(words[0], tuple(words[1:]), namespace=space)
        elif what == "ask":
            number, event, *arguments = words
            client.emit(
                event,
                tuple(arguments),
                namespace=space,
                callback=lambda *answer, number=number: report("ack", number, *answer),
            )
        elif what == "close":
            break
    client.disconnect()


main()
