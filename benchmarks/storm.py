"""
All subscribers reconnect at once: the time until the last one is served, and the latency of
publishing meanwhile. nginx with nchan has no limit of the rate: compare it with that of 0.

    python -m benchmarks.storm                 15,000 subscribers, several rates
    python -m benchmarks.storm --readers 1000 --rates 0,500
    python -m benchmarks.storm --rates 0 --rounds 3 --nchan    in turn with nginx and nchan
"""

from __future__ import annotations

import argparse
import heapq
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from benchmarks.machine import times
from benchmarks.servers import nchan

PER_ADDRESS = 5000  # connections from one source address; ports end at some 28,000
IP_BIND_ADDRESS_NO_PORT = 24  # ip(7): connect chooses it, bind would search for seconds
EVERY = 0.02  # seconds between two messages
REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
SUBSCRIBE = "/?channels={}"  # the path of a channel
PUBLISH = "/publish?channel={}"
JOINED = b"\nid: "  # what a subscriber that has joined has received


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
        path: of a channel.
        joined: what a subscriber that has joined has received.
    """

    def __init__(
        self,
        port: int,
        count: int,
        channel: str = "news",
        reconnect: bool = True,
        path: str = SUBSCRIBE,
        joined: bytes = JOINED,
    ) -> None:
        self.clients = [StormClient(number) for number in range(count)]
        self._port = port
        self._request = REQUEST % path.format(channel).encode()
        self._joined = joined
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
        if self._joined in client.received:
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
        path: of a channel.
    """

    def __init__(self, port: int, channel: str = "news", path: str = PUBLISH) -> None:
        self.took: list[float] = []
        self._connection = HTTPConnection("127.0.0.1", port, timeout=30)
        self._path = path.format(channel)
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
            self._connection.request("POST", self._path, b"x" * 100, headers)
            self._connection.getresponse().read()
            self.took.append(time.monotonic() - start)
            time.sleep(EVERY)


def daemon_command(port: int, *options: str) -> Sequence[str]:
    """
    Return the command line of a daemon.
    """
    twistd = str(Path(sys.executable).with_name("twistd"))
    return [twistd, "-n", "--pidfile=", "realtime", f"--port={port}", *options]


def start(port: int, command: Sequence[str]) -> subprocess.Popen[bytes]:
    """
    Start a server, and wait until it accepts connections.
    """
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


def measure(port: int, readers: int, rate: int | None, queue: int) -> list[str]:
    """
    Return a row of the table: limit, seconds until half and all are served, number of
    refusals, CPU of the server in seconds, publishing in ms: median, 99 of 100, longest.

    Args:
        port: a free one.
        readers: how many return.
        rate: `join-rate` and...
        queue: ...`join-queue`; None for nginx with nchan instead of the daemon.
    """
    os.setpriority(os.PRIO_PROCESS, 0, 0)  # children inherit it
    publish, path, joined = PUBLISH, SUBSCRIBE, JOINED
    home = tempfile.TemporaryDirectory()
    if rate is None:
        path, publish, joined = "/read/{}", "/publish/{}", b"\r\n\r\n"
        server = start(port, nchan().command(port, Path(home.name)))
    else:
        limits = f"--join-rate={rate}", f"--join-queue={queue}"
        server = start(port, daemon_command(port, *limits))
    before = times(server.pid).ran
    publisher = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.storm", "--publish", str(port), "--path", publish],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(0.2)
    storm = Storm(port, readers, path=path, joined=joined)
    os.setpriority(os.PRIO_PROCESS, 0, 10)  # the process that measures publishing has precedence
    try:
        storm.run(600)
    finally:
        output, _ = publisher.communicate("\n")
        cpu = times(server.pid).ran - before
        storm.close()
        server.terminate()
        server.wait()
        home.cleanup()
    served = sorted(client.joined for client in storm.clients)
    away = sum(len(client.retry_after) for client in storm.clients)
    label = "nchan" if rate is None else str(rate or "-")
    return [label, f"{served[len(served) // 2]:.1f}", f"{served[-1]:.1f}", str(away),
            f"{cpu:.2f}", *output.split()]  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """
    Print the table.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.storm")
    parser.add_argument("--readers", type=int, default=15_000)
    parser.add_argument("--rates", default="0,5000,2000,1000,500")
    parser.add_argument("--queue", type=int, default=20_000)
    parser.add_argument("--port", type=int, default=18_888)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--nchan", action="store_true")
    parser.add_argument("--publish", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options: Any = parser.parse_args(arguments)
    os.sched_setaffinity(0, {*range(1, os.cpu_count() or 1)} or {0})
    out = sys.stdout.write
    if options.publish:
        publishing = Publishing(options.publish, "other", options.path)
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
        "CPU, s",
        "publish ms: median",
        "99 %",
        "most",
    )
    out(f"| {' | '.join(names)} |\n")
    out(f"|{' --- |' * len(names)}\n")
    rates: list[int | None] = [int(rate) for rate in options.rates.split(",")]
    rates = (rates + [None] * options.nchan) * options.rounds
    for number, rate in enumerate(rates):
        row = measure(options.port + number, options.readers, rate, options.queue)
        out(f"| {' | '.join(row)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
