"""
HTTP/2 and HTTP/1.1 over TLS.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest

from tests.pems import Authority
from tests.real.conftest import PATIENCE, Server, free_port
from tests.recorded.conftest import Check, run_daemon
from tests.recorded.peers import HOST, get, publish, recording
from tests.recorded.transcript import Transcript

FORM = ("content-type", "application/x-www-form-urlencoded")


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Server, int]]:
    """
    A daemon and its TLS port.
    """
    port = free_port()
    certificate, key = Authority(tmp_path).pair("server", "localhost", HOST)
    for server in run_daemon(
        tmp_path, "--use-ssl=1", f"--ssl-port={port}", f"--ssl-cert={certificate}",
        f"--ssl-key={key}", "--max-body=1k",
    ):  # fmt: skip
        yield server, port


def connect(port: int, *protocols: str) -> ssl.SSLSocket:
    """
    A TLS connection with the first of *protocols* that the daemon speaks.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(protocols))
    return context.wrap_socket(socket.create_connection((HOST, port), PATIENCE))


class Http2Peer:
    """
    One connection that speaks HTTP/2.

    Args:
        port: of TLS.
        record: the transcript.
    """

    def __init__(self, port: int, record: Transcript) -> None:
        self._socket = connect(port, "h2")
        self._record = record
        config = h2.config.H2Configuration(header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._h2.initiate_connection()
        self._events: list[h2.events.Event] = []
        self._send()

    def ask(
        self, method: str, path: str, *headers: tuple[str, str], body: str = "", until: str = ""
    ) -> int:
        """
        Send a request and receive its response.

        Args:
            method: of the request.
            path: with its query.
            headers: beside those that it must have.
            body: of the request.
            until: a regular expression that ends what is read of a body that goes on.

        Returns:
            the number of the stream.
        """
        stream = self._h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "https"), (":path", path),
                (":authority", "localhost"), *headers]  # fmt: skip
        self._record.sent("".join(f"{name}: {value}\n" for name, value in head) + f"\n{body}")
        self._h2.send_headers(stream, head, end_stream=not body)
        if body:
            self._h2.send_data(stream, body.encode(), end_stream=True)
        self._send()
        self._receive(stream, until)
        return stream

    def more(self, stream: int, until: str) -> None:
        """
        Receive more of a body that goes on.
        """
        self._receive(stream, until)

    def close(self) -> None:
        """
        Close the connection.
        """
        self._socket.close()

    def _receive(self, stream: int, until: str) -> None:
        data, ended = b"", False
        status = 0
        while not ended and not (until and re.search(until.encode(), data, re.DOTALL)):
            event = self._next()
            if getattr(event, "stream_id", None) != stream:
                continue
            if isinstance(event, h2.events.ResponseReceived):
                status = self._head(event.headers or ())
            elif isinstance(event, h2.events.DataReceived):
                data += event.data or b""
                self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            elif isinstance(event, h2.events.StreamEnded):
                ended = True
            elif isinstance(event, h2.events.StreamReset):
                self._record.note(f"reset: {event.error_code!r}")
                ended = True
        self._record.received("TEXT\n" if status >= 400 and data else data)
        if ended:
            self._record.note("the stream ends")

    def _head(self, headers: Sequence[tuple[str | bytes, str | bytes]]) -> int:
        pairs = sorted((str(name), str(value)) for name, value in headers)
        for name, value in pairs:
            shown = "LENGTH" if name == "content-length" and value != "0" else value
            self._record.received(f"{name}: {shown}\n")
        self._record.received("\n")
        return int(dict(pairs)[":status"])

    def _next(self) -> h2.events.Event:
        while not self._events:
            data = self._socket.recv(65536)
            assert data, "the connection was closed"
            self._events = list(self._h2.receive_data(data))
            self._send()
        return self._events.pop(0)

    def _send(self) -> None:
        self._socket.sendall(self._h2.data_to_send())


def test_http2(secure: tuple[Server, int], check: Check) -> None:
    """
    Streams, polls, publishing, errors: statuses and headers.
    """
    server, port = secure
    record = recording(server)
    peer = Http2Peer(port, record)
    record.title("publish")
    peer.ask("POST", "/publish", FORM, body="channel=a&message=one")
    record.title("event stream")
    stream = peer.ask("GET", "/?channels=a&since=all", until="one.*?\n\n")
    while get(server, "/stats?format=full").json()["readers"]["now"] < 1:
        pass
    publish(server, "a", "two")
    peer.more(stream, "two.*?\n\n")
    record.title("beside it, on the same connection")
    peer.ask("GET", "/poll?channels=a&since=all")
    peer.ask("GET", "/healthz")
    peer.ask("HEAD", "/readyz")
    peer.ask("GET", "/stream?channels=a&since=all", until="onetwo")
    peer.ask("OPTIONS", "/publish", ("origin", "https://www.example.org"),
             ("access-control-request-method", "POST"))  # fmt: skip
    peer.ask("GET", "/stats")
    peer.ask("GET", "/stats", ("x-forwarded-for", "10.0.0.1"))
    record.title("refused")
    peer.ask("GET", "/nothing")
    peer.ask("GET", "/?channels=a*")
    peer.ask("POST", "/poll?channels=a", body="x")
    peer.ask("GET", "/ws")
    peer.ask("POST", "/publish", FORM, body=f"channel=a&message={'x' * 1024}")
    peer.close()
    check("http2.txt", record)


def test_protocols(secure: tuple[Server, int], check: Check) -> None:
    """
    What is agreed upon by ALPN.
    """
    lines = []
    for offer in (("h2", "http/1.1"), ("http/1.1", "h2"), ("http/1.1",), ("h2",), ("x",), ()):
        with connect(secure[1], *offer) as connection:
            chosen = connection.selected_alpn_protocol()
            lines.append(f"{' '.join(offer) or 'nothing'}: {chosen or 'nothing'}\n")
    check("alpn.txt", "".join(lines))
