"""
Players of one stream by RTSP, driven by lines on stdin: `python -m benchmarks.rtsp_players PORT
PATH COUNT [urgent]`.

All connect, about 30 a second, the first one alone. Then each line SECONDS is answered by a line
of JSON: the bytes that all have received meanwhile, the least of one player, and how late the
stamps were that the first player has found (ms, p50 and p99). An urgent one runs before others on
its core, so that their work is not measured.
"""

from __future__ import annotations

import json
import os
import re
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

STAMP = re.compile(rb"<late ([0-9]{10,20})>")  # CLOCK_MONOTONIC, ns
_PACE = 1 / 30  # s between two players: GStreamer's server stalls otherwise
_PATIENCE = 60.0  # s
_KEEP = 20.0  # s between two requests of a player
_READ = 1 << 18


def run_first() -> None:
    """
    Run this process whenever it can, before others on its core, if that is permitted.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


class Player:
    """
    A player that has sent PLAY.

    Args:
        port: of the server on 127.0.0.1.
        path: of the stream.

    Attributes:
        received: bytes.
    """

    def __init__(self, port: int, path: str) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), _PATIENCE)
        self.received = 0
        self._cseq = 0
        self._session = ""
        self._kept_at = time.monotonic()
        url = self._url = f"rtsp://127.0.0.1:{port}{path}"
        described = self._ask("DESCRIBE", url, "Accept: application/sdp\r\n")
        controls = re.findall(r"a=control:(\S+)", described.partition("m=")[2])
        for index, control in enumerate(controls):
            track = control if "://" in control else f"{url}/{control}"
            channels = f"{2 * index}-{2 * index + 1}"
            fields = f"Transport: RTP/AVP/TCP;unicast;interleaved={channels}\r\n{self._session}"
            response = self._ask("SETUP", track, fields)
            found = re.search(r"(?i)^session: *([^;\r]+)", response, re.MULTILINE)
            if found:
                self._session = f"Session: {found[1]}\r\n"
        self._send("PLAY", url, f"{self._session}Range: npt=0-\r\n")
        self.connection.recv(_READ)
        self.connection.setblocking(False)

    def keep(self, now: float) -> None:
        """
        Keep the session: servers end those of clients that send nothing for a minute.
        """
        if now - self._kept_at > _KEEP:
            self._kept_at = now
            self._send("OPTIONS", self._url, self._session)

    def _send(self, method: str, url: str, fields: str) -> None:
        self._cseq += 1
        head = f"{method} {url} RTSP/1.0\r\nCSeq: {self._cseq}\r\n{fields}\r\n"
        self.connection.sendall(head.encode())

    def _ask(self, method: str, url: str, fields: str) -> str:
        """
        Send a request and return its response.

        Raises:
            OSError: the server has refused it, or closed the connection.
        """
        self._send(method, url, fields)
        data = b""
        while True:
            read = self.connection.recv(_READ)
            data += read
            head, end, body = data.decode("latin-1").partition("\r\n\r\n")
            length = re.search(r"(?i)content-length: *(\d+)", head)
            if end and len(body) >= (int(length[1]) if length else 0):
                break
            if not read:
                raise OSError("the server has closed the connection")
        if " 200 " not in head.partition("\r\n")[0]:
            raise OSError(f"{method}: {head}")
        return head + end + body


def reading(players: list[Player], seconds: float) -> Iterator[float]:
    """
    Read what all players are sent, and yield how late the stamps of the first one were (ms).
    """
    selector = selectors.DefaultSelector()
    for one in players:
        selector.register(one.connection, selectors.EVENT_READ, one)
    until = time.monotonic() + seconds
    rest = b""
    while (left := until - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            player: Player = key.data
            data = player.connection.recv(_READ)
            if not data:
                raise OSError("the server has disconnected a player")
            player.received += len(data)
            player.keep(time.monotonic())
            if player is players[0]:
                now = time.monotonic_ns()
                rest += data
                end = 0
                for found in STAMP.finditer(rest):
                    end = found.end()
                    yield (now - int(found[1])) / 1e6
                rest = rest[end:][-64:]
    selector.close()


def main() -> None:
    """
    Connect, and answer the lines of stdin.
    """
    port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if "urgent" in sys.argv:
        run_first()
    players = [Player(port, path)]
    list(reading(players, 1.0))
    while len(players) < count:
        players.append(Player(port, path))
        list(reading(players, _PACE))
    sys.stdout.write("open\n")
    sys.stdout.flush()
    for line in sys.stdin:
        before = [player.received for player in players]
        late = sorted(reading(players, float(line)))
        received = [player.received - old for player, old in zip(players, before, strict=True)]
        figures: dict[str, float] = {"bytes": sum(received), "least": min(received)}
        if late:
            figures |= {"p50": late[len(late) // 2], "p99": late[int(0.99 * (len(late) - 1))]}
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
