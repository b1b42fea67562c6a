"""
All subscribers reconnect at once: the time until the last one is served, and the latency of
publishing meanwhile.

    python -m benchmarks.storm                 15,000 subscribers, several rates
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
class StormClient:
    """
    A client that subscribes.
    """

    number: int
    connection: socket.socket | None = None
    received: bytes = b""
    joined: float = 0.0  # seconds after the storm began; 0 before that
    retry_after: list[int] = field(default_factory=list)  # each received Retry-After


class Storm:
    """
    Clients that all connect at once, and retry after the time in Retry-After.

    Args:
        port: of the daemon.
        count: number of clients.
        channel: that they subscribe to.
        reconnect: whether refused clients retry.
    """

    def __init__(
        self, port: int, count: int, channel: str = "news", reconnect: bool = True
    ) -> None:
        self.clients = [StormClient(number) for number in range(count)]
        self._port = port
        self._request = REQUEST % channel.encode()
        self._reconnect = reconnect
        self._selector = selectors.EpollSelector()
        self._later: list[tuple[float, int]] = []
        self._start = time.monotonic()

    def run(self, seconds: float) -> float:
        """
        Connect all clients, and wait until each is subscribed or finally refused.

        Returns:
            the duration in seconds.

        Raises:
            AssertionError: it took longer than *seconds*.
        """
        self._start = time.monotonic()
        for client in self.clients:
            self._connect(client)
        left = len(self.clients)
        while left:
            now = time.monotonic() - self._start
            assert now < seconds, f"{left} of {len(self.clients)} still wait"
            while self._later and self._later[0][0] <= now:
                self._connect(self.clients[heapq.heappop(self._later)[1]])
            for key, events in self._selector.select(0.01):
                left -= self._process(key.data, events)
        return time.monotonic() - self._start

    def close(self) -> None:
        """
        Close all connections.
        """
        for client in self.clients:
            if client.connection is not None:
                client.connection.close()
        self._selector.close()

    def _connect(self, client: StormClient) -> None:
        connection = socket.socket()
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        connection.bind((f"127.0.0.{2 + client.number // PER_ADDRESS}", 0))
        connection.connect_ex(("127.0.0.1", self._port))
        client.connection, client.received = connection, b""
        self._selector.register(connection, selectors.EVENT_WRITE, client)

    def _process(self, client: StormClient, events: int) -> bool:
        """
        Process events of a client's socket.

        Returns:
            whether *client* is finished: subscribed, or refused without a retry.
        """
        connection = client.connection
        assert connection is not None
        if events & selectors.EVENT_WRITE:
            connection.send(self._request)
            self._selector.modify(connection, selectors.EVENT_READ, client)
            return False
        data = connection.recv(65536)
        client.received += data
        if b"\nid: " in client.received:
            client.joined = time.monotonic() - self._start
            self._selector.unregister(connection)
            return True
        if client.received.startswith(b"HTTP/1.1 503"):
            delay = int(client.received.partition(b"Retry-After: ")[2].split()[0])
            client.retry_after.append(delay)
        elif data:
            return False
        else:
            delay = 2  # closed, as its request was late; a browser's delay
        self._selector.unregister(connection)
        connection.close()
        client.connection = None
        if self._reconnect:
            heapq.heappush(self._later, (time.monotonic() - self._start + delay, client.number))
        return not self._reconnect


class Publishing:
    """
    A thread that publishes all the time and measures the duration of each request.

    Args:
        port: of the daemon.
        channel: of the messages.
    """

    def __init__(self, port: int, channel: str = "news") -> None:
        self.took: list[float] = []
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._channel = channel
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> list[float]:
        """
        Stop publishing, and return the seconds that each publication took, sorted.
        """
        self._stopping = True
        self._thread.join()
        self._connection.close()
        return sorted(self.took)

    def _run(self) -> None:
        headers = {"Content-Type": "text/plain"}
        while not self._stopping:
            start = time.monotonic()
            path = f"/publish?channel={self._channel}"
            self._connection.request("POST", path, b"x" * 100, headers)
            self._connection.getresponse().read()
            self.took.append(time.monotonic() - start)
            time.sleep(EVERY)


def start(port: int, *options: str) -> subprocess.Popen[bytes]:
    """
    Start a daemon, and wait until it accepts connections.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    command = [twistd, "-n", "--pidfile=", "realtime", f"--port={port}", *options]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)), f"another process listens on port {port}"
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
    Return a row of the table: limit, seconds until half and all are served, number of
    refusals, publishing in ms: median, 99 of 100, longest.
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
    os.setpriority(os.PRIO_PROCESS, 0, 10)  # the process that measures publishing has precedence
    try:
        storm.run(600)
    finally:
        output, _ = publisher.communicate("\n")
        storm.close()
        daemon.terminate()
        daemon.wait()
    joined = sorted(client.joined for client in storm.clients)
    away = sum(len(client.retry_after) for client in storm.clients)
    return [str(rate or "-"), f"{joined[len(joined) // 2]:.1f}", f"{joined[-1]:.1f}", str(away),
            *output.split()]  # fmt: skip


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
    options: Any = parser.parse_args(arguments)
    os.sched_setaffinity(0, {*range(1, os.cpu_count() or 1)} or {0})
    out = sys.stdout.write
    if options.publish:
        publishing = Publishing(options.publish, "other")
        sys.stdin.readline()
        took = publishing.stop()
        percentiles = took[len(took) // 2], took[len(took) * 99 // 100], took[-1]
        out(" ".join(f"{value * 1e3:.1f}" for value in percentiles))
        return
    out(f"{options.readers} readers, a queue of {options.queue}\n\n")
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
    for number, rate in enumerate(map(int, options.rates.split(","))):
        row = measure(options.port + number, options.readers, rate, options.queue)
        out(f"| {' | '.join(row)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
