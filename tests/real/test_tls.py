"""
TLS and HTTP/2 with programs that users have: curl, openssl, a browser.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.pems import Authority
from tests.real.conftest import PATIENCE, Browser, Serve, Server, StartDaemon, free_port, require
from tests.real.test_daemon import publish
from tests.unit.net.test_tls import trusting

EVENT_SOURCES = """(
    window.allHeard = Array.from({length: %d}, () => []),
    window.allStreams = allHeard.map((list, number) => {
        const stream = new EventSource('/?channels=news&number=' + number);
        stream.onmessage = event => list.push(event.data);
        return stream;
    }),
    true
)"""


class Secure:
    """
    A daemon with a TLS port.

    Args:
        start: the fixture.
        folder: where its certificate is written.
        options: further ones.
    """

    def __init__(self, start: StartDaemon, folder: Path, *options: str) -> None:
        self.authority = Authority(folder)
        self.pair = self.authority.pair("server", "localhost", "127.0.0.1")
        self.port = free_port()
        self.server: Server = start(
            "--use-ssl=1",
            f"--ssl-port={self.port}",
            f"--ssl-cert={self.pair[0]}",
            f"--ssl-key={self.pair[1]}",
            *options,
        )

    @property
    def url(self) -> str:
        """
        The URL of the TLS port, without a slash at the end.
        """
        return f"https://127.0.0.1:{self.port}"

    def curl(self, *arguments: str) -> list[str]:
        """
        Return a curl command that trusts the daemon.
        """
        return [require("curl", "curl"), "-sS", "--cacert", self.authority.file, *arguments]

    def publish(self, message: str) -> None:
        """
        Publish to `news` by the plain port.
        """
        assert publish(self.server.port, channel="news", message=message) == 200

    def stats(self) -> Any:
        """
        Return the contents of /stats.
        """
        with urllib.request.urlopen(f"{self.server.url}/stats") as answer:
            return json.loads(answer.read())

    def until_subscribers(self, count: int) -> None:
        """
        Wait until `news` has that many subscribers.
        """
        until(lambda: self.subscribers() == count, f"{count} subscribers")

    def subscribers(self) -> int:
        """
        The number of subscribers of `news`.
        """
        count: int = dict(self.stats()).get("news", 0)
        return count

    def connect(self, *protocols: str) -> Any:
        """
        Return a TLS connection that uses the first of *protocols* that the daemon supports.
        """
        context = trusting(self.authority)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        plain = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        return context.wrap_socket(plain)


def until(true: Callable[[], object], what: str) -> None:
    """
    Wait until *true* returns true; *what* is for the error.
    """
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"no {what} after {PATIENCE:g} seconds"
        time.sleep(0.05)


@contextmanager
def running(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """
    Run a program until the block ends.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.kill()


def read_until(process: subprocess.Popen[bytes], words: bytes) -> bytes:
    """
    Return the output of a program up to *words*.
    """
    assert process.stdout is not None
    received = b""
    while words not in received:
        piece = process.stdout.read1(65536)  # type: ignore[attr-defined]  # it is a BufferedReader
        assert piece, received
        received += piece
    return received


def test_curl_streams_by_http_2(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    `curl --http2 -N` shows messages at once, and what curl publishes arrives; HTTP/1.1 works on the
    same port.
    """
    secure = Secure(daemon, tmp_path)
    stream = f"{secure.url}/?channels=news"
    for version in ("--http2", "--http1.1"):
        with running(secure.curl(version, "-N", "-i", stream)) as reader:
            head = read_until(reader, b"id: ")
            assert head.startswith(b"HTTP/2 200" if version == "--http2" else b"HTTP/1.1 200")
            assert b"content-type: text/event-stream" in head.lower()
            publishing = secure.curl(version, "-d", "channel=news", "-d", "message=hello")
            answer = subprocess.run(
                [*publishing, f"{secure.url}/publish"],
                capture_output=True,
                check=True,
                timeout=PATIENCE,
            )
            assert json.loads(answer.stdout)["receivers"] == 1
            assert b"data: hello\n" in read_until(reader, b"data: hello\n")


def test_curl_gets_everything_by_http_2(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Pages, statistics, static files and large bodies work by HTTP/2, on one connection.
    """
    files = tmp_path / "files"
    files.mkdir()
    (files / "large.bin").write_bytes(bytes(range(256)) * 8192)
    secure = Secure(
        daemon,
        tmp_path,
        f"--route=^/files/ static:{files}",
        "--route=^/try$ page",
        "--route=^/publish$ publish",
        "--route=^/stats$ stats",
    )
    large = tmp_path / "body"
    large.write_bytes(b"x" * 900_000)
    write = ["--http2", "-o", "/dev/null", "-w", "%{http_code} %{http_version} %{size_download}\n"]
    then = ["--next", *write, "--cacert", secure.authority.file]
    publishing = ["-d", "channel=news", "--data-urlencode", f"message@{large}"]
    commands = (
        [f"{secure.url}/files/large.bin"],
        [*then, f"{secure.url}/try"],
        [*then, f"{secure.url}/stats"],
        [*then, f"{secure.url}/none"],
        [*then, *publishing, f"{secure.url}/publish"],
        [*then, "-T", "/dev/zero", "-X", "POST", "-m", "10", f"{secure.url}/publish"],
    )
    answer = subprocess.run(
        secure.curl(*write, *(word for command in commands for word in command)),
        capture_output=True,
        timeout=PATIENCE,
        text=True,
    )
    lines = [line.split() for line in answer.stdout.splitlines()]

    assert [line[:2] for line in lines[:5]] == [
        [status, "2"] for status in ("200", "200", "200", "404", "200")
    ], answer
    assert lines[0][2] == str(256 * 8192)
    assert lines[5][0] == "413", answer


def test_a_curl_that_is_killed(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The subscriber of a killed curl is gone at once; others go on.
    """
    secure = Secure(daemon, tmp_path)
    command = secure.curl("--http2", "-N", f"{secure.url}/?channels=news")
    with running(command) as first, running(command) as second:
        read_until(first, b"id: ")
        read_until(second, b"id: ")
        secure.until_subscribers(2)
        first.kill()
        secure.until_subscribers(1)
        secure.publish("still here")
        assert read_until(second, b"data: still here\n")


class H2Client:
    """
    A blocking client of the h2 library, which opens its windows only on request.
    """

    def __init__(self, sock: Any) -> None:
        assert sock.selected_alpn_protocol() == "h2"
        self.sock = sock
        self.talk = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.talk.initiate_connection()
        self.received: dict[int, bytes] = {}
        self.over: set[int] = set()
        self.sock.sendall(self.talk.data_to_send())

    def ask(self, path: str) -> int:
        """
        Begin a request; return the number of its stream.
        """
        number = self.talk.get_next_available_stream_id()
        head = [(":method", "GET"), (":path", path), (":scheme", "https"), (":authority", "a")]
        self.talk.send_headers(number, head, end_stream=True)
        self.received[number] = b""
        self.sock.sendall(self.talk.data_to_send())
        return number

    def read(self, take: bool = True) -> None:
        """
        Wait for events; without *take* the windows stay as they are.
        """
        data = self.sock.recv(65536)
        assert data, "the daemon closed the connection"
        for event in self.talk.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.received[event.stream_id or 0] += event.data or b""
                size = event.flow_controlled_length or 0
                if take:
                    self.talk.acknowledge_received_data(size, event.stream_id or 0)
            elif isinstance(event, h2.events.StreamReset | h2.events.StreamEnded):
                self.over.add(event.stream_id or 0)
        self.sock.sendall(self.talk.data_to_send())


def test_a_hundred_streams_on_one_connection(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Each of a hundred streams gets every message once, in order.
    """
    secure = Secure(daemon, tmp_path)
    with secure.connect("h2") as sock:
        client = H2Client(sock)
        streams = [client.ask("/?channels=news") for _ in range(100)]
        while not all(client.received[number] for number in streams):
            client.read()
        for number in range(50):
            secure.publish(f"message {number:02}")
        while not all(b"message 49\n" in client.received[number] for number in streams):
            client.read()

    data_lines = [line for line in client.received[1].split(b"\n") if line.startswith(b"data: ")]
    assert data_lines == [b"data: message %02d" % number for number in range(50)]
    assert all(client.received[number].count(b"data: ") == 50 for number in streams)
    secure.until_subscribers(0)


def test_a_slow_stream_meets_the_policy(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A stream whose window stays closed is reset, and its connection lives. A client that reads
    nothing at all loses all subscribers of its connection. The daemon uses no CPU meanwhile.
    """
    secure = Secure(daemon, tmp_path, "--backlog-bytes=100k", "--backlog-seconds=2")
    with secure.connect("h2") as sock, secure.connect("h2") as stalled:
        client = H2Client(sock)
        slow = client.ask("/?channels=news")
        H2Client(stalled).ask("/?channels=news")
        secure.until_subscribers(2)
        for _ in range(20):
            secure.publish("x" * 50_000)
        sock.settimeout(PATIENCE)
        before = cpu_seconds(secure.server.pid)
        while slow not in client.over:
            client.read(take=False)
        secure.until_subscribers(0)
        assert cpu_seconds(secure.server.pid) - before < 1.0
        other = client.ask("/none")
        client.talk.acknowledge_received_data(60_000, slow)
        while other not in client.over:
            client.read()
        assert client.received[other] == b"not found\n"


def cpu_seconds(pid: int) -> float:
    """
    Return the CPU time of a process, as the kernel counts it.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_quiet_stream_lives(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A quiet stream outlives every timeout for requests, by heartbeats alone.
    """
    quick = ("--idle-seconds=1", "--head-seconds=1", "--body-seconds=1", "--heartbeat=1")
    secure = Secure(daemon, tmp_path, *quick)
    with running(secure.curl("--http2", "-N", f"{secure.url}/?channels=news")) as reader:
        read_until(reader, b"id: ")
        time.sleep(5)
        secure.publish("after all")
        assert read_until(reader, b"data: after all\n")


def test_old_versions_are_refused(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    openssl's client connects by TLS 1.2 and 1.3, and not by 1.1.
    """
    secure = Secure(daemon, tmp_path)
    openssl = require("openssl", "openssl")
    outputs = {}
    for version in ("-tls1_1", "-tls1_2", "-tls1_3"):
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{secure.port}", version]
        command += ["-cipher", "ALL:@SECLEVEL=0", "-CAfile", secure.authority.file]
        answer = subprocess.run(command, input=b"", capture_output=True, timeout=PATIENCE)
        outputs[version] = answer.stdout + answer.stderr

    assert b"alert protocol version" in outputs["-tls1_1"]
    assert b"Verify return code: 0 (ok)" in outputs["-tls1_2"]
    assert b"Verify return code: 0 (ok)" in outputs["-tls1_3"]


def test_certificates_are_reloaded(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    After SIGHUP new connections get the new certificate, and open ones stay. A wrong file changes
    nothing, and is logged.
    """
    secure = Secure(daemon, tmp_path)

    def serial() -> bytes:
        with secure.connect() as sock:
            seen: bytes = sock.getpeercert(True)
            return seen

    with running(secure.curl("--http2", "-N", f"{secure.url}/?channels=news")) as reader:
        read_until(reader, b"id: ")
        before = serial()
        secure.authority.pair("server", "localhost", "127.0.0.1")
        assert serial() == before
        secure.server.send(signal.SIGHUP)
        until(lambda: serial() != before, "new certificate")
        after = serial()
        Path(secure.pair[1]).write_text("nonsense")
        secure.server.send(signal.SIGHUP)
        until(lambda: "server.key: there is no PEM" in secure.server.log, "word about it")
        assert serial() == after
        secure.publish("still here")
        assert read_until(reader, b"data: still here\n")


def test_ssl_endpoints_serve_both_versions(
    serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    Twisted's `ssl:` endpoints serve HTTP/1.1 and HTTP/2.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.pair("server", "localhost", "127.0.0.1")
    port = free_port()
    daemon(f"--endpoint=ssl:{port}:interface=127.0.0.1:privateKey={key}:certKey={certificate}")
    for version, words in (("--http2", b"HTTP/2 200"), ("--http1.1", b"HTTP/1.1 200")):
        command = [require("curl", "curl"), "-sS", "--cacert", authority.file, version, "-i"]
        page = subprocess.run(
            [*command, f"https://127.0.0.1:{port}/try"],
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        assert page.stdout.startswith(words)


@pytest.fixture
def insecure_browser(serve: Serve, tmp_path: Path) -> Iterator[Browser]:
    """
    A browser that accepts any certificate.
    """
    chromium = require("chromium", "chromium")
    port = free_port()
    serve([require("chromedriver", "chromium-driver"), f"--port={port}"], port)
    browser = Browser(port, chromium, tmp_path / "profile", "--ignore-certificate-errors")
    yield browser
    browser.close()


def test_a_browser_has_more_than_six_streams(
    daemon: StartDaemon, insecure_browser: Browser, tmp_path: Path
) -> None:
    """
    Thirty EventSources of one page to one origin all receive by HTTP/2; by HTTP/1.1 the browser
    opens six at a time.
    """
    browser, secure = insecure_browser, Secure(daemon, tmp_path)
    browser.open(f"{secure.url}/try")
    assert browser.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
    browser.evaluate(EVENT_SOURCES % 30)
    browser.wait_for("allStreams.every(stream => stream.readyState === 1)")
    secure.publish("for all")
    browser.wait_for("allHeard.every(list => list.join() === 'for all')")
    browser.evaluate("allStreams.slice(10).map(stream => stream.close()).length")
    secure.until_subscribers(10)
    secure.publish("for ten")
    browser.wait_for("allHeard.slice(0, 10).every(list => list.join() === 'for all,for ten')")

    browser.open(f"{secure.server.url}/try")
    browser.evaluate(EVENT_SOURCES % 30)
    browser.wait_for("allStreams.filter(stream => stream.readyState === 1).length === 6")
    time.sleep(1)
    assert browser.evaluate("allStreams.filter(stream => stream.readyState === 1).length") == 6
