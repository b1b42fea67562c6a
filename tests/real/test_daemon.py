"""
The daemon as a process: where it listens, how it starts, how it stops.
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

from tests.real.conftest import PATIENCE, TWISTD, Serve, StartDaemon, free_port, require


class Stream:
    """
    A reader, byte for byte.

    Args:
        connection: connected.
        path: what to ask for.
        headers: in addition.
    """

    def __init__(self, connection: socket.socket, path: str, headers: str = "") -> None:
        self._connection = connection
        self._text = ""
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())

    def until(self, words: str) -> str:
        """
        All that has come, as soon as *words* are in it.
        """
        while words not in self._text:
            data = self._connection.recv(65536)
            assert data, f"ended without {words!r}: {self._text}"
            self._text += data.decode()
        return self._text

    def rest(self) -> str:
        """
        All of it, when the daemon has hung up.
        """
        while data := self._connection.recv(65536):
            self._text += data.decode()
        return self._text


@contextmanager
def reading(port: int, path: str, host: str = "127.0.0.1") -> Iterator[Stream]:
    """
    A reader on a TCP port, who has joined.
    """
    with socket.create_connection((host, port), PATIENCE) as connection:
        stream = Stream(connection, path)
        stream.until("\nid: ")
        yield stream


def publish(port: int, host: str = "127.0.0.1", **fields: str) -> int:
    """
    Publish a form.

    Returns:
        the status.
    """
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE)
    connection.request("POST", "/publish", urlencode(fields), {"Content-Type": FORM})
    status = connection.getresponse().status
    connection.close()
    return status


FORM = "application/x-www-form-urlencoded"


def refuses(host: str, port: int) -> bool:
    """
    Whether nobody listens there.
    """
    try:
        socket.create_connection((host, port), PATIENCE).close()
    except ConnectionRefusedError:
        return True
    return False


def fails(*options: str, folder: Path) -> str:
    """
    What a daemon says that cannot start.
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
    # Once it has begun to log, that is where a mistake is said.
    said = [line for line in (done.stdout + done.stderr).splitlines() if "realtime: " in line]
    assert len(said) == 1, done.stdout + done.stderr
    return said[0].partition("realtime: ")[2]


def fails_in_background(*options: str, folder: Path) -> str:
    """
    What the command prints without `-n`, if the daemon cannot start.
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


def test_a_daemon_in_the_background_that_cannot_start_says_so(
    daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    A port in use, with and without workers, and a history file in use: the command
    prints one sentence and ends with status 1; no pid file stays.
    """
    running = daemon("--history-file=log", folder=tmp_path)
    port = f"--port={running.port}"
    workers = ("--workers=2", "--broker=redis", f"--redis-port={free_port()}")

    said = fails_in_background(port, folder=tmp_path)
    assert said.startswith(f"realtime: cannot listen on tcp:{running.port}:")
    assert "Address already in use" in said
    assert "Address already in use" in fails_in_background(port, *workers, folder=tmp_path)
    said = fails_in_background("--port=0", "--history-file=log", folder=tmp_path)
    assert "is in use by another daemon" in said


# Listening.


def test_all_endpoints_show_the_same_channels(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    What is published by a unix socket is read on two TCP ports.
    """
    path, second = tmp_path / "realtime.sock", free_port()
    server = daemon(f"--endpoint=unix:{path}", f"--endpoint=tcp:{second}:interface=127.0.0.1")
    with (
        reading(server.port, "/?channels=news") as one,
        reading(second, "/?channels=news") as other,
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


def test_it_listens_to_this_machine_alone_unless_told(daemon: StartDaemon) -> None:
    """
    `--listen 0` is all of IPv4, the default one address.
    """
    alone, wide = daemon(), daemon("--listen=0")

    assert refuses("127.0.0.2", alone.port)
    assert not refuses("127.0.0.2", wide.port)
    with reading(wide.port, "/?channels=news", "127.0.0.2") as stream:
        assert publish(wide.port, channel="news", message="hello") == 200
        stream.until("data: hello\n")


def test_ipv6_and_ipv4_on_one_port(daemon: StartDaemon) -> None:
    """
    `--listen ::` is both; either counts as this machine.
    """
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = daemon("--listen=::")
    with reading(server.port, "/?channels=news", "::1") as stream:
        assert publish(server.port, host="127.0.0.1", channel="news", message="four") == 200
        assert publish(server.port, host="::1", channel="news", message="six") == 200
        assert "data: four\n" in stream.until("data: six\n")


def test_tls_beside_plain_http(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    cyclone-sse's options; a message published on one port is read on the other.
    """
    require("curl", "curl")
    secure = free_port()
    self_signed(tmp_path)
    server = daemon("--use-ssl=1", f"--ssl-port={secure}", folder=tmp_path)
    trusting = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
    with (
        socket.create_connection(("127.0.0.1", secure), PATIENCE) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as connection,
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


# Starting.


def test_a_port_in_use_is_one_sentence(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The second one names the port and ends with status 1; the first does not notice.
    """
    first = daemon()
    sentence = fails(f"--port={first.port}", folder=tmp_path)

    assert sentence.startswith(f"cannot listen on tcp:{first.port}:")
    assert sentence.endswith("Address already in use")
    assert publish(first.port, channel="news", message="still here") == 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--listen=192.0.2.1", "--port=0"), "cannot listen on tcp:0:interface=192.0.2.1"),
        (("--endpoint=unix:/nowhere/at/all.sock",), "cannot listen on unix:/nowhere/at/all.sock"),
        (("--use-ssl=1", "--port=0"), "server.crt"),
    ],
    ids=["address", "socket", "certificate"],
)
def test_what_cannot_be_listened_on_is_one_sentence(
    options: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    """
    A foreign address, a missing folder and a missing certificate each give one error line.
    """
    assert words in fails(*options, folder=tmp_path)


def test_secrets_stay_where_they_are(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    From a file and from the environment, none is in the process list or in the log.
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
    with reading(server.port, "/?channels=news&key=correct-horse&history=9") as stream:
        stream.until("data: body-text\n")
    shown = Path(f"/proc/{server.pid}/cmdline").read_text() + server.log
    shown += (tmp_path / "access.log").read_text()
    for text in ("correct-horse", "battery-staple", "wrong-guess", "body-text"):
        assert text not in shown
    assert '"POST /publish HTTP/1.1" 401' in shown


def test_proxies_are_believed_only_if_trusted(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The access log names who a trusted proxy names; nobody else is believed.
    """
    log = tmp_path / "access.log"
    for trusted, address in (("", "127.0.0.1"), ("127.0.0.1", "192.0.2.7")):
        server = daemon(f"--trusted-proxies={trusted}", f"--access-log={log}")
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/nothing", headers={"X-Forwarded-For": "192.0.2.9, 192.0.2.7"})
        assert connection.getresponse().status == 404
        connection.close()
        assert log.read_text().splitlines()[-1].startswith(f"{address} - - [")


# Stopping.


def test_readers_are_told_when_to_come_back(daemon: StartDaemon) -> None:
    """
    SIGTERM: each stream ends whole, after a `retry` of its own; then it is gone at once.
    """
    server = daemon("--retry=4", "--stop-seconds=5")
    with (
        reading(server.port, "/?channels=news") as one,
        reading(server.port, "/?channels=news") as other,
    ):
        begun = time.monotonic()
        status = server.kill()
        assert time.monotonic() - begun < 3
        ends = [stream.rest().rpartition("retry: ")[2] for stream in (one, other)]

    assert status == 0
    times = sorted(int(end.partition("\n")[0]) for end in ends)
    assert 4000 == times[0] < times[1] <= 8000
    assert all(end.endswith("\n\n\r\n0\r\n\r\n") for end in ends)
    assert refuses("127.0.0.1", server.port)


def test_a_running_request_may_finish(daemon: StartDaemon) -> None:
    """
    A body that is half here when SIGTERM comes is still published; new readers
    find nobody.
    """
    server = daemon("--stop-seconds=5")
    body = b"channel=news&message=in+time"
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (FORM.encode(), len(body), body[:10])
        )
        publish(server.port, channel="news", message="first")  # so the other has been read
        subprocess.run(["kill", str(server.pid)], check=True)
        while not refuses("127.0.0.1", server.port):
            time.sleep(0.02)
        connection.sendall(body[10:])
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert connection.recv(1) == b""
    assert server.kill(signal.SIGCONT) == 0  # which only waits for its end


def test_a_request_that_does_not_finish_is_not_waited_for(daemon: StartDaemon) -> None:
    """
    The daemon ends after `stop-seconds`, also if a request is incomplete.
    """
    server = daemon("--stop-seconds=1")
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        connection.sendall(
            b"POST /publish HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx"
        )
        publish(server.port, channel="news", message="first")
        begun = time.monotonic()
        server.kill()

        assert 0.8 < time.monotonic() - begun < 4


def test_it_starts_again_on_the_same_port_at_once(daemon: StartDaemon) -> None:
    """
    A subscriber that reconnects after a restart gets a gap.
    """
    server = daemon()
    publish(server.port, channel="news", message="before")
    with reading(server.port, "/?channels=news") as stream:
        last = stream.until("\n\n\r\n").partition("\nid: ")[2].split()[0]
        server.restart()
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as connection:
        back = Stream(connection, "/?channels=news", f"Last-Event-ID: {last}\r\n")
        back.until("event: gap\ndata: ")


def test_sockets_of_systemd(serve: Serve, tmp_path: Path) -> None:
    """
    A socket that somebody else has opened and handed over.
    """
    port = free_port()
    hand_over = (
        "import os, socket, sys\n"
        "held = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "os.set_inheritable(os.dup2(held.fileno(), 3), True)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web', LISTEN_PID=str(os.getpid()))\n"
        "os.execv(sys.argv[2], sys.argv[2:])\n"
    )
    command = [*TWISTD, "realtime", "--endpoint=systemd:domain=INET:index=0"]
    python = str(Path(TWISTD[0]).with_name("python"))
    server = serve([python, "-c", hand_over, str(port), *command], port, tmp_path)
    while "Main loop" not in server.log and "starting on" not in server.log:
        time.sleep(0.05)

    with reading(port, "/?channels=news") as stream:
        assert publish(port, channel="news", message="handed over") == 200
        stream.until("data: handed over\n")
