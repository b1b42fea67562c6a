"""
`python -m benchmarks.rtsp`: players by RTSP beside GStreamer's server, publishers, lateness, and
packets that are read in this process. A server has one core, for itself if root runs this: it gets
real-time priority then. All else has another core.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.machine import SetupError, cores, free_port, times
from benchmarks.rtmp import encode, ours, publishing, running
from benchmarks.rtsp_players import run_first
from rt_twisted.media.rtp.packet import write_packet
from rt_twisted.rtsp.messages import write_interleaved, write_request

RIVAL = "gst-rtsp-server"
Command = Callable[[int, int], Sequence[str]]  # of the ports of RTSP and UDP
Stamped = Callable[[int], AbstractContextManager[None]]

_SETTLE = 3.0  # s
_LOOPS = 15  # of the encoded file, for GStreamer's server, which does not repeat it
_RATE = 30  # stamped frames a second
_PICTURES = 2000  # that are read in this process
_PACKETS = 4  # of each
_SDP = b"""v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
m=video 0 RTP/AVP 96\r
a=rtpmap:96 H264/90000\r
a=fmtp:96 packetization-mode=1;sprop-parameter-sets=Z0LADdoFB+wEQAAAAwBAAAAMo8UKqA==,aM4PyA==\r
a=control:streamid=0\r
"""


def gstreamer(port: int, source: str) -> Sequence[str]:
    """
    Return the command of GStreamer's server, with a file or `udp:PORT`.

    Raises:
        SetupError: it is not installed.
    """
    python = "/usr/bin/python3"
    check = "import gi; gi.require_version('GstRtspServer', '1.0')"
    if subprocess.run([python, "-c", check], capture_output=True).returncode:
        raise SetupError("Debian has gir1.2-gst-rtsp-server-1.0 and python3-gst-1.0")
    return (python, str(Path(__file__).with_name("rtsp_server.py")), str(port), source)


@contextmanager
def encoders(file: Path, port: int, count: int) -> Iterator[None]:
    """
    Publish *file* with ffmpeg in real time by RTSP, *count* times.
    """
    names = ["cam", *[f"cam{number}" for number in range(1, count)]]
    urls = [f"rtsp://127.0.0.1:{port}/live/{name}" for name in names]
    with publishing(file, urls, "-f", "rtsp", "-rtsp_transport", "tcp"):
        time.sleep(_SETTLE)
        yield


def recording(port: int) -> socket.socket:
    """
    Return a connection that records at /live/cam.
    """
    connection = socket.create_connection(("127.0.0.1", port))
    url = f"rtsp://127.0.0.1:{port}/live/cam"
    kind = ("Content-Type", "application/sdp")
    transport = ("Transport", "RTP/AVP/TCP;unicast;interleaved=0-1;mode=record")
    connection.sendall(write_request("ANNOUNCE", url, [("CSeq", "1"), kind], _SDP))
    connection.recv(65536)
    connection.sendall(write_request("SETUP", f"{url}/streamid=0", [("CSeq", "2"), transport]))
    connection.recv(65536)
    connection.sendall(write_request("RECORD", url, [("CSeq", "3")]))
    connection.recv(65536)
    return connection


@contextmanager
def stamping(send: Callable[[bytes], object]) -> Iterator[None]:
    """
    Send RTP packets of frames with the time in them.
    """
    done = threading.Event()

    def publish() -> None:
        run_first()
        number = 0
        while not done.wait(1 / _RATE):
            head = b"\x65\x88" if number % _RATE == 0 else b"\x41\x9a"
            data = head + b"x" * 1000 + b"<late %d>" % time.monotonic_ns()
            send(write_packet(96, True, number, 90000 // _RATE * number, 1, data))
            number += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        time.sleep(_SETTLE)
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def stamped_by_rtsp(port: int) -> Iterator[None]:
    """
    Publish frames with the time in them by RTSP.
    """
    with (
        recording(port) as connection,
        stamping(lambda packet: connection.sendall(write_interleaved(0, packet))),
    ):
        yield


@contextmanager
def stamped_by_udp(port: int) -> Iterator[None]:
    """
    Send frames with the time in them by UDP.
    """
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        stamping(lambda packet: sender.sendto(packet, ("127.0.0.1", port))),
    ):
        yield


@contextmanager
def playing(port: int, count: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """
    Run *count* players of /live/cam.
    """
    program = [sys.executable, "-m", "benchmarks.rtsp_players", str(port), "/live/cam", str(count)]
    players = subprocess.Popen(
        [*program, *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert players.stdout is not None
        if players.stdout.readline() != "open\n":
            raise SetupError("the players were refused")
        yield players
    finally:
        players.kill()
        players.wait()


def measured(seconds: float, *programs: subprocess.Popen[str]) -> list[dict[str, float]]:
    """
    Return what the players of each program have received in *seconds*.
    """
    for program in programs:
        assert program.stdin is not None
        program.stdin.write(f"{seconds}\n")
        program.stdin.flush()
    return [json.loads(program.stdout.readline()) for program in programs if program.stdout]


def packets_per_second() -> float:
    """
    Return how many packets of H264 are read in a second of CPU time, with their units.
    """
    from rt_twisted.media.sdp import parse_sdp
    from rt_twisted.rtsp.presentation import announce

    announced = announce("/cam", parse_sdp(_SDP))
    announced.channels[0] = (0, 1)
    reader = announced.reader()
    packets = []
    for number in range(_PICTURES):
        for part in range(_PACKETS):
            flags = 0x85 if part == 0 else 0x45 if part == _PACKETS - 1 else 5
            payload = bytes((0x7C, flags, 0x88)) + b"x" * 1200
            sequence = number * _PACKETS + part
            last = part == _PACKETS - 1
            packets.append(write_packet(96, last, sequence, 3000 * number, 1, payload))
    begin, units = time.process_time(), 0
    for index, packet in enumerate(packets):
        units += len(reader.feed(0, packet, index * 8000))
    spent = time.process_time() - begin
    assert units >= _PICTURES - 1
    return len(packets) / spent


def main() -> None:
    """
    Measure all in turn, and print the medians.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--players", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    server_core, load_core = cores()
    os.sched_setaffinity(0, {load_core})
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        once, file = encode(folder / "1.mp4", "1M"), folder / "long.mp4"
        loop = ("ffmpeg", "-v", "error", "-stream_loop", str(_LOOPS), "-i", str(once))
        subprocess.run([*loop, "-c", "copy", str(file)], check=True)

        def note(title: str, value: float) -> None:
            found.setdefault(title, []).append(value)

        def pinned(command: Sequence[str]) -> Sequence[str]:
            alone = ("chrt", "--rr", "1") if os.geteuid() == 0 else ()
            return (*alone, "taskset", "-c", str(server_core), *command)

        def players(server: str, pid: int, port: int, late: bool = False) -> float:
            with (
                playing(port, given.players) as crowd,
                playing(port, 1, "urgent") as probe,  # the last one that is sent a frame
            ):
                before, began = times(pid), time.monotonic()
                figures, last = measured(given.seconds, crowd, probe)
                spent, after = time.monotonic() - began, times(pid)
            share = 100 * (after.ran - before.ran) / spent
            title = f"{given.players} players, {server}"
            note(f"{title}: % of a core", share)
            note(
                f"{title}: % of the time that it waited for its core",
                100 * (after.waited - before.waited) / spent,
            )
            note(f"{title}: kbit/s of a player", figures["bytes"] / given.players / spent / 125)
            if late:
                note(f"{title}: lateness, p50, ms", last["p50"])
                note(f"{title}: lateness, p99, ms", last["p99"])
            return share

        def stamped(server: str, command: Command, stamp: Stamped) -> None:
            port, target = free_port(), free_port()
            with (
                running(pinned(command(port, target)), port, folder) as pid,
                stamp(target if server == RIVAL else port),
            ):
                players(f"{server}, stamped frames", pid, port, late=True)

        for _ in range(given.rounds):
            port = free_port()
            with (
                running(pinned(ours(port, folder)), port, folder) as pid,
                encoders(once, port, 1),
            ):
                share = players("ours", pid, port)
            stamped("ours", lambda port, _: ours(port, folder), stamped_by_rtsp)
            port = free_port()
            try:
                with running(pinned(gstreamer(port, str(file))), port, folder) as pid:
                    note(f"{given.players} players: ratio", share / players(RIVAL, pid, port))
                stamped(
                    RIVAL, lambda port, target: gstreamer(port, f"udp:{target}"), stamped_by_udp
                )
            except SetupError as error:
                print(f"{RIVAL} is left out: {error}")
            port = free_port()
            with (
                running(pinned(ours(port, folder)), port, folder) as pid,
                encoders(once, port, 20),
            ):
                before, began = times(pid).ran, time.monotonic()
                time.sleep(given.seconds)
                share = (times(pid).ran - before) / (time.monotonic() - began)
                note("20 publishers of 1 Mbit/s: % of a core", 100 * share)
            note("packets of H264 per second of CPU, in process", packets_per_second())
    for title, values in found.items():
        print(f"{title}: {median(values):,.2f}")


if __name__ == "__main__":
    main()
