"""
`python -m benchmarks.proxy`: what passing a request on to an application costs, beside nginx and
HAProxy.

An nginx answers as the application, from memory and from a file. The clients keep 16 connections.
The figures are the CPU of the proxy alone. Meanwhile another client, a process of its own, asks
for 100 bytes now and then through the same proxy: how long it waits shows how long the large
bodies hold it.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from benchmarks.access import daemon, running
from benchmarks.machine import SetupError, free_port, times

CONNECTIONS = 16
SMALL = 100  # bytes
LARGE = 10_000_000
_PAUSE = 0.02  # s between two requests of the other client

_NGINX = """\
daemon off; master_process off; pid {folder}/{name}.pid; error_log stderr crit; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; keepalive_requests 1000000; client_body_temp_path {folder};
    proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    {content}
}}
"""
_APPLICATION = """
    server {{
        listen 127.0.0.1:{port}; root {folder};
        location = /small {{ return 200 "{small}"; }}
    }}
"""
_PROXY = """
    upstream application {{ server 127.0.0.1:{application}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://application; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;
            proxy_buffering {buffering}; proxy_max_temp_file_size 0;
        }}
    }}
"""
_HAPROXY = """\
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
    option forwardfor
    http-reuse always
frontend front
    bind 127.0.0.1:{port}
    default_backend application
backend application
    server one 127.0.0.1:{application}
global
    nbthread 1
"""


def program(name: str) -> str:
    """
    Return the path of *name*.

    Raises:
        SetupError: it is not installed.
    """
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise SetupError(f"{name} is not installed: Debian has it as {name}.")
    return found


def nginx(folder: Path, name: str, content: str) -> Sequence[str]:
    """
    Return the command of an nginx of one process.
    """
    user = "user root;" if os.geteuid() == 0 else ""
    path = folder / f"{name}.conf"
    path.write_text(_NGINX.format(folder=folder, name=name, content=content, user=user))
    return (program("nginx"), "-p", str(folder), "-c", str(path), "-e", "stderr")


def haproxy(folder: Path, port: int, application: int) -> Sequence[str]:
    """
    Return the command of an HAProxy of one thread.
    """
    path = folder / "haproxy.cfg"
    path.write_text(_HAPROXY.format(port=port, application=application))
    return (program("haproxy"), "-f", str(path), "-db")


def fetch(client: socket.socket, path: str, size: int) -> None:
    """
    Send one request, and read its response of *size* bytes.

    Raises:
        SetupError: there is another response.
    """
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        piece = client.recv(65536)
        head += piece
        if not piece or not head.startswith(b"HTTP/1.1 200"):
            raise SetupError(f"a request is refused: {head[:200]!r}")
    left = size - len(head.partition(b"\r\n\r\n")[2])
    buffer = bytearray(1 << 18)
    while left > 0:
        received = client.recv_into(buffer)
        if not received:
            raise SetupError("a response breaks off")
        left -= received


def ask_now_and_then(port: int) -> None:
    """
    Ask for a small body until the input ends, and print the p99 of the waits in milliseconds.
    """
    waits: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not waits or not select.select([sys.stdin], [], [], _PAUSE)[0]:
            since = time.monotonic()
            fetch(client, "/small", SMALL)
            waits.append((time.monotonic() - since) * 1000)
            if len(waits) == 1:
                print("begun", flush=True)
    waits.sort()
    sys.stdout.write(f"{waits[int(len(waits) * 0.99) - 1]}\n")


@contextmanager
def another_client(port: int, found: list[float]) -> Iterator[None]:
    """
    Ask for small bodies meanwhile, from another process, and append the p99 of the waits.
    """
    command = [sys.executable, "-m", "benchmarks.proxy", "--wait", str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        output, _ = process.communicate()
    found.append(float(output))


def cost(pid: int, port: int, path: str, size: int, count: int) -> float:
    """
    Return the CPU of process *pid* for one of *count* requests, in microseconds.
    """

    def work(number: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(number):
                fetch(client, path, size)

    clients = [
        threading.Thread(target=work, args=(count // CONNECTIONS,)) for _ in range(CONNECTIONS)
    ]
    before = times(pid).ran
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return (times(pid).ran - before) / (count // CONNECTIONS * CONNECTIONS) * 1e6


Proxies = list[tuple[str, int, int]]  # name, process and port


@contextmanager
def proxies(folder: Path) -> Iterator[Proxies]:
    """
    Run the application and all proxies in front of it.
    """
    ports = [free_port() for _ in range(4)]
    application, *fronts = ports
    (folder / "large").write_bytes(bytes(LARGE))
    content = _APPLICATION.format(port=application, folder=folder, small="x" * SMALL)
    front = _PROXY.format(port=fronts[1], application=application, buffering="on")
    with (
        running(nginx(folder, "application", content), application),
        running(daemon(fronts[0], f"--route=^/ http:127.0.0.1:{application}"), fronts[0]) as ours,
        running(nginx(folder, "proxy", front), fronts[1]) as theirs,
        running(haproxy(folder, fronts[2], application), fronts[2]) as third,
    ):
        yield [
            ("rt_twisted", ours.pid, fronts[0]),
            ("nginx", theirs.pid, fronts[1]),
            ("HAProxy", third.pid, fronts[2]),
        ]


def measure(found: Proxies, given: argparse.Namespace, note: Callable[..., None]) -> None:
    """
    Measure each proxy once, and pass the figures on to *note*: the name, the kind, the value.
    """
    for name, pid, port in found:
        cost(pid, port, "/small", SMALL, 320)  # the first requests are slower
        note(name, "100 bytes, us", cost(pid, port, "/small", SMALL, given.requests))
        waits: list[float] = []
        with another_client(port, waits):
            note(name, "10 MB, us", cost(pid, port, "/large", LARGE, given.large))
        note(name, "wait p99, ms", waits[0])


def main() -> int:
    """
    Print a table of the costs.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=8000, help="of 100 bytes, in each round")
    parser.add_argument("--large", type=int, default=96, help="requests of 10 MB, in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wait", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.wait:
        ask_now_and_then(given.wait)
        return 0
    figures: dict[str, dict[str, list[float]]] = {}

    def note(name: str, kind: str, value: float) -> None:
        figures.setdefault(name, {}).setdefault(kind, []).append(value)

    with TemporaryDirectory() as folder, proxies(Path(folder)) as found:
        for _ in range(given.rounds):
            measure(found, given, note)
    kinds = list(figures["nginx"])
    print(f"| | {' | '.join(kinds)} |\n| --- |{' --- |' * len(kinds)}")
    for name, row in figures.items():
        cells = [f"{median(row[kind]):,.1f}" for kind in kinds]
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SetupError as error:
        sys.exit(str(error))
