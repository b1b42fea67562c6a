"""
Costs of a history file: processor time per message, acknowledged messages per second, and the
latency of publishing, with the file and without.

    python -m benchmarks.journal [--rounds 3] [--folder /where/the/file/shall/be]

Server and load have a core each. A daemon without the file and one with it take
turns; values are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.machine import alone, cores, free_port

SECONDS = 3.0  # each measure
SIZE = 100  # bytes of a message
BATCH = 100
CHANNELS = 100
MODES = {"one after the other": (1, 1), "sixteen in flight": (16, 1), "batches of 100": (4, BATCH)}


@contextmanager
def daemon(options: list[str]) -> Iterator[tuple[int, int]]:
    """
    Run a daemon on the first core.

    Yields:
        its process id and its port.
    """
    port = free_port()
    twistd = str(Path(sys.executable).with_name("twistd"))
    command = [twistd, "-n", "--pidfile=", "realtime", f"--port={port}", *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, {cores()[0]}),
        )
        try:
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield process.pid, port
        finally:
            process.terminate()
            process.wait()


def busy(pid: int) -> float:
    """
    Return the processor time of all threads of a process in seconds.
    """
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def request(number: int, batch: int) -> bytes:
    """
    Encode a request that publishes *batch* messages.
    """
    channel = f"c{number % CHANNELS}"
    text = "x" * SIZE
    if batch == 1:
        head = f"POST /publish?channel={channel} HTTP/1.1\r\nHost: localhost\r\n"
        body, kind = text, "text/plain"
    else:
        head = "POST /publish HTTP/1.1\r\nHost: localhost\r\n"
        body = f'{{"channel":"{channel}","message":"{text}"}}\n' * batch
        kind = "application/x-ndjson"
    return f"{head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def measure(pid: int, port: int, inflight: int, batch: int) -> tuple[float, float, float, float]:
    """
    Publish for a while.

    Returns:
        microseconds of processor time per message; messages per second; median
        and 99th percentile of the milliseconds to a response.
    """
    import selectors

    requests = [request(number, batch) for number in range(CHANNELS)]
    selector = selectors.DefaultSelector()
    started: dict[socket.socket, float] = {}
    for _ in range(inflight):
        one = socket.create_connection(("127.0.0.1", port))
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(one, selectors.EVENT_READ)
        started[one] = 0.0
    waits: list[float] = []
    number = 0
    begin, before = time.perf_counter(), busy(pid)
    for one in started:
        started[one] = time.perf_counter()
        one.sendall(requests[number % CHANNELS])
        number += 1
    while time.perf_counter() - begin < SECONDS:
        for key, _ in selector.select():
            one = key.fileobj  # type: ignore[assignment]  # all are sockets
            answer = one.recv(4096)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(f"the daemon said {answer!r}")
            now = time.perf_counter()
            waits.append(now - started[one])
            started[one] = now
            one.sendall(requests[number % CHANNELS])
            number += 1
    took, used = time.perf_counter() - begin, busy(pid) - before
    for one in started:
        one.close()
    messages = len(waits) * batch
    waits.sort()
    return (
        used / messages * 1e6,
        messages / took,
        statistics.median(waits) * 1e3,
        waits[len(waits) * 99 // 100] * 1e3,
    )


def main() -> None:
    """
    Measure, and print a table.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", default=None, help="where the file is; a temporary one if not")
    arguments = parser.parse_args()
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    with alone():
        os.sched_setaffinity(0, {cores()[1]})
        for round in range(arguments.rounds):
            for kind in ("without", "with") if round % 2 else ("with", "without"):
                with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
                    options = [f"--history-file={folder}/log"] if kind == "with" else []
                    with daemon(options) as (pid, port):
                        measure(pid, port, 4, 10)  # warm up
                        for mode, (inflight, batch) in MODES.items():
                            result = measure(pid, port, inflight, batch)
                            found.setdefault((mode, kind), []).append(result)
    print(
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, Python {platform.python_version()}"
    )
    print("\n| publishing | file | CPU, us a message | messages/s | answer after, ms (p50) | p99 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (mode, kind), results in sorted(
        found.items(), key=lambda one: (list(MODES).index(one[0][0]), one[0][1] == "with")
    ):
        cpu, rate, half, most = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"| {mode} | {kind} | {cpu:.0f} | {rate:,.0f} | {half:.2f} | {most:.2f} |")


if __name__ == "__main__":
    main()
