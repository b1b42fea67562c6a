"""
The daemon at rest: its memory after the start, and that of an empty twistd beside it.

    python -m benchmarks.rest                      memory of one process
    python -m benchmarks.rest -- --config=FILE     with more options for the daemon
    python -m benchmarks.rest --workers            memory of each worker, with redis-server

It starts both on 127.0.0.1, in turn, three times each, and prints the medians. Compile the
modules before (`python -m compileall`): the first start after an installation takes more.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from benchmarks.machine import family, free_port

ROUNDS = 3
SETTLE = 3.0  # seconds after the first response
WORKERS = 4
SUBSCRIBERS, MESSAGES = 400, 500  # the work of all workers together
PLAIN = {"Content-Type": "text/plain"}
PATIENCE = 30.0  # seconds until the first response
EMPTY = "from twisted.application import service\napplication = service.Application('empty')\n"
RUN = "from twisted.scripts.twistd import run; run()"


def resident_mib(pid: int) -> float:
    """
    Return the resident memory of a process in MiB.
    """
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def started(options: Sequence[str], port: int | None) -> tuple[float, float]:
    """
    Start a twistd, and stop it again.

    Args:
        options: of twistd.
        port: that it answers HTTP on; None if it does not.

    Returns:
        the seconds until its first response, and its memory in MiB after it.
    """
    began = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", RUN, "-n", "--pidfile=", *options]) as twistd:
        while port is not None and not _answers(port):
            if time.monotonic() - began > PATIENCE:
                twistd.kill()
                raise SystemExit("the daemon does not answer")
            time.sleep(0.01)
        seconds = time.monotonic() - began
        time.sleep(SETTLE)
        memory = resident_mib(twistd.pid)
        twistd.send_signal(signal.SIGTERM)
    return seconds, memory


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def private_mib(pid: int) -> float:
    """
    Return the memory in MiB that a process has written and shares with no other.
    """
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("the kernel does not report private memory")


def workers(options: Sequence[str], folder: str) -> list[float]:
    """
    Return the private memory of WORKERS workers after some work, in MiB.

    Args:
        options: of the daemon.
        folder: for its log, which tells when all of them have started.
    """
    port, redis_port = free_port(), free_port()
    log = Path(folder, "workers.log")
    redis = ["redis-server", "--port", str(redis_port), "--save", "", "--appendonly", "no"]
    daemon = [
        *(sys.executable, "-c", RUN, "-n", "--pidfile=", f"--logfile={log}", "realtime"),
        *(f"--port={port}", f"--workers={WORKERS}", "--broker=redis"),
        *(f"--redis-port={redis_port}", *options),
    ]
    with (
        subprocess.Popen(redis, stdout=subprocess.DEVNULL) as broker,
        subprocess.Popen(daemon) as parent,
    ):
        began = time.monotonic()
        while not log.exists() or log.read_text().count("is up") < WORKERS:
            if time.monotonic() - began > PATIENCE:
                break
            time.sleep(0.1)
        else:
            _work(port)
            time.sleep(SETTLE)
        found = [
            private_mib(pid)
            for pid in family(parent.pid)
            if Path(f"/proc/{pid}/comm").read_text().startswith("realtime")
        ]
        parent.send_signal(signal.SIGTERM)
        parent.wait()
        broker.terminate()
    return found


def _work(port: int) -> None:
    """
    Have SUBSCRIBERS subscribe, publish MESSAGES to them, and disconnect them.
    """
    subscribers = []
    for _ in range(SUBSCRIBERS):
        subscribers.append(socket.create_connection(("127.0.0.1", port), 10))
        subscribers[-1].sendall(b"GET /?channels=news HTTP/1.1\r\nHost: localhost\r\n\r\n")
    publishers = [HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(4 * WORKERS)]
    for number in range(MESSAGES):
        publisher = publishers[number % len(publishers)]
        publisher.request("POST", "/publish?channel=news", 100 * "x", PLAIN)
        publisher.getresponse().read()
    for subscriber in subscribers:
        subscriber.close()
    for publisher in publishers:
        publisher.close()


def main(words: Sequence[str]) -> None:
    """
    Measure both, or the workers, and print the medians.
    """
    if "--workers" in words:
        with tempfile.TemporaryDirectory() as folder:
            options = [word for word in words if word not in ("--", "--workers")]
            found = workers(options, folder)
        print(f"private memory of a worker  {median(found):6.1f} MiB")
        return
    options = [word for word in words if word != "--"]
    with tempfile.TemporaryDirectory() as folder:
        empty, log = Path(folder, "empty.tac"), Path(folder, "log")
        empty.write_text(EMPTY)
        plain, ours, first = [], [], []
        for _ in range(ROUNDS):
            plain.append(started([f"--logfile={log}", f"-oy{empty}"], None)[1])
            port = free_port()
            daemon = [f"--logfile={log}", "realtime", f"--port={port}", *options]
            seconds, memory = started(daemon, port)
            first.append(seconds)
            ours.append(memory)
    print(f"empty twistd      {median(plain):6.1f} MiB")
    print(f"the daemon        {median(ours):6.1f} MiB")
    print(f"first response    {median(first):6.2f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
