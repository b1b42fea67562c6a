"""
Servers, publishers and viewers of live streams.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread

from benchmarks import servers
from benchmarks.machine import HERE, SetupError, free_port, times
from benchmarks.servers import Dialect, Running, Server, in_the_child

ICECAST = "icecast2"
NMS = "nms"
_ROUTES = (
    "--route=GET ^/plain$ stream:plain",
    "--route=^/plain$ istream:plain,as=raw",
    r"--route=GET ^/(cam\d*)\.webm$ webm:$1",
    r"--route=GET ^/(cam\d*)\.mp4$ mp4:$1",
    r"--route=^/(cam\d*)\.\w+$ istream:$1",
)
_NO_DIALECT = Dialect("", "")
_PATIENCE = 60.0  # s

# 1 Mbit/s, 30 pictures and 47 frames of sound a second, a keyframe each two seconds.
_PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30")
_SOUND = ("-f", "lavfi", "-i", "sine=sample_rate=48000")
_RATES = ("-b:v", "1M", "-maxrate", "1M", "-bufsize", "1M", "-g", "60")
_H264 = ("-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p")
_AAC = ("-c:a", "aac", "-b:a", "96k")
_VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")
_OPUS = ("-c:a", "libopus", "-b:a", "96k")
_SECONDS = 20
_LOOP = ("ffmpeg", "-v", "error", "-re", "-stream_loop", "-1", "-i")
_FORMATS = {
    "mp4": ("-f", "mp4", "-movflags", "frag_every_frame+empty_moov+default_base_moof"),
    "webm": ("-f", "webm", "-cluster_time_limit", "100"),
    "flv": ("-f", "flv"),
}


@dataclass(frozen=True, slots=True)
class Published:
    """
    A program that publishes, as long as the context lasts.
    """

    pid: int


def ours(*options: str) -> Server:
    """
    Return the daemon of this checkout with the routes of live streams.
    """
    return replace(servers.ours((*_ROUTES, *options)), dialect=_NO_DIALECT)


def icecast() -> Server:
    """
    Return icecast2 with room for a thousand listeners.

    Raises:
        SetupError: it is not installed.
    """
    program = shutil.which("icecast2")
    if program is None:
        raise SetupError("icecast2 is not installed: Debian has it.")

    def command(port: int, folder: Path) -> Sequence[str]:
        user = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"
        (folder / "icecast.xml").write_text(
            "<icecast><limits><clients>3000</clients><sources>10</sources>"
            "<queue-size>4194304</queue-size><burst-size>65536</burst-size></limits>"
            "<authentication><source-password>bench</source-password>"
            "<admin-user>a</admin-user><admin-password>a</admin-password></authentication>"
            f"<listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address>"
            f"</listen-socket><paths><logdir>{folder}</logdir><webroot>{folder}</webroot>"
            f"<adminroot>{folder}</adminroot></paths><logging><errorlog>-</errorlog>"
            f"<loglevel>2</loglevel></logging><security><chroot>0</chroot>"
            f"{user if os.geteuid() == 0 else ''}</security></icecast>"
        )
        folder.chmod(0o777)
        return (str(program), "-c", str(folder / "icecast.xml"))

    found = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return Server(ICECAST, found.stdout.strip() or "icecast2", _NO_DIALECT, command, "")


def node_media_server(modules: Path) -> Server:
    """
    Return node-media-server; RTMP is on the port behind that of HTTP.

    Raises:
        SetupError: node or the package is not installed.
    """
    node, package = shutil.which("node"), modules / "node_modules" / "node-media-server"
    if node is None or not package.exists():
        raise SetupError(
            f"node-media-server is not there: npm install --prefix {modules} node-media-server@4"
        )
    program = node

    def command(port: int, _: Path) -> Sequence[str]:
        return (program, str(HERE / "nms.mjs"), str(port), str(port + 1), str(modules))

    version = json.loads((package / "package.json").read_text())["version"]
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    title = f"node-media-server {version} on node {done.stdout.strip()}"
    return Server(NMS, title, _NO_DIALECT, command, "")


def encode(folder: Path, kind: str) -> Path:
    """
    Write the stream that is published, once.

    Args:
        folder: of the file.
        kind: "webm" for VP8 and Opus, "mp4" for H264 and AAC.

    Raises:
        SetupError: ffmpeg is not installed.
    """
    path = folder / f"stream.{kind}"
    if not path.exists():
        if shutil.which("ffmpeg") is None:
            raise SetupError("ffmpeg is not installed: Debian has it.")
        codecs = (*_H264, *_AAC) if kind == "mp4" else (*_VP8, *_OPUS)
        command = ["ffmpeg", "-v", "error", *_PICTURE, *_SOUND, "-t", str(_SECONDS)]
        subprocess.run([*command, *codecs, *_RATES, str(path)], check=True)
    return path


@contextmanager
def publishing(file: Path, kind: str, url: str, count: int = 1) -> Iterator[list[Published]]:
    """
    Publish *file* with ffmpeg in real time, without encoding it again.

    Args:
        file: from `encode`.
        kind: a key of the formats: "mp4", "webm" or "flv".
        url: with `{number}`, if there are several.
        count: of publishers.
    """
    put = () if kind == "flv" else ("-method", "PUT")
    processes = [
        subprocess.Popen(
            [*_LOOP, str(file), "-c", "copy", *_FORMATS[kind], *put, url.format(number=number)],
            stdin=subprocess.DEVNULL,
            preexec_fn=partial(in_the_child, max(os.sched_getaffinity(0))),
        )
        for number in range(count)
    ]
    try:
        yield [Published(process.pid) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


@contextmanager
def sending(running: Running, sizes: Sequence[int], rate: float) -> Iterator[None]:
    """
    Publish messages that begin with the time, *rate* a second, whose *sizes* repeat.

    Our daemon gets each as an HTTP chunk, icecast2 their bytes.
    """
    connection = socket.create_connection(("127.0.0.1", running.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if running.server.name == ICECAST:
        connection.sendall(
            b"SOURCE /plain HTTP/1.0\r\nAuthorization: Basic c291cmNlOmJlbmNo\r\n"
            b"Content-Type: application/octet-stream\r\n\r\n"
        )
        connection.recv(1000)
    else:
        connection.sendall(
            b"PUT /plain HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
            + f"Authorization: Bearer {servers.KEY}\r\n\r\n".encode()
        )
    ended = Event()
    thread = Thread(target=_send, args=(connection, running, sizes, rate, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        connection.close()


def _send(
    connection: socket.socket,
    running: Running,
    sizes: Sequence[int],
    rate: float,
    ended: Event,
) -> None:
    due, number = time.monotonic(), 0
    while not ended.is_set():
        size = sizes[number % len(sizes)]
        number += 1
        data = struct.pack("<Q", time.monotonic_ns()) + bytes(size - 8)
        if running.server.name != ICECAST:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        try:
            connection.sendall(data)
        except OSError:
            return
        due += 1 / rate
        time.sleep(max(0.0, due - time.monotonic()))


@dataclass(frozen=True, slots=True)
class Viewers:
    """
    Viewers of one path; viewers.c describes the commands.
    """

    process: subprocess.Popen[str]

    def command(self, words: str) -> dict[str, float]:
        """
        Send a command, and return its answer.

        Raises:
            SetupError: the program has ended.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(words + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SetupError("the viewers have ended")
        answer: dict[str, float] = json.loads(line)
        return answer

    def cpu(self) -> float:
        """
        Return their processor time in s.
        """
        return times(self.process.pid).ran


@contextmanager
def viewing(
    program: Path, port: int, path: str, count: int, stalled: int = 0, size: int = 0
) -> Iterator[Viewers]:
    """
    Start viewers on this process's core.
    """
    command = [str(program), *map(str, (port, path, count, stalled, size))]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sys.stderr, text=True
    )
    try:
        yield Viewers(process)
    finally:
        process.kill()
        process.wait()


@contextmanager
def redis() -> Iterator[tuple[int, int]]:
    """
    Start redis-server, and return its port and process id.

    Raises:
        SetupError: it is not installed.
    """
    program, port = shutil.which("redis-server"), free_port()
    if program is None:
        raise SetupError("redis-server is not installed: Debian has it.")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        servers.wait_until_it_accepts(process, port)
        yield port, process.pid
    finally:
        process.terminate()
        process.wait()
