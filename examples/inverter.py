"""
A program between publishers and subscribers: it reverses every message of the channel
`said`, and publishes it to `chat`. It needs nothing but Python.

    python3 inverter.py [URL]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

RETRY = 1.0  # seconds
SILENCE = 75.0  # seconds; the daemon sends a heartbeat every 30


def listen(url: str) -> Iterator[tuple[str, str]]:
    """
    Yield id and text of each message forever; after a lost connection, resume.
    """
    last = ""
    while True:
        request = Request(url, headers={"Last-Event-ID": last} if last else {})
        try:
            with urlopen(request, timeout=SILENCE) as stream:
                event, lines = "", []
                for line in stream:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        last = value
                    elif name == "event":
                        event = value
                    elif name == "data":
                        lines.append(value)
                    elif line == b"\n":
                        if lines and event != "gap":
                            yield last, "\n".join(lines)
                        event, lines = "", []
        except OSError:
            pass
        time.sleep(RETRY)


def publish(url: str, text: str, key: str) -> None:
    """
    Publish *text*, again until it is accepted; *key* makes the repetition harmless.
    """
    form = urlencode({"channel": "chat", "message": text}).encode()
    request = Request(f"{url}/publish", form, {"Idempotency-Key": key})
    while True:
        try:
            urlopen(request, timeout=SILENCE).close()
            return
        except HTTPError as error:
            if error.code != 503:
                raise
        except OSError:
            pass
        time.sleep(RETRY)


def main(url: str) -> None:
    """
    Publish each message of the channel `said` reversed.
    """
    for id, text in listen(f"{url}/said"):
        name, _, words = text.partition(": ")
        publish(url, f"{name}: {words[::-1]}", id)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
