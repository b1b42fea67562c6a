"""
Requests with an `Upgrade` header (RFC 9110, 7.8), at which the parser stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httptools

from rt_twisted.model.errors import HttpError

if TYPE_CHECKING:
    from rt_twisted.http.exchange import HttpExchange
    from rt_twisted.http.h1 import Http1Connection


def wants_websocket(request: HttpExchange | HttpError) -> bool:
    """
    Whether what follows *request* may be another protocol than HTTP.
    """
    if isinstance(request, HttpError) or request.method != "GET" or request.length != 0:
        return False
    return "websocket" in (request.header("upgrade") or "").lower()


def parser_behind(connection: Http1Connection, incoming: HttpExchange | None) -> Any:
    """
    A parser for what follows a request with `Upgrade`: its body, and the next request.

    Args:
        connection: hears what it finds.
        incoming: the request; None if it has no body.
    """
    if incoming is None:
        return httptools.HttpRequestParser(connection)
    parser = httptools.HttpRequestParser(_Behind(connection))
    length = incoming.length
    framing = b"Transfer-Encoding: chunked"
    if length is not None:
        framing = b"Content-Length: %d" % length
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: -\r\n%s\r\n\r\n" % framing)
    return parser


class _Behind:
    """
    Hears, from a second parser, the body of a request whose head the first one
    has told already, and then everything else.
    """

    def __init__(self, connection: Http1Connection) -> None:
        self._connection: Any = connection
        self._muted = True
        self.on_chunk_header = connection.on_chunk_header
        self.on_body = connection.on_body
        self.on_message_complete = connection.on_message_complete

    def on_message_begin(self) -> None:
        if not self._muted:
            self._connection.on_message_begin()

    def on_url(self, piece: bytes) -> None:
        if not self._muted:
            self._connection.on_url(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._muted:
            self._connection.on_header(name, value)

    def on_headers_complete(self) -> None:
        if not self._muted:
            self._connection.on_headers_complete()
        self._muted = False
