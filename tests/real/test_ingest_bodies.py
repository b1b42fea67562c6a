"""
Live publishers as they are: ffmpeg, curl, GStreamer and clients of Icecast send streams to an
action of `tests.ingest`, by HTTP/1.0, 1.1 and 2, TLS, and behind nginx.
"""

from __future__ import annotations

import json
import signal
import socket
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.ingest import PAUSE
from tests.real.conftest import PATIENCE, ROOT, Serve, Server, StartDaemon, free_port, require
from tests.real.media_programs import require_element
from tests.real.redis_server import start_redis
from tests.real.test_proxies import serve_nginx
from tests.real.test_tls import Secure

KEY = "hackme"
VIDEO = (
    "-re -f lavfi -i testsrc=size=320x240:rate=30 -t 2 -c:v libvpx -g 30 -b:v 1M -f webm".split()
)
QUIET = "-hide_banner -loglevel error -nostdin".split()
COUNT_FRAMES = "-v error -count_frames -show_entries stream=nb_read_frames -of csv=p=0".split()
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


class Place:
    """
    A daemon with the route `/live`, whose bodies are in *folder*.

    Args:
        daemon: starts it.
        folder: for the bodies.
        arguments: of the route.
        options: of the daemon.
    """

    def __init__(
        self,
        daemon: Callable[..., Any],
        folder: Path,
        arguments: str = "every=100000",
        *options: str,
    ) -> None:
        self.folder = folder / "bodies"
        self.folder.mkdir()
        self.access_log = folder / "access.log"
        self.server: Server = daemon(
            f"--route=^/live tests.ingest.Ingest:folder={self.folder},{arguments}",
            "--route=^/shout tests.ingest.Shout",
            "--route=^/stats$ stats:full",
            "--route=^/publish$ publish",
            f"--publish-key={KEY}",
            f"--access-log={self.access_log}",
            *options,
            environment=ENVIRONMENT,
        )

    @property
    def url(self) -> str:
        """
        The URL of the route, with the key.
        """
        return f"{self.server.url}/live?key={KEY}"

    def report(self, number: int = 1) -> dict[str, Any]:
        """
        Wait for the end of a body, and return its report.
        """
        path = self.folder / f"{number}.json"
        settled(path.exists)
        settled(lambda: path.read_text().endswith("}"))
        report: dict[str, Any] = json.loads(path.read_text())
        return report

    def body(self, number: int = 1) -> bytes:
        """
        Return what was received of a body.
        """
        return (self.folder / f"{number}.body").read_bytes()


def settled(condition: Callable[[], object]) -> None:
    """
    Wait until *condition* holds.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(PAUSE)


def ffmpeg(*arguments: str) -> subprocess.CompletedProcess[str]:
    """
    Run ffmpeg with a test video and *arguments*.
    """
    command = [require("ffmpeg", "ffmpeg"), *QUIET, *VIDEO, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def frames(path: Path, whole: bool = True) -> int:
    """
    Return how many frames ffprobe counts in a file, which it must read without a message if
    it is *whole*.
    """
    probe = subprocess.run(
        [require("ffprobe", "ffmpeg"), *COUNT_FRAMES, str(path)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert probe.stderr == "" or not whole
    return int(probe.stdout.strip().rstrip(","))


def received_by(url: str, *more: str) -> list[str]:
    """
    Return the arguments of curl that send its input, and show the response.
    """
    return ["-sS", "-T", "-", *more, url]


def curl(arguments: Sequence[str], body: bytes) -> tuple[int, bytes]:
    """
    Run curl with *body* as its input; return its status and its output.
    """
    done = subprocess.run(
        [require("curl", "curl"), *arguments], input=body, capture_output=True, timeout=PATIENCE
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("options", "method", "chunks"),
    [
        (["-method", "PUT"], "PUT", True),
        ([], "POST", True),
        (["-chunked_post", "0"], "POST", False),
        (["-chunked_post", "0", "-method", "PUT"], "PUT", False),
    ],
)
def test_ffmpeg(
    daemon: StartDaemon, tmp_path: Path, options: list[str], method: str, chunks: bool
) -> None:
    """
    ffmpeg's video arrives whole, by chunks or without a length, while the body is paused over
    and over.
    """
    place = Place(daemon, tmp_path, "every=20000")
    done = ffmpeg(*options, place.url)
    report = place.report()

    assert (done.returncode, done.stderr) == (0, "")
    assert (report["method"], report["version"], report["end"]) == (method, "1.1", "end")
    assert bool(report["chunks"]) == chunks
    assert report["pauses"] > 1
    assert frames(place.folder / "1.body") == 60


def test_chunks_are_those_of_ffmpeg(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Each chunk that ffmpeg sends has one cluster of its own behind the header, when each frame is a
    keyframe.
    """
    place = Place(daemon, tmp_path, "every=0")
    ffmpeg("-g", "1", "-live", "1", place.url)
    report, body = place.report(), place.body()
    starts = [0, *report["chunks"]][:-1]

    assert report["chunks"][-1] == len(body)
    clusters = [at for at in starts if body[at : at + 4] == b"\x1fC\xb6u"]
    assert len(clusters) >= 50
    assert len(clusters) >= len(starts) - 2


def test_ffmpeg_with_a_password(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With a password in its URL ffmpeg waits for the challenge, and then for 100 Continue. With a
    wrong one it fails, and nothing is received.
    """
    place = Place(daemon, tmp_path)
    url = f"http://any:%s@127.0.0.1:{place.server.port}/live"
    right = ffmpeg("-method", "PUT", url % KEY)
    wrong = ffmpeg("-method", "PUT", url % "wrong")

    assert (right.returncode, right.stderr) == (0, "")
    assert frames(place.folder / "1.body") == 60
    assert wrong.returncode == 1
    assert not (place.folder / "2.body").exists()
    statuses = [line.split()[-2] for line in place.access_log.read_text().splitlines()]
    assert statuses[:2] == ["401", "200"]
    assert set(statuses[2:]) == {"401"}


@pytest.mark.parametrize("options", [[], ["-chunked_post", "0"]])
def test_a_refused_ffmpeg_is_disconnected(
    daemon: StartDaemon, tmp_path: Path, options: list[str]
) -> None:
    """
    ffmpeg ignores a status that it does not wait for: a refused one loses its connection, and ends
    long before its video does.
    """
    place = Place(daemon, tmp_path)
    began = time.monotonic()
    done = ffmpeg("-t", "50", *options, f"{place.server.url}/live?key=wrong")

    assert done.returncode != 0
    assert "reset" in done.stderr or "Broken pipe" in done.stderr
    assert time.monotonic() - began < 25
    assert list(place.folder.iterdir()) == []


def test_the_key_is_not_logged(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A key in the URL of a publisher is in no log.
    """
    place = Place(daemon, tmp_path)
    assert curl(received_by(place.url), b"x")[0] == 0

    assert '"PUT /live HTTP/1.1" 200' in place.access_log.read_text()
    assert KEY not in place.access_log.read_text()
    assert KEY not in place.server.log


@pytest.mark.parametrize(
    ("options", "version"),
    [
        (["--http1.1"], "1.1"),
        (["--http2"], "1.1"),  # it asks for an upgrade, which is ignored
        (["--http1.0"], "1.0"),
        (["-H", "Expect:"], "1.1"),
        (["-u", f"any:{KEY}"], "1.1"),
        (["-H", f"X-Publish-Key: {KEY}"], "1.1"),
        (["-H", f"Authorization: Bearer {KEY}"], "1.1"),
    ],
)
def test_curl(daemon: StartDaemon, tmp_path: Path, options: list[str], version: str) -> None:
    """
    curl's input arrives byte for byte, with the key in any of four places.
    """
    place = Place(daemon, tmp_path)
    body = bytes(range(256)) * 11718 + bytes(192)
    keyed = any("ey" in each or each == "-u" for each in options)
    url = f"{place.server.url}/live" if keyed else place.url
    source = "-"
    if version == "1.0":  # it has no chunks: curl needs a length
        source = str(tmp_path / "body")
        Path(source).write_bytes(body)
    status, answer = curl(["-sS", "-T", source, *options, url], body)
    report = json.loads(answer)

    assert status == 0
    assert report["version"] == version
    assert report["sha256"] == sha256(body).hexdigest()
    assert report["pauses"] >= 10


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_curl_by_tls(daemon: StartDaemon, tmp_path: Path, version: str) -> None:
    """
    A body by TLS arrives byte for byte, by HTTP/1.1 and HTTP/2, however often it is paused.
    """
    bodies = tmp_path / "bodies"
    bodies.mkdir()
    secure = Secure(
        lambda *options: daemon(*options, environment=ENVIRONMENT),  # type: ignore[arg-type]
        tmp_path,
        f"--route=^/live tests.ingest.Ingest:folder={bodies},every=100000",
        f"--publish-key={KEY}",
    )
    body = bytes(range(256)) * 8000
    command = secure.curl(*received_by(f"{secure.url}/live?key={KEY}", f"--http{version}"))
    done = subprocess.run(command, input=body, capture_output=True, timeout=PATIENCE)
    report = json.loads(done.stdout)

    assert report["version"] == version
    assert report["sha256"] == sha256(body).hexdigest()
    assert report["pauses"] >= 10
    refused = secure.curl(*received_by(f"{secure.url}/live?key=wrong", f"--http{version}"))
    done = subprocess.run([*refused, "-w", "%{http_code}"], input=body, capture_output=True)
    assert done.stdout.endswith(b"401")


def test_ffmpeg_by_tls_without_a_length(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A body that ends with the TLS connection is complete.
    """
    bodies = tmp_path / "bodies"
    bodies.mkdir()
    secure = Secure(
        lambda *options: daemon(*options, environment=ENVIRONMENT),  # type: ignore[arg-type]
        tmp_path,
        f"--route=^/live tests.ingest.Ingest:folder={bodies}",
        f"--publish-key={KEY}",
    )
    ffmpeg("-chunked_post", "0", f"{secure.url}/live?key={KEY}")
    settled((bodies / "1.json").exists)

    assert frames(bodies / "1.body") == 60


def test_a_refused_publisher_by_tls(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    By TLS, too, a refused publisher that goes on sending gets its response and is disconnected.
    """
    bodies = tmp_path / "bodies"
    bodies.mkdir()
    secure = Secure(
        lambda *options: daemon(*options, environment=ENVIRONMENT),  # type: ignore[arg-type]
        tmp_path,
        f"--route=^/live tests.ingest.Ingest:folder={bodies}",
        f"--publish-key={KEY}",
    )
    context = ssl.create_default_context(cafile=secure.authority.file)
    with (
        socket.create_connection(("127.0.0.1", secure.port), PATIENCE) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as safe,
    ):
        safe.sendall(b"PUT /live?key=wrong HTTP/1.1\r\nHost: a\r\n\r\n")
        answer = safe.recv(4096)
        ended = False
        deadline = time.monotonic() + PATIENCE
        while not ended and time.monotonic() < deadline:
            try:
                safe.sendall(b"x" * 100)
            except OSError:
                ended = True
            time.sleep(PAUSE)

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"WWW-Authenticate: Basic " in answer
    assert ended


def test_gstreamer(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    GStreamer sends a sequence of PUTs, each with a length and a range; together they
    are the video. On a slow machine GStreamer itself ends before it has sent the last of them.
    """
    program = require("gst-launch-1.0", "gstreamer1.0-tools")
    require_element("souphttpclientsink")
    place = Place(daemon, tmp_path)
    pipeline = (
        f"videotestsrc num-buffers=30 ! video/x-raw,width=320,height=240,framerate=30/1 ! vp8enc ! "
        f"webmmux streamable=true ! souphttpclientsink location={place.url}"
    )
    subprocess.run([program, "-q", *pipeline.split()], timeout=PATIENCE, check=True)
    reports = sorted(place.folder.glob("*.json"), key=lambda path: int(path.stem))
    whole = tmp_path / "whole.webm"
    whole.write_bytes(b"".join(path.with_suffix(".body").read_bytes() for path in reports))

    assert len(reports) > 1
    assert all(json.loads(path.read_text())["end"] == "end" for path in reports)
    assert frames(whole, whole=False) > 20


def test_ezstream(serve: Serve, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    libshout asks without a key first, then sends SOURCE by HTTP/1.0 and waits for a status before
    the stream: the action takes the connection over.
    """
    program = require("ezstream", "ezstream")
    place = Place(daemon, tmp_path, "early=yes")
    audio = tmp_path / "tone.mp3"
    tone = "-loglevel error -nostdin -f lavfi -i sine=frequency=440:duration=3 -c:a libmp3lame"
    subprocess.run([require("ffmpeg", "ffmpeg"), *tone.split(), str(audio)], check=True)
    settings = tmp_path / "ezstream.xml"
    settings.write_text(
        f"<ezstream><servers><server><hostname>127.0.0.1</hostname><port>{place.server.port}</port>"
        f"<password>{KEY}</password><reconnect_attempts>1</reconnect_attempts></server></servers>"
        "<streams><stream><mountpoint>/live</mountpoint><format>MP3</format></stream></streams>"
        f"<intakes><intake><type>file</type><filename>{audio}</filename><stream_once>yes</stream_once>"
        "</intake></intakes></ezstream>"
    )
    settings.chmod(0o600)
    done = subprocess.run(
        [program, "-c", str(settings)], capture_output=True, text=True, timeout=PATIENCE
    )
    report = place.report()

    assert report["method"] in ("SOURCE", "PUT"), done.stderr
    assert report["size"] > 20_000
    assert place.body()[:2] in (b"\xff\xfb", b"ID")


@pytest.mark.parametrize("line", ["HTTP/1.0", "ICE/1.0", "HTTP/1.1\r\nHost: a"])
@pytest.mark.parametrize("apart", [True, False])
def test_source(daemon: StartDaemon, tmp_path: Path, line: str, apart: bool) -> None:
    """
    A SOURCE request without length is a stream until the client closes its sending side, whether
    the first bytes come with the head or later. Sources that do not speak HTTP/1.1 are answered in
    HTTP/1.0, as by icecast.
    """
    place = Place(daemon, tmp_path)
    version = b"HTTP/1.1" if "1.1" in line else b"HTTP/1.0"
    password = b64encode(f"source:{KEY}".encode()).decode()
    head = f"SOURCE /live {line}\r\nAuthorization: Basic {password}\r\nIce-Name: x\r\n\r\n".encode()
    body = b"\xff\xfb\r\n\r\n" * 50_000
    with socket.create_connection(("127.0.0.1", place.server.port), PATIENCE) as connection:
        if apart:
            connection.sendall(head)
            settled((place.folder / "1.body").exists)
            connection.sendall(body)
        else:
            connection.sendall(head + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))

    assert answer.startswith(version + b" 200 OK\r\n")
    assert place.body() == body


def test_a_paused_body_costs_little_memory(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    While bodies are paused, their clients are held back by TCP: the daemon keeps at most 64 KiB of
    each, beside its connection.
    """
    count = 40
    place = Place(daemon, tmp_path, "every=1,seconds=1000")
    before = memory(place.server.pid)
    head = f"POST /live?key={KEY} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    with ExitStack() as stack:
        sent = 0
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", place.server.port), PATIENCE)
            stack.enter_context(connection)
            connection.sendall(head)
            sent += send_until_blocked(connection)
        grown = memory(place.server.pid) - before

    assert sent > count * 200_000
    assert grown < count * 100_000


def send_until_blocked(connection: socket.socket) -> int:
    """
    Send bytes until the peer accepts no more for a while, and return how many.
    """
    sent = 0
    connection.settimeout(0.3)
    with suppress(TimeoutError):
        while True:
            sent += connection.send(bytes(65536))
    return sent


def memory(pid: int) -> int:
    """
    Return the resident memory of a process in bytes.
    """
    text = Path(f"/proc/{pid}/status").read_text()
    return (
        int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) << 10
    )


def test_a_publisher_that_vanishes(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A publisher that is stopped loses its body by the timeout of the action; one that is killed
    loses it when its connection breaks, or ends.
    """
    place = Place(daemon, tmp_path, "timeout=5")
    program = require("ffmpeg", "ffmpeg")
    command = [program, *QUIET, *VIDEO, "-t", "60", "-g", "1"]
    for number, method in enumerate((signal.SIGSTOP, signal.SIGKILL), 1):
        publisher = subprocess.Popen([*command, place.url], stderr=subprocess.DEVNULL)
        path = place.folder / f"{number}.body"
        settled(lambda path=path: path.exists() and path.stat().st_size)  # type: ignore[misc]
        publisher.send_signal(method)
        report = place.report(number)
        publisher.kill()
        publisher.wait()
        ends = {signal.SIGSTOP: "too slow", signal.SIGKILL: "not complete"}
        assert ends[method] in report["end"]


NGINX = """
server {
    listen 127.0.0.1:%d;
    location / {
        proxy_pass http://127.0.0.1:%d;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_buffering off;
        client_max_body_size 0;
    }
}
"""


def test_behind_nginx(serve: Serve, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    nginx without request buffering passes a stream on while it is sent, and the refusal of one.
    """
    place = Place(daemon, tmp_path, "every=20000")
    front = free_port()
    proxy = serve_nginx(serve, NGINX % (front, place.server.port), front, tmp_path)
    url = f"{proxy.url}/live?key={KEY}"
    program = require("ffmpeg", "ffmpeg")
    publisher = subprocess.Popen([program, *QUIET, *VIDEO, "-method", "PUT", url])
    path = place.folder / "1.body"
    settled(lambda: path.exists() and path.stat().st_size > 20_000)
    assert publisher.poll() is None  # it is still sending
    assert publisher.wait(PATIENCE) == 0
    report = place.report()
    assert report["chunks"]
    assert frames(path) == 60

    body = bytes(3_000_000)
    refused = [*received_by(f"{proxy.url}/live?key=wrong"), "-o", "/dev/null", "-w", "%{http_code}"]
    assert curl(refused, body)[1] == b"401"


def shout(connection: socket.socket) -> bytes:
    """
    Speak the protocol of `tests.ingest.Shout`, and return the responses.
    """
    connection.sendall(b"SHO")
    connection.sendall(b"UT\nhello\n")
    got = b""
    while not got.endswith(b"HELLO\n"):
        piece = connection.recv(1000)
        assert piece, got
        got += piece
    return got


def test_another_protocol_on_the_same_ports(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A protocol is recognized on a TCP port, a unix socket, behind TLS and the PROXY protocol, beside
    HTTP on each; SIGHUP keeps it, and SIGTERM closes its connections.
    """
    bodies, path, proxied = tmp_path / "bodies", tmp_path / "socket", free_port()
    bodies.mkdir()
    secure = Secure(
        lambda *options: daemon(*options, environment=ENVIRONMENT),  # type: ignore[arg-type]
        tmp_path,
        "--route=^/shout tests.ingest.Shout",
        f"--endpoint=unix:{path}",
        f"--endpoint=haproxy:tcp:{proxied}:interface=127.0.0.1",
        "--proxy-protocol-senders=127.0.0.1",
    )
    address = ("127.0.0.1", secure.server.port)
    with socket.create_connection(address, PATIENCE) as plain:
        assert shout(plain) == b"127.0.0.1 False\nSHOUT\nHELLO\n"
        secure.server.send(signal.SIGHUP)
        settled(lambda: "reloaded" in secure.server.log)
        with socket.create_connection(address, PATIENCE) as again:
            assert shout(again) == b"127.0.0.1 False\nSHOUT\nHELLO\n"
        with socket.socket(socket.AF_UNIX) as local:
            local.settimeout(PATIENCE)
            local.connect(str(path))
            assert shout(local) == b" False\nSHOUT\nHELLO\n"
        with socket.create_connection(("127.0.0.1", proxied), PATIENCE) as proxy:
            proxy.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
            assert shout(proxy) == b"192.0.2.7 False\nSHOUT\nHELLO\n"
        context = ssl.create_default_context(cafile=secure.authority.file)
        with (
            socket.create_connection(("127.0.0.1", secure.port), PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as safe,
        ):
            assert shout(safe) == b"127.0.0.1 True\nSHOUT\nHELLO\n"
        for url in (secure.server.url, secure.url):
            done = subprocess.run(
                secure.curl("-o", "/dev/null", "-w", "%{http_code}", f"{url}/shout"),
                capture_output=True,
            )
            assert done.stdout == b"426"
        assert secure.server.kill() == 0
        assert plain.recv(1000) == b""


def test_another_protocol_in_workers(serve: Serve, daemon: StartDaemon) -> None:
    """
    Each worker recognizes the protocol.
    """
    redis = start_redis(serve)
    server = daemon(
        "--route=^/shout tests.ingest.Shout",
        "--workers=2",
        "--broker=redis",
        f"--redis-port={redis.port}",
        environment=ENVIRONMENT,
    )
    settled(lambda: server.log.count(" is up (pid") == 2)
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
            assert shout(connection) == b"127.0.0.1 False\nSHOUT\nHELLO\n"
