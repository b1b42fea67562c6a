"""
Responses in the bytes of a connection to an HTTP server, on the httptools parser (RFC 9112).

llhttp, below httptools, refuses conflicting lengths, line folding and a bare LF. It takes the
header Content-Length of a response to HEAD, and of a 304, for the length of a body: such a
response ends with its head here, and its connection is not used again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import httptools

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.head import BODILESS, Field

MAX_HEAD = 32768  # bytes of the head of a response, with those of interim responses
MAX_HEADERS = 200
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f]")
MAX_INTERIM = 10  # responses 1xx before the response


@dataclass(slots=True, unsafe_hash=True)
class UpstreamResponse:
    """
    The head of a response.

    Args:
        status: 200 to 599; or 101.
        fields: the headers as received.
        reason: phrase behind the status.
        length: Content-Length; None if there is none.
        dated: there is a Date.
    """

    status: Final[int]
    fields: Final[Sequence[Field]]
    reason: Final[bytes] = b""
    length: Final[int | None] = None
    dated: Final[bool] = False
    _headers: tuple[tuple[str, str], ...] | None = field(
        default=None, init=False, repr=False, compare=False
    )

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """
        Return the headers as text, with names in lower case, in the order of `fields`.
        """
        if self._headers is None:  # most responses are passed on without
            self._headers = tuple(
                [
                    (name.lower().decode("latin-1"), value.decode("latin-1"))
                    for name, value in self.fields
                ]
            )
        return self._headers

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

    def interim(self, status: int, fields: Sequence[Field]) -> None:
        """
        Receive the head of an interim response, 100 to 199 but 101. Called before `head`.
        """

    def head(self, response: UpstreamResponse) -> None:
        """
        Receive the head. Called once, before everything that follows.
        """

    def data(self, piece: bytes) -> None:
        """
        Receive the next bytes of the body.
        """


class ResponseParser:
    """
    Parses the responses of a connection, one after the other.

    Args:
        sink: receives them.

    Attributes:
        begun: whether a byte of the response was received.
        complete: whether the response was received as a whole.
        reusable: whether another request may be sent on the connection, once complete.
        switched: the server has switched to another protocol; nothing more is parsed.
        rest: bytes of that protocol behind the head of the response.
        trailers: behind the body.
    """

    def __init__(self, sink: ResponseSink) -> None:
        self._sink = sink
        self._parser: Any = httptools.HttpResponseParser(self)
        self.expect("GET")

    def expect(self, method: str, upgrade: bool = False) -> None:
        """
        Parse the response to another request: the first, or one behind a `reusable` response.

        Args:
            method: of the request.
            upgrade: the request asks for another protocol: the server may switch to it.
        """
        self.begun = self.complete = self.reusable = self.switched = False
        self.rest = b""
        self.trailers: list[Field] = []
        self._upgrade = upgrade
        self._is_head = method == "HEAD"
        self._headers: list[Field] = []
        self._received = self._headers  # where the parser's headers belong
        self._reason = b""
        self._unframed = 0  # bytes received since the last that belonged to a body
        self._interim = 0
        self._in_body = False
        self._until_close = False
        self._extra = False

    def close(self) -> None:
        """
        Forget the sink: nothing more is parsed.
        """
        self._parser = None  # else only the garbage collector would find both

    def feed(self, data: bytes) -> None:
        """
        Parse the next bytes, however they are split.

        Raises:
            RemoteProtocolError: the response is malformed or too large; close.
        """
        self.begun = True
        self._unframed += len(data)  # callbacks of the parser reduce it
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.switched:
                self.rest = data[upgrade.args[0] :]
            elif not self.complete:
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
        if self._unframed > MAX_HEAD and not self.complete and not self.switched:
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
        self._headers = self._received = []
        self._reason = b""

    def on_status(self, reason: bytes) -> None:
        """
        Receive a piece of the phrase behind the status.
        """
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        self._received.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        self._check_received()
        if _CONTROL.search(self._reason):
            raise RemoteProtocolError("the status line has a control character")
        status = self._parser.get_status_code()
        if status < 200:
            self._on_interim(status)
            return
        if status > 599:
            raise RemoteProtocolError(f"the server responds with {status}")
        self._in_body = True
        self._received = self.trailers
        self._unframed = 0
        length, has_length, dated = None, False, False
        for name, value in self._headers:
            lower = name.lower()
            if lower == b"content-length":
                length, has_length = int(value), True
            elif lower == b"date":
                dated = True
            elif lower == b"transfer-encoding":
                has_length = True
                if value.lower() != b"chunked":
                    reason = "the response has another transfer coding than chunked"
                    raise RemoteProtocolError(reason)
        bodiless = self._is_head or status in BODILESS
        self._until_close = not has_length and not bodiless
        self.reusable = self._parser.should_keep_alive() and not self._until_close
        ends = bodiless and (has_length or self._is_head)
        self.reusable = self.reusable and not ends
        self._sink.head(UpstreamResponse(status, self._headers, self._reason, length, dated))
        self.complete = self.complete or ends

    def _on_interim(self, status: int) -> None:
        self._interim += 1
        if status == 101 and self._upgrade:
            self.switched = True
            self._sink.head(UpstreamResponse(101, self._headers, self._reason))
            return
        if status == 101 or status < 100 or self._interim > MAX_INTERIM:
            raise RemoteProtocolError(f"the server responds with {status}")
        self._sink.interim(status, self._headers)

    def on_chunk_header(self) -> None:
        self._unframed = 0

    def on_body(self, piece: bytes) -> None:
        self._unframed -= len(piece)
        if not self.complete:
            self._sink.data(piece)

    def on_message_complete(self) -> None:
        if self._in_body and not self.complete:
            if self.trailers:
                self._check_received()
            self.complete = True

    def _check_received(self) -> None:
        """
        Check the number and the size of the headers or trailers that have ended.

        Raises:
            RemoteProtocolError: there are too many, or they are too large.
        """
        if len(self._received) > MAX_HEADERS:
            raise RemoteProtocolError("the response has too many headers")
        if self._unframed <= MAX_HEAD:
            return
        if sum([len(name) + len(value) + 4 for name, value in self._received]) > MAX_HEAD:
            raise RemoteProtocolError("the head of the response is too large")
