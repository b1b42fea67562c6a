"""
The same as engineio_client.js, by python-engineio.

    python engineio_client.py URL '{"transports": ["polling"]}'
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

_printing = threading.Lock()


def write(*words: Any) -> None:
    """
    Write a line.
    """
    with _printing:
        sys.stdout.write(json.dumps(words, default=to_line) + "\n")
        sys.stdout.flush()


def to_line(value: bytes) -> dict[str, str]:
    """
    Return bytes as JSON can express them.
    """
    return {"base64": base64.b64encode(value).decode()}


class OrderedClient(engineio.Client):  # type: ignore[misc]
    """
    A client that processes packets in the order of their arrival; the base class processes each
    in a thread of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._worker = ThreadPoolExecutor(max_workers=1)

    def start_background_task(self, target: Any, *arguments: Any, **named: Any) -> Any:
        if target == self.handlers.get("message"):
            return self._worker.submit(target, *arguments, **named)
        return super().start_background_task(target, *arguments, **named)


def main() -> None:
    """
    Connect, and execute commands until the input ends.
    """
    _, url, text = sys.argv
    options = json.loads(text)
    client = OrderedClient()
    client.on("connect", lambda: write("connect", client.transport()))
    client.on("message", lambda data: write("message", data))
    client.on("disconnect", lambda reason="": write("disconnect", reason))
    path = options.get("path") or urlsplit(url).path.strip("/") or "engine.io"
    try:
        client.connect(
            url,
            headers=options.get("extraHeaders"),
            transports=options.get("transports"),
            engineio_path=path,
        )
    except engineio.exceptions.ConnectionError as error:
        write("error", str(error))
        return
    for line in sys.stdin:
        command, *words = json.loads(line)
        if command != "send":
            break
        message = words[0]
        client.send(message if isinstance(message, str) else base64.b64decode(message["base64"]))
    client.disconnect()


main()
