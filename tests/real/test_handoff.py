"""
Socket.IO with several workers: the worker of a session answers its requests on any connection.
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
from tests.real.test_workers import Start, WorkerDaemon, broker, relay, start_workers, wait_until
from tests.unit.net.test_tls import trusting

__all__ = ["broker", "connect", "relay", "start_workers"]  # fixtures

POLLING = "/socket.io/?EIO=4&transport=polling"
UNKNOWN = {"code": 1, "message": "Session ID unknown"}


@pytest.fixture
def daemon_of_three(start_workers: Start) -> WorkerDaemon:
    """
    Return a daemon whose three workers are up.
    """
    return start_workers().wait_until_up()


class Client:
    """
    An HTTP client with one connection; a browser uses several of them.

    Args:
        port: of the daemon, or the path of its unix socket.
        secure: TLS settings; None for plain connections.
    """

    def __init__(self, port: int | Path, secure: ssl.SSLContext | None = None) -> None:
        local = isinstance(port, Path)
        self.socket = socket.socket(socket.AF_UNIX if local else socket.AF_INET)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(port) if local else ("127.0.0.1", port))
        if secure is not None:
            self.socket = secure.wrap_socket(self.socket, server_hostname="localhost")
        self.received = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def request(self, path: str, body: bytes | None = None) -> Any:
        """
        Return the response to GET, or to POST of *body*: JSON or text.
        """
        self.send(encode_request(path, body))
        return self.next_response()

    def send(self, data: bytes) -> None:
        """
        Send bytes as they are.
        """
        self.socket.sendall(data)

    def next_response(self) -> Any:
        """
        Return the next final response; skip interim ones (1xx).
        """
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head, _, self.received = self.received.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 1"):
            return self.next_response()
        found = re.search(rb"Content-Length: (\d+)", head)
        assert found is not None, head
        while len(self.received) < int(found[1]):
            self._receive()
        body, self.received = self.received[: int(found[1])], self.received[int(found[1]) :]
        return json.loads(body) if b"application/json" in head else body.decode()

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        assert data, "the connection was closed"
        self.received += data


def encode_request(path: str, body: bytes | None = None, extra: str = "") -> bytes:
    """
    Encode a request with its body.
    """
    if body is None:
        return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{extra}\r\n".encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body


def open_session(port: int | Path, secure: ssl.SSLContext | None = None) -> str:
    """
    Open a session, connect to the namespace, and subscribe to `news`.

    Returns:
        the path of the session's polls.
    """
    with Client(port, secure) as client:
        path = f"{POLLING}&sid={json.loads(client.request(POLLING)[1:])['sid']}"
        assert client.request(path, b"40") == "ok"
        assert client.request(path).startswith("40{")
        assert client.request(path, b'420["subscribe","news"]') == "ok"
        while "430[" not in client.request(path):
            pass
    return path


def worker_of(path: str) -> int:
    """
    Return the number of the worker that has the session, from its id.
    """
    found = re.search(r"sid=[0-9a-f]+w(\d+)-", path)
    assert found is not None, path
    return int(found[1])


@pytest.fixture
def path(daemon_of_three: WorkerDaemon) -> str:
    """
    Return the path of a session's polls.
    """
    return open_session(daemon_of_three.port)


@pytest.fixture
def clients(daemon_of_three: WorkerDaemon, path: str) -> Iterator[list[Client]]:
    """
    Yield connections, most of them to workers that do not have the session.
    """
    connections = [Client(daemon_of_three.port) for _ in range(12)]
    yield connections
    for each in connections:
        each.socket.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_unmodified_clients(
    transport: str, daemon_of_three: WorkerDaemon, connect: Connect
) -> None:
    """
    Unmodified clients receive each message of the others, whatever worker accepted them.
    """
    url, transports = daemon_of_three.server.url, TRANSPORTS[transport]
    peers: list[Peer] = [connect(kind, url, transports) for kind in KINDS * 2]
    for peer in peers:
        peer.wait("connect")
        peer.request("subscribe", "news")
    for number, peer in enumerate(peers):
        peer.request("publish", "news", {"from": number})

    for peer in peers:
        senders = [line[0]["from"] for line in peer.events("message", len(peers))]
        assert sorted(senders) == [*range(len(peers))]
        assert not [line for line in peer.lines if line[0] in ("disconnect", "error")]
        done = (["connect", "websocket"], ["upgrade", "websocket"])
        if transport == "upgrade" and not any(line[:2] in done for line in peer.lines):
            peer.wait("upgrade")


def test_each_request_on_another_connection(path: str, clients: list[Client]) -> None:
    """
    Posts and polls work on any connection, also on one that was handed over before.
    """
    for number, client in enumerate(clients * 2):
        assert client.request(path, b'42["publish","news","%d"]' % number) == "ok"
        assert f'42["message","{number}",' in client.request(path)


def test_other_requests_on_a_connection_that_was_handed_over(
    path: str, clients: list[Client]
) -> None:
    """
    A connection that was handed over serves other requests as any connection does.
    """
    for client in clients:
        assert client.request(path, b"3") == "ok"
        assert client.request("/healthz") == "alive\n"
        assert client.request("/socket.io/?EIO=4&transport=polling&sid=nobody") == UNKNOWN


def test_a_pending_poll_gets_a_later_message(path: str, clients: list[Client]) -> None:
    """
    A poll that waits at the worker of its session gets the next message.
    """
    poller, other, *_ = clients
    poller.send(encode_request(path))
    assert other.request(path, b'42["publish","news","now"]') == "ok"
    assert '"now"' in poller.next_response()


def test_a_client_that_disconnects_loses_its_session(start_workers: Start) -> None:
    """
    The poll of a closed connection ends with its timeout, as the client may be half-closed only.
    """
    quick = ("--socketio-ping-interval=5", "--socketio-ping-timeout=2")
    daemon = start_workers(*quick).wait_until_up()
    path = open_session(daemon.port)
    with Client(daemon.port) as poller:
        poller.send(encode_request(path))
        wait_until(lambda: daemon.stats()["readers"]["now"] == 1)
    wait_until(lambda: daemon.stats()["readers"]["now"] == 0)
    with Client(daemon.port) as later:
        assert later.request(path) == UNKNOWN


def test_bodies_of_any_size_and_split(path: str, clients: list[Client]) -> None:
    """
    The received part of a body is handed over with the connection; the rest follows.
    """
    for size in (1, 60_000, 900_000):
        body = b'42["publish","news","%s"]' % (b"x" * size)
        sent = encode_request(path, body)
        cuts = [len(sent), len(sent) - len(body), len(sent) - 1, 150, 60, 30_000]
        for client, cut in zip(clients, cuts, strict=False):
            client.send(sent[:cut])
            client.send(sent[cut:])
            assert client.next_response() == "ok"
            assert len(client.request(path)) > size

    # Chunked bodies that arrive at once.
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = b'42["publish","news","chunks"]'
    for client in clients[6:]:
        client.send(
            head + b"5\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (body[:5], len(body) - 5, body[5:])
        )
        assert client.next_response() == "ok"
        assert '"chunks"' in client.request(path)


def test_expect_100_continue(path: str, clients: list[Client]) -> None:
    """
    `Expect: 100-continue` is answered by the worker that reads the body (RFC 9110, 10.1.1).
    """
    for client in clients[:6]:
        sent = encode_request(path, b"3", extra="Expect: 100-continue\r\n")
        client.send(sent[:-1])
        while b"100 Continue" not in client.received:
            client.received += client.socket.recv(65536)
        client.send(sent[-1:])
        assert client.next_response() == "ok"


def test_requests_that_cannot_be_handed_over(path: str, clients: list[Client]) -> None:
    """
    A pipelined second request is parsed already, and a partial chunk cannot be continued: both
    get the response for an unknown session, unless their worker has the session.
    """
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    answers = []
    for client in clients[:6]:
        client.send(encode_request(path, b"3") + encode_request("/healthz"))
        answers.append(client.next_response())
        assert client.next_response() == "alive\n"
    for client in clients[6:]:
        client.send(head + b"5\r\n3")
        client.socket.settimeout(0.5)
        try:
            answers.append(client.next_response())
        except TimeoutError:
            client.socket.settimeout(PATIENCE)
            client.send(b"xxxx\r\n0\r\n\r\n")
            answers.append(client.next_response())
    assert UNKNOWN in answers[:6]
    assert UNKNOWN in answers[6:]
    assert all(each in ("ok", UNKNOWN) for each in answers)


def test_invalid_session_ids(path: str, clients: list[Client]) -> None:
    """
    Every worker rejects session ids that no worker created.
    """
    mark = path.partition("sid=")[2].partition("w")[0]
    for number in ("0", "4", "99999999999999999999", "-1", "1", "2", "3", ""):
        for client in clients[:4]:
            for sid in (f"{mark}w{number}-x", f"w{number}-x", f"{mark}w{number}"):
                assert client.request(f"{POLLING}&sid={sid}") == UNKNOWN


def test_the_sessions_of_a_killed_worker_are_unknown(
    daemon_of_three: WorkerDaemon, path: str
) -> None:
    """
    The sessions of a killed worker end; its successor answers their clients that the session is
    unknown.
    """
    os.kill(daemon_of_three.pids()[worker_of(path) - 1], signal.SIGKILL)
    for _ in range(6):
        with Client(daemon_of_three.port) as client:
            assert client.request(path) == UNKNOWN


def test_connections_for_a_suspended_worker_are_bounded(
    daemon_of_three: WorkerDaemon, path: str
) -> None:
    """
    A suspended worker has a bounded number of pending connections; further ones are refused at
    once. When the worker continues, the daemon serves requests.
    """
    victim = daemon_of_three.pids()[worker_of(path) - 1]
    body = b"3" + b"x" * 20_000
    os.kill(victim, signal.SIGSTOP)
    pending: list[Client] = []
    try:
        refused = 0
        while refused < 3:
            assert len(pending) < 500
            pending.append(client := Client(daemon_of_three.port))
            client.send(encode_request(path, body))
            client.socket.settimeout(0.2)
            with suppress(TimeoutError):
                refused += client.next_response() == UNKNOWN
            client.socket.settimeout(PATIENCE)
    finally:
        os.kill(victim, signal.SIGCONT)
    with Client(daemon_of_three.port) as client:
        wait_until(lambda: client.request("/healthz") == "alive\n")
    for client in pending:
        client.socket.close()


def test_sessions_over_tls(start_workers: Start, tmp_path: Path) -> None:
    """
    TLS state cannot be handed over: the accepting worker forwards the bytes, of polls and of a
    websocket.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.pair("server", "localhost", "127.0.0.1")
    port = free_port()
    daemon = start_workers(
        "--use-ssl=1", f"--ssl-port={port}", f"--ssl-cert={certificate}", f"--ssl-key={key}"
    ).wait_until_up()
    secure = trusting(authority)
    path = open_session(port, secure)
    for number in range(12):
        with Client(port, secure) as client:
            body = b'42["publish","news","%d%s"]' % (number, b"x" * 300_000)
            assert client.request(path, body) == "ok"
            assert len(client.request(path)) > 300_000
    # Sessions that upgrade to a websocket, accepted by any worker.
    for _ in range(6):
        sid = open_session(port, secure).partition("sid=")[2]
        address = f"wss://localhost:{port}/socket.io/?EIO=4&transport=websocket&sid={sid}"
        with open_websocket(address, ssl=secure, max_size=None) as client_socket:
            client_socket.send("2probe")
            assert client_socket.recv(PATIENCE) == "3probe"
            client_socket.send("5")
            client_socket.send('421["publish","news","%s"]' % ("y" * 300_000))
            while len(client_socket.recv(PATIENCE)) < 300_000:
                pass  # the acknowledgment, and a ping if the machine is slow
    wait_until(lambda: daemon.stats()["readers"]["now"] <= 1)


def test_the_address_of_a_proxy_protocol_header(start_workers: Start, tmp_path: Path) -> None:
    """
    With PROXY protocol the access log has the client's address, whatever worker serves it.
    """
    port = free_port()
    log = tmp_path / "access.log"
    start_workers(
        f"--endpoint=haproxy:tcp:{port}:interface=127.0.0.1", f"--access-log={log}"
    ).wait_until_up()
    header = b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 80\r\n"
    with Client(port) as client:
        client.send(header)
        path = f"{POLLING}&sid={json.loads(client.request(POLLING)[1:])['sid']}"
    for _ in range(8):
        with Client(port) as client:
            client.send(header)
            client.request(path, b"3")
    wait_until(lambda: log.read_text().count("\n") >= 9)
    assert {text.split()[0] for text in log.read_text().splitlines()} == {"192.0.2.7"}


def test_sessions_over_a_unix_socket(start_workers: Start, tmp_path: Path) -> None:
    """
    All workers accept connections of a unix socket, as nginx may use.
    """
    socket_path = tmp_path / "socket"
    daemon = start_workers(f"--endpoint=unix:{socket_path}").wait_until_up()
    path = open_session(socket_path)
    for _ in range(20):
        for address in (socket_path, daemon.port):
            with Client(address) as client:
                assert client.request(path, b"3") == "ok"
                assert client.request("/healthz") == "alive\n"


def test_http_1_0(path: str, daemon_of_three: WorkerDaemon) -> None:
    """
    nginx uses HTTP/1.0 by default.
    """
    for _ in range(6):
        connection = http.client.HTTPConnection("127.0.0.1", daemon_of_three.port, PATIENCE)
        connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"  # type: ignore[attr-defined]
        with closing(connection):
            connection.request("POST", path, b"3")
            assert connection.getresponse().read() == b"ok"
