"""
Clients that write into a transcript all that they send and receive.

They know the protocols, not the daemon: bytes on a socket, without a library
that would hide or complete anything.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from tests.real.conftest import PATIENCE, Server
from tests.recorded.transcript import Transcript

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Response:
    """
    A response with what has come of its body.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str:
        """
        The value of a header, "" without it.
        """
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def json(self) -> Any:
        """
        The body's value.
        """
        return json.loads(self.body)


class HttpPeer:
    """
    One connection that speaks HTTP/1.

    Args:
        server: to connect to.
        transcript: of the dialogue; without one nothing is written.
    """

    def __init__(self, server: Server, transcript: Transcript | None = None) -> None:
        self._end = time.monotonic() + PATIENCE
        self.socket = socket.create_connection((HOST, server.port), PATIENCE)
        self.transcript = transcript or Transcript()
        self.data = b""
        self.decoded = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, line: str, *headers: str, body: bytes | str = b"") -> None:
        """
        Send a request: its first line without the version is HTTP/1.1.

        Host is added to HTTP/1.1, and Content-Length if there is a body, unless
        *headers* have them.
        """
        if " HTTP/" not in line:
            line += " HTTP/1.1"
        data = body.encode() if isinstance(body, str) else body
        names = {header.partition(":")[0].lower() for header in headers}
        fields = list(headers)
        if "host" not in names and line.endswith("1.1"):
            fields.insert(0, f"Host: {HOST}")
        if data and not names & {"content-length", "transfer-encoding"}:
            fields.append(f"Content-Length: {len(data)}")
        head = "".join(f"{each}\r\n" for each in (line, *fields, ""))
        self.transcript.sent(head.replace("\r", "").encode() + data)
        self.socket.sendall(head.encode() + data)

    def raw(self, data: bytes) -> None:
        """
        Send bytes that are no request.
        """
        self.transcript.sent(data)
        self.socket.sendall(data)

    def receive(
        self, until: str = "", without_body: bool = False, text: bool = False, hide: bool = False
    ) -> Response:
        """
        The response to a request.

        Args:
            until: a regular expression; its first match ends what is read of the
                body, which goes on. Without one all of the body is read.
            without_body: as for HEAD.
            text: whether the text of an error is part of the record.
            hide: leave the body, its length and its tag out of the record.
        """
        status, head = self._head()
        headers = sorted(
            (name, value.strip()) for name, _, value in (line.partition(":") for line in head)
        )
        response = Response(int(status.split()[1]), headers, b"")
        bare = without_body or response.status in (101, 204, 304)
        body = b"" if bare else self._body(response, until)
        response = Response(response.status, headers, body)
        plain = response.get("Content-Type").startswith("text/plain")
        hidden = hide or (response.status >= 400 and plain and not text)
        if hide:
            self.transcript.name(response.get("ETag"), "ETAG")
        lines = [status]
        for name, value in headers:
            counted = name.lower() == "content-length" and body  # `_body` has checked it
            lines.append(f"{name}: {'LENGTH' if counted else value}")
        self.transcript.received("".join(f"{line}\n" for line in [*lines, ""]))
        self.transcript.received(b"TEXT\n" if hidden and body else body)
        return response

    def more(self, until: str) -> bytes:
        """
        What comes of the body of a stream up to the end of the first match of *until*.
        """
        body = self._stream(until)
        self.transcript.received(body)
        return body

    def probe(self) -> None:
        """
        Note whether the connection can be used for another request.
        """
        try:
            self.socket.sendall(f"GET /healthz HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
            stays = bool(self.data or self.socket.recv(65536))
        except ConnectionError:
            stays = False
        self.transcript.note("the connection stays open" if stays else "the connection is closed")

    def leave(self) -> None:
        """
        Close the connection.
        """
        self.socket.close()

    def end(self) -> None:
        """
        Wait until the daemon closes the connection; nothing may come before.
        """
        rest = self.data + self._rest()
        if rest:
            self.transcript.received(rest)
        self.transcript.note("the daemon closes the connection")

    def ask(self, line: str, *headers: str, body: bytes | str = b"", **how: Any) -> Response:
        """
        Send a request and read its response.
        """
        self.send(line, *headers, body=body)
        how.setdefault("without_body", line.startswith("HEAD "))
        return self.receive(**how)

    def _head(self) -> tuple[str, list[str]]:
        while b"\r\n\r\n" not in self.data:
            self.read()
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        return status, lines

    def _body(self, response: Response, until: str) -> bytes:
        self._decode = response.get("Transfer-Encoding") == "chunked"
        self.decoded = b""
        if until:
            return self._stream(until)
        if self._decode:
            while not self._unchunk():
                self.read()
            return self.decoded
        length = response.get("Content-Length")
        if not length:
            body, self.data = self.data + self._rest(), b""
            return body
        while len(self.data) < int(length):
            self.read()
        body, self.data = self.data[: int(length)], self.data[int(length) :]
        return body

    def _stream(self, until: str) -> bytes:
        while True:
            if self._decode:
                self._unchunk()
            else:
                self.decoded, self.data = self.decoded + self.data, b""
            found = re.search(until.encode(), self.decoded, re.DOTALL)
            if found:
                body, self.decoded = self.decoded[: found.end()], self.decoded[found.end() :]
                return body
            self.read()

    def _unchunk(self) -> bool:
        """
        Whether the last chunk has come (RFC 9112, 7.1).
        """
        while found := re.match(rb"([0-9A-Fa-f]+)\r\n", self.data):
            size = int(found[1], 16)
            end = found.end() + size
            if len(self.data) < end + 2:
                return False
            self.decoded += self.data[found.end() : end]
            self.data = self.data[end + 2 :]
            if not size:
                return True
        return False

    def read(self) -> None:
        """
        Wait for more bytes and append them to `data`.
        """
        # A stream that brings heartbeats only shall not go on for ever.
        self.socket.settimeout(max(self._end - time.monotonic(), 0.001))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise AssertionError(f"nothing came behind {self.decoded + self.data!r}") from None
        assert data, f"the connection was closed behind {self.data!r}"
        self.data += data

    def _rest(self) -> bytes:
        data = b""
        while more := self.socket.recv(65536):
            data += more
        return data


class WebSocketPeer:
    """
    One websocket (RFC 6455) behind its handshake.

    Args:
        http: the connection; the transcript goes on being its own.
        path: asked for.
        headers: of the handshake, beside those that it must have.
    """

    KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, 1.3
    NAMES = {1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong"}

    def __init__(self, http: HttpPeer, path: str, *headers: str) -> None:
        self._http = http
        self.response = http.ask(
            f"GET {path}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {self.KEY}",
            "Sec-WebSocket-Version: 13",
            *headers,
        )

    def send(self, data: str | bytes, opcode: int = 0) -> None:
        """
        Send one frame, masked by zeros.
        """
        opcode = opcode or (1 if isinstance(data, str) else 2)
        payload = data.encode() if isinstance(data, str) else data
        name = self.NAMES.get(opcode, str(opcode))
        self._http.transcript.sent(f"{name} {_show(opcode, payload)}\n")
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0xFE, size)
        self._http.socket.sendall(bytes([0x80 | opcode]) + length + bytes(4) + payload)

    def receive(self, count: int = 1) -> bytes:
        """
        The payload of the next frame, or the last of the next *count* ones.
        """
        payload = b""
        for _ in range(count):
            _, payload = self.receive_frame()
        return payload

    def receive_frame(self) -> tuple[int, bytes]:
        """
        Opcode and payload of the next frame.
        """
        first, second = self._take(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        payload = self._take(size)
        opcode = first & 0x0F
        flags = "" if first & 0xF0 == 0x80 else f" flags={first >> 4:04b}"
        shown = _show(opcode, payload)
        if first & 0x40:
            plain = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
            shown = f"inflated: {_show(opcode, plain)}"
        self._http.transcript.received(f"{self.NAMES[opcode]}{flags} {shown}\n")
        return opcode, payload

    def end(self) -> None:
        """
        Wait until the daemon closes the connection.
        """
        self._http.end()

    def end_after_frames(self) -> None:
        """
        Receive up to a close frame, answer it, and wait for the end.
        """
        while self.receive_frame()[0] != 8:
            pass
        self.send(b"", 8)
        self.end()

    def _take(self, size: int) -> bytes:
        while len(self._http.data) < size:
            self._http.read()
        data = self._http.data[:size]
        self._http.data = self._http.data[size:]
        return data


def _show(opcode: int, payload: bytes) -> str:
    if opcode == 8 and payload:
        (code,) = struct.unpack("!H", payload[:2])
        reason = payload[2:].decode()
        if reason.startswith("retry="):  # for clients; all else is for people
            reason = re.sub(r"\d+", "MS", reason)
        elif reason:
            reason = "TEXT"
        return f"{code} {reason}".rstrip()
    if opcode == 1:
        return payload.decode(errors="backslashreplace")
    return repr(payload)[1:]


class SilentPeers:
    """
    Connections that stay open to the end of a block.
    """

    def __init__(self) -> None:
        self._peers: list[HttpPeer] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for peer in self._peers:
            peer.leave()

    def add(self, peer: HttpPeer) -> HttpPeer:
        """
        Close *peer* at the end.
        """
        self._peers.append(peer)
        return peer


def get(server: Server, path: str) -> Response:
    """
    The unrecorded response to a GET.
    """
    with HttpPeer(server) as http:
        return http.ask(f"GET {path}")


def position(server: Server) -> tuple[str, int]:
    """
    The epoch and the offset at which the daemon's log ends.
    """
    epoch, _, offset = get(server, "/poll?channels=nothing").json()["position"].partition(".")
    return epoch, int(offset)


def recording(server: Server) -> Transcript:
    """
    A transcript in which positions count from where the log ends now.
    """
    transcript = Transcript()
    transcript.log(*position(server))
    return transcript


def publish(server: Server, channel: str, message: str | bytes, event: str = "") -> str:
    """
    Publish a message unrecorded; its position.
    """
    data = message.encode() if isinstance(message, str) else message
    path = f"/publish?channel={channel}" + (f"&event={event}" if event else "")
    kind = "application/octet-stream"
    if not data:  # a request without a body has no message
        kind, data = "application/x-www-form-urlencoded", b"message="
    with HttpPeer(server) as http:
        response = http.ask(f"POST {path}", f"Content-Type: {kind}", body=data)
    assert response.status == 200, response
    return str(response.json()["position"])
