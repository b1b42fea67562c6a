"""
What patterns of channels cost: CPU per message published and per delivery, and memory.

    python -m benchmarks.patterns [--brokers memory,redis] [--channels 10000] [--rounds 3]

The daemon is a process of its own; its CPU and memory are the kernel's numbers (/proc).
Messages are published a hundred in a request, to all channels in turn, so that the cost of
requests is small. Each row is a new daemon. The first pass opens the channels, and is
shown apart. Medians are shown, of the other passes and of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import multiprocessing
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import memory_kib, raise_file_limit, times

BATCH = 100  # messages of a request
PASSES = 5  # over all channels; the first opens them
PATTERNS = 100
NESTED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" * 2
ROUTES = (
    r"^/p/(\d+)$ sse:subscribe=p$1.*,pattern=yes",
    r"^/n/(\w+)$ sse:subscribe=$1*,pattern=yes",
    "^/$ sse",
    "^/publish$ publish",
    "^/readyz$ ready",
)


@dataclass(frozen=True, slots=True)
class Row:
    """
    What one line of the table measures.

    Args:
        title: for the table.
        channel: the name of channel *number*.
        paths: one for each subscriber.
        deliveries: of each message.
    """

    title: str
    channel: Callable[[int], str]
    paths: Sequence[str] = ()
    deliveries: int = 0


def _apart(number: int) -> str:
    return f"p{number % PATTERNS}.{number // PATTERNS}"


def _nested(number: int) -> str:
    return f"{NESTED[:PATTERNS]}.{number}"


def rows(channels: int) -> list[Row]:
    """
    Return what is measured, with so many *channels*.
    """
    apart = [f"/p/{number}" for number in range(PATTERNS)]
    named = [
        "/?channels=" + ",".join(f"p{number}.{one}" for one in range(channels // PATTERNS))
        for number in range(PATTERNS)
    ]
    nested = [f"/n/{NESTED[: length + 1]}" for length in range(PATTERNS)]
    return [
        Row("no subscribers", _apart),
        Row("100 patterns of other channels", lambda number: f"x{number}", apart),
        Row("100 subscribers, each names its channels", _apart, named, 1),
        Row("100 patterns, one matches each channel", _apart, apart, 1),
        Row("1,000 subscribers of 100 patterns", _apart, apart * 10, 10),
        Row("100 patterns, all match each channel", _nested, nested, PATTERNS),
    ]


def _read(port: int, paths: Sequence[str], ready: Any) -> None:
    """
    Subscribe, set *ready*, and read until the daemon ends.
    """
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for path in paths:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = b""
        while b"id: " not in head:
            head += connection.recv(65536)
        assert b" 200 " in head, head
        sockets[connection.fileno()] = connection
        epoll.register(connection, select.EPOLLIN)
    ready.set()
    while sockets:
        for file, _ in epoll.poll():
            if not sockets[file].recv(1 << 20):
                epoll.unregister(file)
                sockets.pop(file).close()
        time.sleep(0.002)  # as many bytes as possible in one call


def _free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port: int = chosen.getsockname()[1]
        return port


@contextlib.contextmanager
def _redis(folder: str) -> Iterator[int]:
    port = _free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def _daemon(broker: str, channels: int) -> Iterator[tuple[int, int]]:
    """
    Run the daemon; yields its port and process.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        port = _free_port()
        twistd = str(Path(sys.executable).with_name("twistd"))
        command = [twistd, "-n", "--pidfile=", "realtime", f"--port={port}", "--history=10"]
        command += [f"--max-reader-channels={channels}", "--max-line=100k"]
        command += [f"--route={route}" for route in ROUTES]
        if broker == "redis":
            command += ["--broker=redis", f"--redis-port={stack.enter_context(_redis(folder))}"]
        process = stack.enter_context(
            subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        )
        stack.callback(process.terminate)
        for _ in range(600):
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    break
            time.sleep(0.05)
        yield port, process.pid


def _publish(port: int, names: Sequence[str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    headers = {"Content-Type": "application/x-ndjson"}
    for first in range(0, len(names), BATCH):
        body = "".join(
            f'{{"channel":"{name}","message":"{"x" * 100}"}}\n'
            for name in names[first : first + BATCH]
        )
        connection.request("POST", "/publish", body, headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
    connection.close()


def _cpu(pid: int) -> float:
    return times(pid).ran


def _measure(broker: str, row: Row, channels: int) -> tuple[float, float, float]:
    """
    Return microseconds for a message of the first pass and of the others, and MiB.
    """
    names = [row.channel(number) for number in range(channels)]
    with _daemon(broker, channels) as (port, pid):
        ready = multiprocessing.Event()
        reader = multiprocessing.Process(target=_read, args=(port, row.paths, ready), daemon=True)
        reader.start()
        ready.wait()
        spent: list[float] = []
        for _ in range(PASSES):
            before = _cpu(pid)
            _publish(port, names)
            time.sleep(0.3)
            spent.append((_cpu(pid) - before) / channels * 1e6)
        memory = memory_kib(pid) / 1024
    reader.join(5)
    reader.kill()
    return spent[0], statistics.median(spent[1:]), memory


def main() -> None:
    """
    Print a table for each broker.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.patterns", description=__doc__)
    parser.add_argument("--brokers", default="memory,redis")
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    raise_file_limit()
    for broker in chosen.brokers.split(","):
        print(f"{broker}, {chosen.channels:,} channels; load {os.getloadavg()[0]:.1f}")
        print("| | us/message, first pass | us/message | us/delivery | MiB |")
        print("| --- | ---: | ---: | ---: | ---: |")
        made = rows(chosen.channels)
        rounds = [
            [_measure(broker, row, chosen.channels) for row in made] for _ in range(chosen.rounds)
        ]
        silent = 0.0
        for row, measured in zip(made, zip(*rounds, strict=True), strict=True):
            first, later, memory = map(statistics.median, zip(*measured, strict=True))
            silent = silent or later
            delivery = f"{(later - silent) / row.deliveries:.1f}" if row.deliveries else ""
            print(f"| {row.title} | {first:.1f} | {later:.1f} | {delivery} | {memory:.0f} |")


if __name__ == "__main__":
    main()
