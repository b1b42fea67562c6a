"""
The daemon at rest: its memory after the start, and that of an empty twistd beside it.

    python -m benchmarks.rest                      memory of one process
    python -m benchmarks.rest -- --config=FILE     with more options for the daemon

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
from pathlib import Path
from statistics import median

from benchmarks.machine import free_port

ROUNDS = 3
SETTLE = 3.0  # seconds after the first response
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


def main(words: Sequence[str]) -> None:
    """
    Measure both, and print the medians.
    """
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
