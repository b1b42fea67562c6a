"""
Socket.IO with several workers: whatever connection a request comes by, its session's
worker answers it.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect as open_websocket

from tests.pems import Authority
from tests.real.conftest import PATIENCE, free_port
from tests.real.socketio_peers import Peer
from tests.real.test_socketio import KINDS, TRANSPORTS, Connect, connect
from tests.real.test_workers import Start, WorkerDaemon, broker, relay, settled, start_workers
from tests.unit.net.test_tls import trusting

__all__ = ["broker", "connect", "relay", "start_workers"]  # fixtures

POLLING = "/socket.io/?EIO=4&transport=polling"
UNKNOWN = {"code": 1, "message": "Session ID unknown"}


@pytest.fixture
def daemon_of_three(start_workers: Start) -> WorkerDaemon:
    """
    A daemon with three workers, all of which are up.
    """
    return start_workers().up()


class Client:
    """
    An HTTP client with one connection; a browser uses several of them.

    Args:
        port: of the daemon, or the path of its unix socket.
        secure: how by TLS; None for without.
    """

    def __init__(self, port: int | Path, secure: ssl.SSLContext | None = None) -> None:
        local = isinstance(port, Path)
        self.line = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        self.line.settimeout(PATIENCE)
        self.line.connect(str(port) if local else ("127.0.0.1", port))
        if secure is not None:
            self.line = secure.wrap_socket(self.line, server_hostname="localhost")
        self.heard = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.line.close()

    def ask(self, path: str, body: bytes | None = None) -> Any:
        """
        What GET answers, or POST of *body*: JSON, or else text.
        """
        self.say(request(path, body))
        return self.hear()

    def say(self, data: bytes) -> None:
        """
        Send bytes as they are.
        """
        self.line.sendall(data)

    def hear(self) -> Any:
        """
        The next response, after any that are only on the way (1xx).
        """
        while b"\r\n\r\n" not in self.heard:
            self._more()
        head, _, self.heard = self.heard.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 1"):
            return self.hear()
        found = re.search(rb"Content-Length: (\d+)", head)
        assert found is not None, head
        while len(self.heard) < int(found[1]):
            self._more()
        body, self.heard = self.heard[: int(found[1])], self.heard[int(found[1]) :]
        return json.loads(body) if b"application/json" in head else body.decode()

    def _more(self) -> None:
        data = self.line.recv(65536)
        assert data, "it hung up"
        self.heard += data


def request(path: str, body: bytes | None = None, extra: str = "") -> bytes:
    """
    A request with all of its body.
    """
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def opened(port: int | Path, secure: ssl.SSLContext | None = None) -> str:
    """
    Open a session, join, and subscribe to `news`.

    Returns:
        the path of its polls.
    """
    with Client(port, secure) as client:
        path = f"{POLLING}&sid={json.loads(client.ask(POLLING)[1:])['sid']}"
        assert client.ask(path, b"40") == "ok"
        assert client.ask(path).startswith("40{")
        assert client.ask(path, b'420["subscribe","news"]') == "ok"
        while "430[" not in client.ask(path):
            pass
    return path


def worker_of(path: str) -> int:
    """
    Which one has the session, by its id.
    """
    found = re.search(r"sid=[0-9a-f]+w(\d+)-", path)
    assert found is not None, path
    return int(found[1])


@pytest.fixture
def path(daemon_of_three: WorkerDaemon) -> str:
    """
    Of the polls of a session.
    """
    return opened(daemon_of_three.port)


@pytest.fixture
def strangers(daemon_of_three: WorkerDaemon, path: str) -> Iterator[list[Client]]:
    """
    Connections, of which nearly all are to workers that do not have the session.
    """
    clients = [Client(daemon_of_three.port) for _ in range(12)]
    yield clients
    for each in clients:
        each.line.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clients_as_they_come(
    transport: str, daemon_of_three: WorkerDaemon, connect: Connect
) -> None:
    """
    Real clients that know nothing of workers: each hears all that the others emit.
    """
    url, ways = daemon_of_three.server.url, TRANSPORTS[transport]
    peers: list[Peer] = [connect(kind, url, ways) for kind in KINDS * 2]
    for peer in peers:
        peer.wait("connect")
        peer.request("subscribe", "news")
    for number, peer in enumerate(peers):
        peer.request("publish", "news", {"from": number})

    for peer in peers:
        said = [line[0]["from"] for line in peer.events("message", len(peers))]
        assert sorted(said) == [*range(len(peers))]
        assert not [line for line in peer.lines if line[0] in ("disconnect", "error")]
        done = (["connect", "websocket"], ["upgrade", "websocket"])
        if transport == "upgrade" and not any(line[:2] in done for line in peer.lines):
            peer.wait("upgrade")


def test_each_request_by_another_connection(path: str, strangers: list[Client]) -> None:
    """
    Posts and polls, one after the other on each: the second on a connection that has
    been passed on already.
    """
    for number, client in enumerate(strangers * 2):
        assert client.ask(path, b'42["publish","news","%d"]' % number) == "ok"
        assert f'42["message","{number}",' in client.ask(path)


def test_other_requests_on_a_connection_that_was_passed_on(
    path: str, strangers: list[Client]
) -> None:
    """
    A connection that was passed on serves other requests as any connection does.
    """
    for client in strangers:
        assert client.ask(path, b"3") == "ok"
        assert client.ask("/healthz") == "alive\n"
        assert client.ask("/socket.io/?EIO=4&transport=polling&sid=nobody") == UNKNOWN


def test_a_poll_that_waits(
    path: str, strangers: list[Client], daemon_of_three: WorkerDaemon
) -> None:
    """
    What is published later answers it; a client that goes away ends its session.
    """
    waiting, other, *_ = strangers
    waiting.say(request(path))
    assert other.ask(path, b'42["publish","news","now"]') == "ok"
    assert '"now"' in waiting.hear()

    waiting.say(request(path))
    settled(lambda: daemon_of_three.stats()["readers"]["now"] == 1)
    waiting.line.close()
    settled(lambda: daemon_of_three.stats()["readers"]["now"] == 0)
    # The poll of a closed connection ends with its time, as the client may be half-closed only:
    # by now idle connections have been closed.
    with Client(daemon_of_three.port) as later:
        assert later.ask(path) == UNKNOWN


def test_bodies(path: str, strangers: list[Client]) -> None:
    """
    What has come of a body goes with the connection, the rest comes behind it.
    """
    for size in (1, 60_000, 900_000):
        body = b'42["publish","news","%s"]' % (b"x" * size)
        whole = request(path, body)
        cuts = [len(whole), len(whole) - len(body), len(whole) - 1, 150, 60, 30_000]
        for client, cut in zip(strangers, cuts, strict=False):
            client.say(whole[:cut])
            client.say(whole[cut:])
            assert client.hear() == "ok"
            assert len(client.ask(path)) > size

    # In chunks, whole.
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = b'42["publish","news","chunks"]'
    for client in strangers[6:]:
        client.say(head + b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:]))
        assert client.hear() == "ok"
        assert '"chunks"' in client.ask(path)


def test_a_client_that_waits_to_be_asked_for_the_body(path: str, strangers: list[Client]) -> None:
    """
    `Expect: 100-continue` is answered by the worker that reads the body (RFC 9110, 10.1.1).
    """
    for client in strangers[:6]:
        whole = request(path, b"3", extra="Expect: 100-continue\r\n")
        client.say(whole[:-1])
        while b"100 Continue" not in client.heard:
            client.heard += client.line.recv(65536)
        client.say(whole[-1:])
        assert client.hear() == "ok"


def test_what_cannot_be_passed_on(path: str, strangers: list[Client]) -> None:
    """
    A second request behind the first is understood already, and in the middle of a
    chunk nobody could go on: the answer is as for a session that is over.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    answers = []
    for client in strangers[:6]:
        client.say(request(path, b"3") + request("/healthz"))
        answers.append(client.hear())
        assert client.hear() == "alive\n"
    for client in strangers[6:]:
        client.say(head + b"5\r\n3")
        client.line.settimeout(0.5)
        try:
            answers.append(client.hear())
        except TimeoutError:
            client.line.settimeout(PATIENCE)
            client.say(b"xxxx\r\n0\r\n\r\n")
            answers.append(client.hear())
    assert UNKNOWN in answers[:6]
    assert UNKNOWN in answers[6:]
    assert all(each in ("ok", UNKNOWN) for each in answers)


def test_ids_that_nobody_made(path: str, strangers: list[Client]) -> None:
    """
    Every worker rejects session ids that no worker created.
    """
    mark = path.partition("sid=")[2].partition("w")[0]
    for number in ("0", "4", "99999999999999999999", "-1", "1", "2", "3", ""):
        for client in strangers[:4]:
            for sid in (f"{mark}w{number}-x", f"w{number}-x", f"{mark}w{number}"):
                assert client.ask(f"{POLLING}&sid={sid}") == UNKNOWN


def test_a_worker_that_was_killed(daemon_of_three: WorkerDaemon, path: str) -> None:
    """
    The sessions of a killed worker end; its successor answers their clients that the session is
    unknown.
    """
    os.kill(daemon_of_three.pids()[worker_of(path) - 1], signal.SIGKILL)
    for _ in range(6):
        with Client(daemon_of_three.port) as client:
            assert client.ask(path) == UNKNOWN


def test_a_worker_that_takes_nothing(daemon_of_three: WorkerDaemon, path: str) -> None:
    """
    So many connections wait for it, and the next ones are refused at once; afterwards
    those that waited are answered.
    """
    victim = daemon_of_three.pids()[worker_of(path) - 1]
    body = b"3" + b"x" * 20_000
    os.kill(victim, signal.SIGSTOP)
    clients: list[Client] = []
    try:
        refused = 0
        while refused < 3:
            assert len(clients) < 500
            clients.append(client := Client(daemon_of_three.port))
            client.say(request(path, body))
            client.line.settimeout(0.2)
            with suppress(TimeoutError):
                refused += client.hear() == UNKNOWN
            client.line.settimeout(PATIENCE)
    finally:
        os.kill(victim, signal.SIGCONT)
    with Client(daemon_of_three.port) as client:
        settled(lambda: client.ask("/healthz") == "alive\n")
    for client in clients:
        client.line.close()


def test_by_tls(start_workers: Start, tmp_path: Path) -> None:
    """
    TLS cannot be given away: the worker that has it carries the bytes, of polls as well as
    of a websocket.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.pair("server", "localhost", "127.0.0.1")
    port = free_port()
    daemon = start_workers(
        "--use-ssl=1", f"--ssl-port={port}", f"--ssl-cert={certificate}", f"--ssl-key={key}"
    ).up()
    secure = trusting(authority)
    path = opened(port, secure)
    for number in range(12):
        with Client(port, secure) as client:
            said = b'42["publish","news","%d%s"]' % (number, b"x" * 300_000)
            assert client.ask(path, said) == "ok"
            assert len(client.ask(path)) > 300_000
    # One that changes to a websocket, wherever that comes in.
    for _ in range(6):
        sid = opened(port, secure).partition("sid=")[2]
        address = f"wss://localhost:{port}/socket.io/?EIO=4&transport=websocket&sid={sid}"
        with open_websocket(address, ssl=secure, max_size=None) as client_socket:
            client_socket.send("2probe")
            assert client_socket.recv(PATIENCE) == "3probe"
            client_socket.send("5")
            client_socket.send('421["publish","news","%s"]' % ("y" * 300_000))
            heard = [client_socket.recv(PATIENCE) for _ in range(2)]
            assert max(map(len, heard)) > 300_000
    settled(lambda: daemon.stats()["readers"]["now"] <= 1)


def test_the_address_behind_a_proxy_line(start_workers: Start, tmp_path: Path) -> None:
    """
    PROXY protocol: who is counted and logged is the client, wherever it is served.
    """
    port = free_port()
    log = tmp_path / "access.log"
    start_workers(f"--endpoint=haproxy:tcp:{port}:interface=127.0.0.1", f"--access-log={log}").up()
    line = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n"
    with Client(port) as client:
        client.say(line)
        path = f"{POLLING}&sid={json.loads(client.ask(POLLING)[1:])['sid']}"
    for _ in range(8):
        with Client(port) as client:
            client.say(line)
            client.ask(path, b"3")
    settled(lambda: log.read_text().count("\n") >= 9)
    assert {text.split()[0] for text in log.read_text().splitlines()} == {"192.0.2.7"}


def test_by_a_unix_socket(start_workers: Start, tmp_path: Path) -> None:
    """
    As nginx may come: all workers accept from one socket.
    """
    where = tmp_path / "socket"
    daemon = start_workers(f"--endpoint=unix:{where}").up()
    path = opened(where)
    for _ in range(20):
        for at in (where, daemon.port):
            with Client(at) as client:
                assert client.ask(path, b"3") == "ok"
                assert client.ask("/healthz") == "alive\n"


def test_http_1_0(path: str, daemon_of_three: WorkerDaemon) -> None:
    """
    nginx speaks it by default to who is behind it.
    """
    for _ in range(6):
        connection = http.client.HTTPConnection("127.0.0.1", daemon_of_three.port, PATIENCE)
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
        with closing(connection):
            connection.request("POST", path, b"3")
            assert connection.getresponse().read() == b"ok"
