"""
1,000 listeners of MP3 at 128 kbit/s beside icecast2, in turn within the same minutes.

    python -m benchmarks.radio                      5 rounds
    python -m benchmarks.radio --rounds 1 --seconds 5 --listeners 300

The server has one core, the source and the listeners another. A tenth of the listeners is measured
once more with small receive buffers, as players that read what they play: what was sent before
waits on the server. It prints the medians, and needs icecast2 (Debian).
"""

from __future__ import annotations

import argparse
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import alone, cores, description, free_port, memory_kib, times

FRAME = bytes.fromhex("fffb9064").ljust(417, b"\x55")  # 128 kbit/s, 44.1 kHz: 26 ms
PERIOD = 1152 / 44100  # seconds of a frame
RATE = len(FRAME) / PERIOD  # bytes per second
RECEIVE_BUFFER = 8192  # bytes, of players that read what they play
RETAINED = 21.0  # seconds of the stream that the daemon retains, and one more
_PASSWORD = "hackme"
_PATIENCE = 20.0
_HEAD = "SOURCE /live.mp3 HTTP/1.0\r\nContent-Type: audio/mpeg\r\nAuthorization: Basic {}\r\n\r\n"
_ICECAST = """<icecast><location>x</location><admin>x@localhost</admin>
<limits><clients>{clients}</clients><sources>2</sources></limits>
<authentication><source-password>hackme</source-password><admin-user>admin</admin-user>
<admin-password>hackme</admin-password></authentication><hostname>127.0.0.1</hostname>
<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
<paths><basedir>{share}</basedir><logdir>/tmp</logdir><webroot>{share}/web</webroot>
<adminroot>{share}/admin</adminroot></paths><logging><accesslog>-</accesslog>
<errorlog>-</errorlog><loglevel>1</loglevel></logging></icecast>"""


@dataclass(frozen=True, slots=True)
class RadioFigures:
    """
    What one server took in one round.

    Args:
        cpu: us per listener and second.
        received: bytes per listener and second.
        rest: KiB without listeners.
        memory: anonymous KiB per listener behind the first quarter. Shared pages would count other
            programs of the machine, and the first listeners what a server does once.
        kernel: KiB of socket buffers per listener.
        paced: `memory` of listeners that read what they play.
        paced_kernel: `kernel` of those.
    """

    cpu: float
    received: float
    rest: float
    memory: float
    kernel: float
    paced: float
    paced_kernel: float


def main(words: Sequence[str] | None = None) -> None:
    """
    Measure, and print the medians.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.radio", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--listeners", type=int, default=1000)
    chosen = parser.parse_args(words)
    servers = {"ours": _ours, "icecast2": _icecast2}
    found: dict[str, list[RadioFigures]] = {name: [] for name in servers}
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    with alone():
        for number in range(chosen.rounds):
            names = list(servers) if number % 2 == 0 else list(servers)[::-1]
            for name in names:
                start, count = servers[name], chosen.listeners
                with start(server_core, count) as (pid, port):
                    paced = _measure_paced(pid, port, max(1, count // 10))
                with start(server_core, count) as (pid, port):
                    found[name].append(_measure(pid, port, count, chosen.seconds, paced))
    _report(found, chosen)


def _report(found: dict[str, list[RadioFigures]], chosen: argparse.Namespace) -> None:
    for name, value in description().items():
        print(f"- {name}: {value}")
    print(f"- {chosen.listeners} listeners, {chosen.seconds:g} s, rounds: {chosen.rounds}\n")
    print("| figure | ours | icecast2 | ours/icecast2 |\n| --- | ---: | ---: | ---: |")
    lines: dict[str, Callable[[RadioFigures], float]] = {
        "CPU per listener and second, us": lambda one: one.cpu,
        "bytes per listener and second": lambda one: one.received,
        "memory at rest, MiB": lambda one: one.rest / 1024,
        "memory per listener, KiB": lambda one: one.memory,
        "kernel socket buffers per listener, KiB": lambda one: one.kernel,
        "both, KiB": lambda one: one.memory + one.kernel,
        "memory per listener that reads what it plays, KiB": lambda one: one.paced,
        "kernel socket buffers of those, KiB": lambda one: one.paced_kernel,
        "both of those, KiB": lambda one: one.paced + one.paced_kernel,
    }
    for title, figure in lines.items():
        ours, theirs = ([figure(one) for one in found[name]] for name in found)
        ratio = statistics.median([a / b if b else 0.0 for a, b in zip(ours, theirs, strict=True)])
        shown = (statistics.median(ours), statistics.median(theirs), ratio)
        print(f"| {title} | {shown[0]:.2f} | {shown[1]:.2f} | {shown[2]:.2f} |")


def _measure_paced(pid: int, port: int, count: int) -> tuple[float, float]:
    station = _Station(port, paced=True)
    station.play(RETAINED)
    memory, kernel = _anonymous_kib(pid), _kernel_kib()
    station.join(count)
    station.play(5.0)
    figures = (_anonymous_kib(pid) - memory) / count, (_kernel_kib() - kernel) / count
    station.close()
    return figures


def _measure(
    pid: int, port: int, count: int, seconds: float, paced: tuple[float, float]
) -> RadioFigures:
    station = _Station(port)
    station.play(RETAINED)
    rest, kernel = memory_kib(pid), _kernel_kib()
    few = count // 4
    station.join(few)
    with_few = _anonymous_kib(pid)
    station.join(count - few)
    memory = (_anonymous_kib(pid) - with_few) / (count - few)
    before, received, start = times(pid).ran, station.received, time.monotonic()
    station.play(seconds)
    elapsed = time.monotonic() - start
    each = count * elapsed
    cpu = (times(pid).ran - before) / each * 1e6
    figures = RadioFigures(
        cpu,
        (station.received - received) / each,
        rest,
        memory,
        (_kernel_kib() - kernel) / count,
        *paced,
    )
    station.close()
    return figures


class _Station:
    """
    A source that sends in real time, and listeners that read all, or *paced*: what they play.
    """

    def __init__(self, port: int, paced: bool = False) -> None:
        self._address = ("127.0.0.1", port)
        self._selector = selectors.EpollSelector()
        self._source = socket.create_connection(self._address, _PATIENCE)
        login = b64encode(f"source:{_PASSWORD}".encode()).decode()
        self._source.sendall(_HEAD.format(login).encode())
        assert b" 200 " in self._source.recv(1000)
        self._listeners: list[socket.socket] = []
        self._start = time.monotonic()
        self._sent = 0
        self._paced = paced
        self._played: dict[socket.socket, float] = {}  # when each has read last
        self.received = 0

    def join(self, count: int) -> None:
        for _ in range(count):
            self._listen()
            self.play(0.002)
        self.play(3.0)

    def _listen(self) -> None:
        client = socket.socket()
        if self._paced:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        client.settimeout(_PATIENCE)
        client.connect(self._address)
        client.sendall(b"GET /live.mp3 HTTP/1.0\r\nHost: localhost\r\nIcy-MetaData: 1\r\n\r\n")
        client.setblocking(False)
        self._listeners.append(client)
        if self._paced:
            self._played[client] = time.monotonic()
        else:
            self._selector.register(client, selectors.EVENT_READ)

    def play(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            due = int((now - self._start) / PERIOD)
            if due > self._sent:
                self._source.sendall(FRAME * (due - self._sent))
                self._sent = due
            time.sleep(0.002)  # as the loads of the other measures: waking up costs the sender
            for key, _ in self._selector.select(0):
                self._read(key.fileobj, 65536)  # type: ignore[arg-type]  # a socket
            for client, last in self._played.items():
                if now - last > 0.1:
                    self._played[client] = now
                    self._read(client, int((now - last) * RATE))

    def _read(self, client: socket.socket, size: int) -> None:
        with suppress(BlockingIOError):
            data = client.recv(size)
            assert data, "a listener was disconnected"
            self.received += len(data)

    def close(self) -> None:
        for one in (self._source, *self._listeners):
            one.close()
        self._selector.close()


def _anonymous_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("Anonymous:")[2].split()[0])


def _kernel_kib() -> float:
    """
    Return the memory of all TCP sockets of this machine, as the kernel counts it.
    """
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1]) * os.sysconf("SC_PAGE_SIZE") / 1024
    return 0.0


@contextmanager
def _ours(core: int, count: int) -> Iterator[tuple[int, int]]:
    port = free_port()
    route = r"--route=^/(\w+\.mp3)$ icecast:channel=radio/$1,password=" + _PASSWORD
    twistd = str(Path(sys.executable).parent / "twistd")
    command = [twistd, "-n", "--pidfile=", "realtime", f"--port={port}", route]
    with _running([*command, f"--max-readers={count + 10}"], core, port) as pid:
        yield pid, port


@contextmanager
def _icecast2(core: int, count: int) -> Iterator[tuple[int, int]]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        settings = Path(folder) / "icecast.xml"
        share = "/usr/share/icecast2"
        settings.write_text(_ICECAST.format(clients=count + 50, port=port, share=share))
        program = shutil.which("icecast2")
        assert program, "icecast2 is missing"
        unprivileged = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        with _running([*unprivileged, program, "-c", str(settings)], core, port) as pid:
            yield pid, port


@contextmanager
def _running(command: Sequence[str], core: int, port: int) -> Iterator[int]:
    quiet = subprocess.DEVNULL
    pinned = ["taskset", "-c", str(core), *command]
    process = subprocess.Popen(pinned, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, f"{command[0]} does not start"
                time.sleep(0.1)
        time.sleep(0.5)
        yield process.pid
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
