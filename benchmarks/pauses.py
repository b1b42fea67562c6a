"""
Pauses of the reactor while messages flow on many channels.

    python -m benchmarks.pauses                        10,000 channels, 200,000 messages
    python -m benchmarks.pauses --channels 1000 --messages 20000

It prints how often Python's garbage collector ran in each generation, and its longest run in
processor time, so that other programs do not count; and the longest hold of the reactor, which is
wall time.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any, ClassVar

from zope.interface import implementer

from benchmarks.machine import free_port
from benchmarks.storm import PER_ADDRESS, daemon_command, start
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange

BATCH = 100  # messages of a request
READ_EACH = 50  # requests, then all subscribers read
ROUTES = (
    *("--route=^/$ sse", "--route=^/publish$ publish", "--route=^/stats$ stats:full"),
    "--route=^/runs$ benchmarks.pauses.ReportCollector",
)


class CollectorRuns:
    """
    The runs of the collector.

    Attributes:
        runs: by generation, how many, and the seconds of processor time of the longest one.
    """

    def __init__(self) -> None:
        self.runs: dict[int, tuple[int, float]] = {}
        self._began = 0.0
        gc.callbacks.append(self._on_run)

    def _on_run(self, phase: str, info: dict[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._began = now
        else:
            count, longest = self.runs.get(info["generation"], (0, 0.0))
            self.runs[info["generation"]] = count + 1, max(longest, now - self._began)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class ReportCollector:
    """
    Answer with the runs of the collector since the request before; the longest hold of the reactor
    begins anew, too.

    Args:
        context: of the daemon.
    """

    context: ActionContext

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        collector = self.context.shared.get(CollectorRuns, CollectorRuns)
        found, collector.runs = collector.runs, {}
        self.context.hub.metrics.restart_maxima()
        exchange.answer(200, json.dumps(found).encode(), "application/json")


def ask(port: int, path: str) -> Any:
    """
    Return the JSON of a response; its text, if it is not JSON.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    text = connection.getresponse().read()
    connection.close()
    return json.loads(text) if text.startswith(b"{") else text


@contextmanager
def subscribers(port: int, count: int) -> Iterator[list[socket.socket]]:
    """
    Subscribe to *count* channels, each on a connection of its own.
    """
    found = []
    for number in range(count):
        source = (f"127.0.0.{2 + number // PER_ADDRESS}", 0)
        found.append(socket.create_connection(("127.0.0.1", port), 60, source))
        found[-1].sendall(b"GET /?channels=c%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
    for each in found:
        each.recv(4096)
        each.setblocking(False)
    yield found
    for each in found:
        each.close()


def publish(port: int, channels: int, messages: int, readers: Sequence[socket.socket]) -> None:
    """
    Publish to all channels in turn, in batches; the subscribers read now and then.
    """
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(messages // BATCH):
        names = [f"c{(number * BATCH + at) % channels}" for at in range(BATCH)]
        body = "\n".join(json.dumps({"channel": name, "message": 100 * "x"}) for name in names)
        connection.request("POST", "/publish", body, {"Content-Type": "application/x-ndjson"})
        response = connection.getresponse()
        response.read()
        assert response.status == 200
        if number % READ_EACH == 0:
            for each in readers:
                while _reads(each):
                    pass
    connection.close()


def _reads(reader: socket.socket) -> bool:
    try:
        return bool(reader.recv(65536))
    except BlockingIOError:
        return False


def main(arguments: Sequence[str]) -> None:
    """
    Print the figures.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pauses")
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--messages", type=int, default=200_000)
    options = parser.parse_args(arguments)
    os.environ["PYTHONPATH"] = os.getcwd()
    port = free_port()
    daemon = start(port, daemon_command(port, *ROUTES))
    try:
        with subscribers(port, options.channels) as readers:
            ask(port, "/runs")
            publish(port, options.channels, options.messages, readers)
            stats, runs = ask(port, "/stats"), ask(port, "/runs")
    finally:
        daemon.terminate()
        daemon.wait()
    for generation, (count, seconds) in sorted(runs.items()):
        name = f"generation {generation}: {count} collections, longest"
        print(f"{name:38}{seconds * 1e3:6.1f} ms of CPU")
    held = stats["process"]["longest_hold_seconds"]
    print(f"longest hold of the reactor           {held * 1e3:6.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
