"""
Requests with an `Upgrade` header (RFC 9110, 7.8), at which the parser stops.
"""

from __future__ import annotations

from typing import Any, Protocol

import httptools

from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


class ParserCallbacks(Protocol):
    """
    The methods that httptools calls while it parses a request.
    """

    def on_message_begin(self) -> None:
        """
        Receive the first byte of a request.
        """

    def on_url(self, piece: bytes) -> None:
        """
        Receive a piece of the request target.
        """

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        Receive a header or a trailer.
        """

    def on_headers_complete(self) -> None:
        """
        Receive the end of the head.
        """

    def on_chunk_header(self) -> None:
        """
        Receive the beginning of a chunk.
        """

    def on_chunk_complete(self) -> None:
        """
        Receive the end of a chunk, also of the last one, which is empty.
        """

    def on_body(self, piece: bytes) -> None:
        """
        Receive a piece of the body.
        """

    def on_message_complete(self) -> None:
        """
        Receive the end of the request.
        """


def wants_websocket(request: IExchange | HttpError) -> bool:
    """
    Return whether the bytes behind *request* may be another protocol than HTTP.
    """
    if isinstance(request, HttpError) or request.method != "GET" or request.length != 0:
        return False
    return "websocket" in (request.header("upgrade") or "").lower()


def parser_after_upgrade(callbacks: ParserCallbacks, incoming: IExchange | None) -> Any:
    """
    Return a parser for the bytes behind the head of a request with `Upgrade`.

    Args:
        callbacks: receives the body of that request, and the requests that follow.
        incoming: the request; None if it has no body.
    """
    if incoming is None:
        return httptools.HttpRequestParser(callbacks)
    parser = httptools.HttpRequestParser(_BodyFirst(callbacks))
    length = incoming.length
    framing = b"Transfer-Encoding: chunked"
    if length is not None:
        framing = b"Content-Length: %d" % length
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: -\r\n%s\r\n\r\n" % framing)
    return parser


class _BodyFirst:
    """
    Passes on all callbacks but those for the first head: the first parser has parsed it.
    """

    def __init__(self, callbacks: ParserCallbacks) -> None:
        self._callbacks = callbacks
        self._muted = True
        self.on_chunk_header = callbacks.on_chunk_header
        self.on_chunk_complete = callbacks.on_chunk_complete
        self.on_body = callbacks.on_body
        self.on_message_complete = callbacks.on_message_complete

    def on_message_begin(self) -> None:
        if not self._muted:
            self._callbacks.on_message_begin()

    def on_url(self, piece: bytes) -> None:
        if not self._muted:
            self._callbacks.on_url(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._muted:
            self._callbacks.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._muted:
            self._callbacks.on_headers_complete()
        self._muted = False
