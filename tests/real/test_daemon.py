"""
The daemon as a process: endpoints, start and stop.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.real.conftest import PATIENCE, PAUSE, TWISTD, Serve, StartDaemon, free_port, require


class Stream:
    """
    Raw HTTP response of a subscriber.

    Args:
        connection: connected to the daemon.
        path: of the request.
        headers: further lines of the request's head.
    """

    def __init__(self, connection: socket.socket, path: str, headers: str = "") -> None:
        self._connection = connection
        self._text = ""
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())

    def until(self, text: str) -> str:
        """
        Return all received text, as soon as it contains *text*.
        """
        while text not in self._text:
            data = self._connection.recv(65536)
            assert data, f"ended without {text!r}: {self._text}"
            self._text += data.decode()
        return self._text

    def rest(self) -> str:
        """
        Return all received text when the daemon has closed the connection.
        """
        while data := self._connection.recv(65536):
            self._text += data.decode()
        return self._text


@contextmanager
def subscribed(port: int, path: str, host: str = "127.0.0.1") -> Iterator[Stream]:
    """
    Yield the stream of a subscriber on a TCP port, after it has joined.
    """
    with socket.create_connection((host, port), PATIENCE) as connection:
        stream = Stream(connection, path)
        stream.until("\nid: ")
        yield stream


def publish(port: int, host: str = "127.0.0.1", **fields: str) -> int:
    """
    Publish a form.

    Returns:
        the status of the response.
    """
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    connection.request("POST", "/publish", urlencode(fields), {"Content-Type": FORM})
    status = connection.getresponse().status
    connection.close()
    return status


FORM = "application/x-www-form-urlencoded"


def refuses(host: str, port: int) -> bool:
    """
    Return whether connections to the port are refused.
    """
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def start_error(*options: str, folder: Path) -> str:
    """
    Return the error of a daemon that cannot start.
    """
    done = subprocess.run(
        [*TWISTD, "realtime", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    # Errors after the start of the log are in the log.
    errors = [line for line in (done.stdout + done.stderr).splitlines() if "realtime: " in line]
    assert len(errors) == 1, done.stdout + done.stderr
    return errors[0].partition("realtime: ")[2]


def background_start_error(*options: str, folder: Path) -> str:
    """
    Return what the command prints without `-n` if the daemon cannot start.
    """
    done = subprocess.run(
        [TWISTD[0], "--pidfile=pid", "--logfile=daemon.log", "realtime", *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert not (folder / "pid").exists()
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr


def test_a_failed_start_in_the_background_is_reported(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    If a port or the history file is in use, the command prints one sentence and exits with
    status 1, with and without workers, and leaves no pid file.
    """
    running = daemon("--history-file=log", folder=tmp_path)
    port = f"--port={running.port}"
    workers = ("--workers=2", "--broker=redis", f"--redis-port={free_port()}")

    output = background_start_error(port, folder=tmp_path)
    assert output.startswith(f"realtime: cannot listen on tcp:{running.port}:")
    assert "Address already in use" in output
    assert "Address already in use" in background_start_error(port, *workers, folder=tmp_path)
    output = background_start_error("--port=0", "--history-file=log", folder=tmp_path)
    assert "is in use by another daemon" in output


# Endpoints.


def test_all_endpoints_show_the_same_channels(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A message published through a unix socket reaches subscribers on two TCP ports.
    """
    path, second = tmp_path / "realtime.sock", free_port()
    server = daemon(f"--endpoint=unix:{path}", f"--endpoint=tcp:{second}:interface=127.0.0.1")
    with (
        subscribed(server.port, "/?channels=news") as one,
        subscribed(second, "/?channels=news") as other,
        socket.socket(socket.AF_UNIX) as publisher,
    ):
        publisher.settimeout(PATIENCE)
        publisher.connect(str(path))
        body = "channel=news&message=by+socket"
        publisher.sendall(
            f"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: {FORM}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )

        assert b'"receivers": 2' in publisher.recv(65536)
        assert "data: by socket\n" in one.until("data: ")
        assert "data: by socket\n" in other.until("data: ")
    server.kill()
    assert not path.exists()


def test_the_default_address_is_local(daemon: StartDaemon) -> None:
    """
    The daemon listens on 127.0.0.1 by default, and on all of IPv4 with `--listen 0`.
    """
    local, open_to_all = daemon(), daemon("--listen=0")

    assert refuses("127.0.0.2", local.port)
    assert not refuses("127.0.0.2", open_to_all.port)
    with subscribed(open_to_all.port, "/?channels=news", "127.0.0.2") as stream:
        assert publish(open_to_all.port, channel="news", message="hello") == 200
        stream.until("data: hello\n")


def test_one_port_serves_ipv4_and_ipv6(daemon: StartDaemon) -> None:
    """
    With `--listen ::` clients connect by IPv4 and IPv6, and both loopback addresses are local.
    """
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = daemon("--listen=::")
    with subscribed(server.port, "/?channels=news", "::1") as stream:
        assert publish(server.port, host="127.0.0.1", channel="news", message="four") == 200
        assert publish(server.port, host="::1", channel="news", message="six") == 200
        assert "data: four\n" in stream.until("data: six\n")


def test_tls_beside_plain_http(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With cyclone-sse's TLS options, messages published on one port arrive on the other.
    """
    require("curl", "curl")
    secure = free_port()
    self_signed(tmp_path)
    server = daemon("--use-ssl=1", f"--ssl-port={secure}", folder=tmp_path)
    context = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
    with (
        socket.create_connection(("127.0.0.1", secure), PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        stream = Stream(connection, "/?channels=news")
        stream.until("\nid: ")
        assert publish(server.port, channel="news", message="plain") == 200
        stream.until("data: plain\n")
        url = f"https://127.0.0.1:{secure}/publish"
        answer = subprocess.run(
            ["curl", "-sk", "-d", "channel=news", "--data-urlencode", "message@-", url],
            input=b"x" * 300_000,
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        assert json.loads(answer.stdout)["receivers"] == 1
        stream.until("x" * 300_000 + "\n")


def self_signed(folder: Path) -> None:
    """
    Put server.crt and server.key for localhost into *folder*.
    """
    subprocess.run(
        [
            *f"{require('openssl', 'openssl')} req -x509 -newkey rsa:2048 -nodes -days 2".split(),
            *"-keyout server.key -out server.crt -subj /CN=localhost".split(),
            *"-addext subjectAltName=DNS:localhost".split(),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )


# Start.


def test_a_port_in_use_gives_one_error_line(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A second daemon on the port names the port and exits with status 1; the first one
    is not disturbed.
    """
    first = daemon()
    sentence = start_error(f"--port={first.port}", folder=tmp_path)

    assert sentence.startswith(f"cannot listen on tcp:{first.port}:")
    assert sentence.endswith("Address already in use")
    assert publish(first.port, channel="news", message="still here") == 200


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--listen=192.0.2.1", "--port=0"), "cannot listen on tcp:0:interface=192.0.2.1"),
        (("--endpoint=unix:/nowhere/at/all.sock",), "cannot listen on unix:/nowhere/at/all.sock"),
        (("--use-ssl=1", "--port=0"), "server.crt"),
    ],
    ids=["address", "socket", "certificate"],
)
def test_an_invalid_endpoint_gives_one_error_line(
    options: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    """
    A foreign address, a missing folder and a missing certificate each give one error line.
    """
    assert text in start_error(*options, folder=tmp_path)


def test_secrets_are_not_logged(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    Secrets from a file or the environment appear neither in the process list nor in a log.
    """
    (tmp_path / "secret").write_text("correct-horse\n")
    server = daemon(
        "--http-secret=file:secret",
        "--publish-key=env:SHOP_KEY news",
        "--access-log=access.log",
        folder=tmp_path,
        environment={"SHOP_KEY": "battery-staple"},
    )

    for key, status in (("correct-horse", 200), ("battery-staple", 200), ("wrong-guess", 401)):
        assert publish(server.port, channel="news", message="body-text", key=key) == status
    with subscribed(server.port, "/?channels=news&key=correct-horse&history=9") as stream:
        stream.until("data: body-text\n")
    shown = Path(f"/proc/{server.pid}/cmdline").read_text() + server.log
    shown += (tmp_path / "access.log").read_text()
    for text in ("correct-horse", "battery-staple", "wrong-guess", "body-text"):
        assert text not in shown
    assert '"POST /publish HTTP/1.1" 401' in shown


def test_only_trusted_proxies_set_the_client_address(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The access log has the address that a trusted proxy reports, and no address that others report.
    """
    log = tmp_path / "access.log"
    for trusted, address in (("", "127.0.0.1"), ("127.0.0.1", "192.0.2.7")):
        server = daemon(f"--trusted-proxies={trusted}", f"--access-log={log}")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/nothing", headers={"X-Forwarded-For": "192.0.2.9, 192.0.2.7"})
        assert connection.getresponse().status == 404
        connection.close()
        assert log.read_text().splitlines()[-1].startswith(f"{address} - - [")


def test_the_line_of_a_stream_in_json(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The access log has a stream when it ends, with what it received and the client's trace.
    """
    log = tmp_path / "access.log"
    server = daemon(f"--access-log={log}", "--access-log-format=json")
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        stream = Stream(connection, "/?channels=news", f"traceparent: {trace}\r\n")
        stream.until("\nid: ")
        assert publish(server.port, channel="news", message="hello") == 200
        stream.until("data: hello\n")
    deadline = time.monotonic() + PATIENCE
    while log.read_text().count("\n") < 2 and time.monotonic() < deadline:
        time.sleep(PAUSE)

    published, streamed = map(json.loads, log.read_text().splitlines())
    assert (published["method"], published["status"]) == ("POST", 200)
    assert (streamed["path"], streamed["messages"], streamed["traceparent"]) == ("/", 1, trace)
    assert streamed["bytes"] > len("data: hello") and streamed["seconds"] > 0
    assert streamed["reason"] in ("client", "lost")


# Stop.


def test_sigterm_ends_streams_with_a_reconnect_time(daemon: StartDaemon) -> None:
    """
    After SIGTERM each stream ends with a complete response and a `retry` of its own, and
    the daemon exits at once.
    """
    server = daemon("--retry=4", "--stop-seconds=5")
    with (
        subscribed(server.port, "/?channels=news") as one,
        subscribed(server.port, "/?channels=news") as other,
    ):
        start = time.monotonic()
        status = server.kill()
        assert time.monotonic() - start < 3
        ends = [stream.rest().rpartition("retry: ")[2] for stream in (one, other)]

    assert status == 0
    times = sorted(int(end.partition("\n")[0]) for end in ends)
    assert 4000 == times[0] < times[1] <= 8000
    assert all(end.endswith("\n\n\r\n0\r\n\r\n") for end in ends)
    assert refuses("127.0.0.1", server.port)


def test_a_stop_waits_for_an_incomplete_request(daemon: StartDaemon) -> None:
    """
    A body that is incomplete at SIGTERM is still published; new connections are refused.
    """
    server = daemon("--stop-seconds=5")
    body = b"channel=news&message=in+time"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (FORM.encode(), len(body), body[:10])
        )
        publish(
            server.port, channel="news", message="first"
        )  # then the other request has been read
        subprocess.run(["kill", str(server.pid)], check=True)
        while not refuses("127.0.0.1", server.port):
            time.sleep(0.02)
        connection.sendall(body[10:])
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert connection.recv(1) == b""
    assert server.kill(signal.SIGCONT) == 0  # only waits for the end


def test_a_stop_waits_for_stop_seconds_at_most(daemon: StartDaemon) -> None:
    """
    The daemon exits after `stop-seconds`, also if a request is incomplete.
    """
    server = daemon("--stop-seconds=1")
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
        )
        publish(server.port, channel="news", message="first")
        start = time.monotonic()
        server.kill()

        assert 0.8 < time.monotonic() - start < 4


def test_a_restart_can_use_the_same_port_at_once(daemon: StartDaemon) -> None:
    """
    A subscriber that reconnects after a restart gets a gap.
    """
    server = daemon()
    publish(server.port, channel="news", message="before")
    with subscribed(server.port, "/?channels=news") as stream:
        last = stream.until("\n\n\r\n").partition("\nid: ")[2].split()[0]
        server.restart()
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        reconnected = Stream(connection, "/?channels=news", f"Last-Event-ID: {last}\r\n")
        reconnected.until("event: gap\ndata: ")


def test_sockets_of_systemd(serve: Serve, tmp_path: Path) -> None:
    """
    The daemon serves a listening socket that it inherits by systemd's protocol.
    """
    port = free_port()
    launcher = (
        "import os, socket, sys\n"
        "held = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "os.set_inheritable(os.dup2(held.fileno(), 3), True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    command = [*TWISTD, "realtime", "--endpoint=systemd:domain=INET:index=0"]
    python = str(Path(TWISTD[0]).with_name("python"))
    server = serve([python, "-c", launcher, str(port), *command], port, tmp_path)
    while "Main loop" not in server.log and "starting on" not in server.log:
        time.sleep(0.05)

    with subscribed(port, "/?channels=news") as stream:
        assert publish(port, channel="news", message="handed over") == 200
        stream.until("data: handed over\n")
