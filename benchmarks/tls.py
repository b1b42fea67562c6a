"""
Costs of TLS and HTTP/2: CPU per delivery and memory per idle subscriber of one daemon, by
several kinds of connections; then CPU per viewer of a live stream.

    python -m benchmarks.tls [READERS]

The daemon and its subscribers are separate processes; CPU and memory are those of /proc. Ratios
matter more than digits.
"""

from __future__ import annotations

import http.client
import multiprocessing
import select
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import h2.config
import h2.connection
import h2.settings

from benchmarks.media_servers import encode, publishing
from benchmarks.servers import wait_until_it_accepts
from tests.pems import Authority

MESSAGES = 100
PAUSE = 0.02  # seconds between two messages, so that none are joined
ROUNDS = 3
BODY = "x" * 100
HUGE = 2**31 - 1
CHANNEL = "/?channels=news"
STREAM = "/live/cam.mp4"
VIEWERS = 100
VIEWED = 10.0  # seconds


@dataclass(frozen=True, slots=True)
class Variant:
    """
    A kind of connection.

    Args:
        name: for the table.
        port: `plain`, `ours` or `twisted`, one of the daemon's.
        streams: of HTTP/2 on each connection; 0 for HTTP/1.1.
        kind: of the certificate's key.
    """

    name: str
    port: str
    streams: int = 0
    kind: str = "ecdsa"


VARIANTS = (
    Variant("plain, HTTP/1.1", "plain"),
    Variant("TLS, HTTP/1.1, `ssl:` endpoint (Twisted's transport)", "twisted"),
    Variant("TLS, HTTP/1.1, `--use-ssl` (ours)", "ours"),
    Variant("TLS, HTTP/2, one stream on each connection", "ours", 1),
    Variant("TLS, HTTP/2, 50 streams on each connection", "ours", 50),
)


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _daemon(kind: str) -> Iterator[tuple[int, dict[str, int]]]:
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Authority(Path(folder)).pair("bench", "localhost", kind=kind)
        ports = {name: _port() for name in ("plain", "ours", "twisted")}
        command = [
            *(str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "realtime"),
            *(f"--port={ports['plain']}", "--use-ssl=1", f"--ssl-port={ports['ours']}"),
            *(f"--ssl-cert={certificate}", f"--ssl-key={key}"),
            f"--endpoint=ssl:{ports['twisted']}:interface=127.0.0.1"
            f":privateKey={key}:certKey={certificate}",
        ]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
            try:
                for port in ports.values():
                    wait_until_it_accepts(process, port)
                yield process.pid, ports
            finally:
                process.terminate()


def _read(port: int, variant: Variant, path: str, readers: int, ready: Any) -> None:
    """
    Connect the subscribers of *path*, set *ready*, and read until the process is killed.
    """
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"] if variant.streams else ["http/1.1"])
    poll = select.epoll()
    socks: dict[int, Any] = {}
    for _ in range(readers // max(variant.streams, 1)):
        sock: Any = socket.create_connection(("127.0.0.1", port))
        if variant.port != "plain":
            sock = context.wrap_socket(sock)
        sock.sendall(_requests(variant, path))
        sock.setblocking(False)
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    ready.set()
    while True:
        for number, _ in poll.poll():
            try:
                while socks[number].recv(1 << 16):
                    pass
            except (BlockingIOError, ssl.SSLWantReadError):
                pass


@contextmanager
def _reading(port: int, variant: Variant, path: str, readers: int) -> Iterator[None]:
    ready = multiprocessing.Event()
    arguments = (port, variant, path, readers, ready)
    process = multiprocessing.Process(target=_read, args=arguments, daemon=True)
    process.start()
    try:
        ready.wait()
        yield
    finally:
        process.kill()
        process.join()


def _requests(variant: Variant, path: str) -> bytes:
    if not variant.streams:
        return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    window = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
    talk.local_settings = h2.settings.Settings(client=True, initial_values={window: HUGE})
    talk.initiate_connection()
    talk.increment_flow_control_window(HUGE - 65535)
    head = ((":method", "GET"), (":scheme", "https"), (":authority", "a"))
    for number in range(1, 2 * variant.streams, 2):
        talk.send_headers(number, [*head, (":path", path)], end_stream=True)
    return talk.data_to_send()


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _memory(pid: int) -> float:
    """
    Return the resident memory of a process in KiB.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmRSS")))


def _publish(port: int, count: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = urlencode({"channel": "news", "message": BODY})
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    for _ in range(count):
        connection.request("POST", "/publish", body, headers)
        connection.getresponse().read()
        time.sleep(PAUSE)
    connection.close()


def _measure(variant: Variant, readers: int) -> tuple[float, float, float]:
    """
    Measure one variant.

    Returns:
        microseconds of CPU per delivery, and per new subscriber; KiB per idle subscriber.
    """
    with _daemon(variant.kind) as (pid, ports):
        _publish(ports["plain"], 20)
        before = _cpu(pid)
        _publish(ports["plain"], MESSAGES)
        alone = _cpu(pid) - before
        memory, before = _memory(pid), _cpu(pid)
        with _reading(ports[variant.port], variant, CHANNEL, readers):
            time.sleep(1)
            joined = (_cpu(pid) - before) / readers
            idle = (_memory(pid) - memory) / readers
            spent = []
            for _ in range(ROUNDS):
                before = _cpu(pid)
                _publish(ports["plain"], MESSAGES)
                time.sleep(1)
                spent.append(_cpu(pid) - before - alone)
    return statistics.median(spent) / MESSAGES / readers * 1e6, joined * 1e6, idle


def _spent(pid: int) -> float:
    before = _cpu(pid)
    time.sleep(VIEWED)
    return (_cpu(pid) - before) / VIEWED


def _measure_viewers(variant: Variant, folder: Path) -> float:
    """
    Return the CPU that a viewer of H264 and AAC at 1 Mbit/s takes, as a share of a core.
    """
    with _daemon(variant.kind) as (pid, ports):
        url = f"http://127.0.0.1:{ports['plain']}{STREAM}"
        with publishing(encode(folder, "mp4"), "mp4", url):
            time.sleep(3)
            alone = _spent(pid)
            with _reading(ports[variant.port], variant, STREAM, VIEWERS):
                time.sleep(2)
                return (_spent(pid) - alone) / VIEWERS


def main(readers: int) -> None:
    """
    Print two tables.
    """
    print(f"{readers} subscribers, {MESSAGES} messages of {len(BODY)} bytes, median of {ROUNDS}\n")
    print("| connection | us per delivery | ratio | us per new subscriber | KiB per idle one |")
    print("| --- | --- | --- | --- | --- |")
    least = 0.0
    for variant in VARIANTS:
        delivery, joined, idle = _measure(variant, readers)
        least = least or delivery
        ratio = delivery / least
        print(
            f"| {variant.name} | {delivery:.1f} | {ratio:.1f} | {joined:.0f} | {idle:.1f} |",
            flush=True,
        )
    print(f"\n{VIEWERS} viewers of a live stream of 1 Mbit/s, {VIEWED:.0f} s\n")
    print("| connection | of a core per viewer | ratio |")
    print("| --- | --- | --- |")
    least = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for variant in VARIANTS[:4]:
            share = _measure_viewers(variant, Path(folder))
            least = least or share
            print(f"| {variant.name} | {100 * share:.3f} % | {share / least:.1f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
