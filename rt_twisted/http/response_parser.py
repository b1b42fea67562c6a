"""
Responses in the bytes of a connection to an HTTP server, on the httptools parser (RFC 9112).

llhttp, below httptools, refuses conflicting lengths, line folding and a bare LF. It takes the
header Content-Length of a response to HEAD, and of a 304, for the length of a body: such a
response ends with its head here, and its connection is not used again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import httptools

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_HEAD = 65536  # bytes of the head of a response, with those of interim responses
MAX_HEADERS = 200
MAX_INTERIM = 10  # responses 1xx before the response
BodyHeaders = frozenset((b"content-length", b"transfer-encoding"))


@dataclass(frozen=True, slots=True)
class UpstreamResponse:
    """
    The head of a response.

    Args:
        status: 200 to 599.
        headers: names in lower case, in the order in which they were received.
    """

    status: int
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case); several are joined by a comma.
        """
        values = [value for each, value in self.headers if each == name]
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        """
        Return the values of all headers *name* (lower case).
        """
        return [value for each, value in self.headers if each == name]


class ResponseSink(Protocol):
    """
    Receives one response.
    """

    def head(self, response: UpstreamResponse) -> None:
        """
        Receive the head. Called once, before everything else.
        """

    def data(self, piece: bytes) -> None:
        """
        Receive the next bytes of the body.
        """


class ResponseParser:
    """
    Parses one response.

    Args:
        method: of the request.
        sink: receives the response.

    Attributes:
        begun: whether a byte was received.
        complete: whether the response was received as a whole.
        reusable: whether another request may be sent on the connection, once complete.
    """

    def __init__(self, method: str, sink: ResponseSink) -> None:
        self.begun = self.complete = self.reusable = False
        self._sink = sink
        self._is_head = method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._interim = 0
        self._in_body = False
        self._until_close = False
        self._bodiless = False
        self._extra = False

    def feed(self, data: bytes) -> None:
        """
        Parse the next bytes, however they are split.

        Raises:
            RemoteProtocolError: the response is malformed or too large; close.
        """
        self.begun = True
        if not self._in_body:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            if not self.complete:
                raise RemoteProtocolError("the server switches protocols unasked") from None
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, RemoteProtocolError):
                raise cause from None
            raise
        except httptools.HttpParserError as error:
            if not self.complete:  # else it is about what follows
                raise RemoteProtocolError(f"the response is malformed: {error}") from None
            self._extra = True
        if not self._in_body and not self.complete and self._head_bytes > MAX_HEAD:
            raise RemoteProtocolError("the head of the response is too large")
        if self.complete and self._extra:
            self.reusable = False

    def eof(self) -> None:
        """
        Receive the end of the connection.

        Raises:
            RemoteProtocolError: the response is not complete.
        """
        if self.complete:
            return
        if not (self._in_body and self._until_close):
            raise RemoteProtocolError("the connection was closed before the response was complete")
        self.complete = True

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.complete:
            self._extra = True
        self._headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) >= MAX_HEADERS:
            raise RemoteProtocolError("the response has too many headers")
        self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if self.complete:
            return
        if status < 200:
            self._interim += 1
            if status == 101 or status < 100 or self._interim > MAX_INTERIM:
                raise RemoteProtocolError(f"the server responds with {status}")
            return
        if status > 599:
            raise RemoteProtocolError(f"the server responds with {status}")
        names = {name for name, _ in self._headers}
        has_length = not names.isdisjoint(BodyHeaders)
        self._in_body = True
        self._bodiless = self._is_head or status in (204, 304)
        self._until_close = not has_length and not self._bodiless
        headers = tuple([(n.decode("latin-1"), v.decode("latin-1")) for n, v in self._headers])
        self.reusable = self._parser.should_keep_alive() and not self._until_close
        if self._bodiless and (has_length or self._is_head):
            self.reusable = False
            self._sink.head(UpstreamResponse(status, headers))
            self.complete = True
            return
        self._sink.head(UpstreamResponse(status, headers))

    def on_body(self, piece: bytes) -> None:
        if not self.complete:
            self._sink.data(piece)

    def on_message_complete(self) -> None:
        if self._in_body:
            self.complete = True
