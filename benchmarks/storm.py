"""
All readers come back at once: how long until the last is served, and what becomes
of publishing meanwhile.

    python -m benchmarks.storm                 15,000 readers, several rates
    python -m benchmarks.storm --readers 1000 --rates 0,500
"""

from __future__ import annotations

import argparse
import heapq
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

PER_ADDRESS = 5000  # connections from one source address; ports end at some 28,000
IP_BIND_ADDRESS_NO_PORT = 24  # ip(7): connect chooses it, bind would search for seconds
EVERY = 0.02  # seconds between two messages
REQUEST = b"GET /?channels=%s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


@dataclass(eq=False)
class Comer:
    """
    A client that wants to subscribe.
    """

    number: int
    connection: socket.socket | None = None
    heard: bytes = b""
    joined: float = 0.0  # seconds after the storm began; 0 for not yet
    told: list[int] = field(default_factory=list)  # each Retry-After it got


class Storm:
    """
    Readers that all connect at once, and retry after the time in Retry-After.

    Args:
        port: of the daemon.
        count: how many.
        channel: what they read.
        come_back: whether those sent away do so.
    """

    def __init__(
        self, port: int, count: int, channel: str = "news", come_back: bool = True
    ) -> None:
        self.comers = [Comer(number) for number in range(count)]
        self._port = port
        self._request = REQUEST % channel.encode()
        self._come_back = come_back
        self._poll = selectors.EpollSelector()
        self._later: list[tuple[float, int]] = []
        self._begun = time.monotonic()

    def rage(self, seconds: float) -> float:
        """
        Until everybody has joined, or has been sent away for good.

        Returns:
            how long that took.

        Raises:
            AssertionError: longer than *seconds*.
        """
        self._begun = time.monotonic()
        for comer in self.comers:
            self._knock(comer)
        left = len(self.comers)
        while left:
            now = time.monotonic() - self._begun
            assert now < seconds, f"{left} of {len(self.comers)} still wait"
            while self._later and self._later[0][0] <= now:
                self._knock(self.comers[heapq.heappop(self._later)[1]])
            for key, events in self._poll.select(0.01):
                left -= self._turn(key.data, events)
        return time.monotonic() - self._begun

    def end(self) -> None:
        """
        All hang up.
        """
        for comer in self.comers:
            if comer.connection is not None:
                comer.connection.close()
        self._poll.close()

    def _knock(self, comer: Comer) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((f"127.0.0.{2 + comer.number // PER_ADDRESS}", 0))
        connection.connect_ex(("127.0.0.1", self._port))
        comer.connection, comer.heard = connection, b""
        self._poll.register(connection, selectors.EVENT_WRITE, comer)

    def _turn(self, comer: Comer, events: int) -> bool:
        """
        Returns:
            whether *comer* is where it wanted to be.
        """
        connection = comer.connection
        assert connection is not None
        if events & selectors.EVENT_WRITE:
            connection.send(self._request)
            self._poll.modify(connection, selectors.EVENT_READ, comer)
            return False
        data = connection.recv(65536)
        comer.heard += data
        if b"\nid: " in comer.heard:
            comer.joined = time.monotonic() - self._begun
            self._poll.unregister(connection)
            return True
        if comer.heard.startswith(b"HTTP/1.1 503"):
            moment = int(comer.heard.partition(b"Retry-After: ")[2].split()[0])
            comer.told.append(moment)
        elif data:
            return False
        else:
            moment = 2  # hung up on, as its own request came too late; a browser's retry
        self._poll.unregister(connection)
        connection.close()
        comer.connection = None
        if self._come_back:
            heapq.heappush(self._later, (time.monotonic() - self._begun + moment, comer.number))
        return not self._come_back


class Publishing:
    """
    A thread that publishes all the time and measures how long each answer takes.

    Args:
        port: of the daemon.
        channel: where to.
    """

    def __init__(self, port: int, channel: str = "news") -> None:
        self.took: list[float] = []
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._channel = channel
        self._over = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> list[float]:
        """
        Stop publishing, and return the seconds that each publication took, sorted.
        """
        self._over = True
        self._thread.join()
        self._connection.close()
        return sorted(self.took)

    def _run(self) -> None:
        headers = {"Content-Type": "text/plain"}
        while not self._over:
            begun = time.monotonic()
            path = f"/publish?channel={self._channel}"
            self._connection.request("POST", path, b"x" * 100, headers)
            self._connection.getresponse().read()
            self.took.append(time.monotonic() - begun)
            time.sleep(EVERY)


def start(port: int, *options: str) -> subprocess.Popen[bytes]:
    """
    A daemon that accepts connections.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    command = [twistd, "-n", "--pidfile=", "realtime", f"--port={port}", *options]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)), f"somebody listens on port {port}"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    # The daemon has a core, as in the other benchmarks.
    os.sched_setaffinity(process.pid, {0})
    while process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return process
    raise RuntimeError(f"the daemon ended with status {process.returncode}")


def measure(port: int, readers: int, rate: int, queue: int) -> list[str]:
    """
    A row of the table: limit, seconds until half and all are served, how often
    somebody was sent away, publishing in ms: median, 99 of 100, longest.
    """
    os.setpriority(os.PRIO_PROCESS, 0, 0)  # children inherit it
    daemon = start(port, f"--join-rate={rate}", f"--join-queue={queue}")
    publisher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.storm", "--publish", str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.2)
    storm = Storm(port, readers)
    os.setpriority(os.PRIO_PROCESS, 0, 10)  # who measures publishing comes first
    try:
        storm.rage(600)
    finally:
        said, _ = publisher.communicate("\n")
        storm.end()
        daemon.terminate()
        daemon.wait()
    joined = sorted(comer.joined for comer in storm.comers)
    away = sum(len(comer.told) for comer in storm.comers)
    return [str(rate or "-"), f"{joined[len(joined) // 2]:.1f}", f"{joined[-1]:.1f}", str(away),
            *said.split()]  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """
    Print the table.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm")
    parser.add_argument("--readers", type=int, default=15_000)
    parser.add_argument("--rates", default="0,5000,2000,1000,500")
    parser.add_argument("--queue", type=int, default=20_000)
    parser.add_argument("--port", type=int, default=18_888)
    parser.add_argument("--publish", type=int, help=argparse.SUPPRESS)
    given: Any = parser.parse_args(arguments)
    os.sched_setaffinity(0, {*range(1, os.cpu_count() or 1)} or {0})
    out = sys.stdout.write
    if given.publish:
        publishing = Publishing(given.publish, "other")
        sys.stdin.readline()
        took = publishing.end()
        marks = took[len(took) // 2], took[len(took) * 99 // 100], took[-1]
        out(" ".join(f"{mark * 1e3:.1f}" for mark in marks))
        return
    out(f"{given.readers} readers, a queue of {given.queue}\n\n")
    names = (
        "join-rate",
        "half served, s",
        "all, s",
        "sent away",
        "publish ms: median",
        "99 %",
        "most",
    )
    out(f"| {' | '.join(names)} |\n")
    out("| --- | --- | --- | --- | --- | --- | --- |\n")
    for number, rate in enumerate(map(int, given.rates.split(","))):
        out(f"| {' | '.join(measure(given.port + number, given.readers, rate, given.queue))} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
