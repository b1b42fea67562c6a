"""
A program between those who speak and those who hear: it turns every message of
the channel `said` around, and publishes it to `chat`. Nothing is needed but Python.

    python3 inverter.py [URL]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from urllib.parse import urlencode
from urllib.request import Request, urlopen

RETRY = 1.0  # seconds


def listen(url: str) -> Iterator[str]:
    """
    What is said, for ever; after a broken connection from where it broke.
    """
    last = ""
    while True:
        try:
            with urlopen(Request(url, headers={"Last-Event-ID": last} if last else {})) as stream:
                lines: list[str] = []
                for line in stream:
                    name, _, value = line.decode().rstrip("\n").partition(": ")
                    if name == "id":
                        last = value
                    elif name == "data":
                        lines.append(value)
                    elif not name and lines:
                        yield "\n".join(lines)
                        lines = []
        except OSError:
            pass
        time.sleep(RETRY)


def main(url: str) -> None:
    """
    Turn around what comes.
    """
    for text in listen(f"{url}/said"):
        name, _, words = text.partition(": ")
        form = urlencode({"channel": "chat", "message": f"{name}: {words[::-1]}"})
        urlopen(f"{url}/publish", form.encode()).close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")
