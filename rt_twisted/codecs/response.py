"""
Reading the response to a request of ours (RFC 9112), on the httptools parser.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import httptools

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_HEAD_BYTES = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """
    Status and headers.

    Args:
        version: of HTTP, `1.1` or `1.0`.
        status: 200 and the like.
        headers: names in lower case, in the order of the wire.
    """

    version: str
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """
        The values of all headers called *name* (in lower case), joined by commas.
        """
        values = [value for each, value in self.headers if each == name]
        return ", ".join(values) if values else None


class ResponseReader:
    """
    Makes a head and a body of a response's bytes; the chunked coding is taken off.

    The response to a HEAD request ends with its head: do not wait for `complete`.
    """

    __slots__ = ("_body", "_fed", "_headers", "_parser", "complete", "head", "keep_alive")

    def __init__(self) -> None:
        self.head: ResponseHead | None = None  # as soon as it is whole
        self.complete = False  # the body is whole; one that a close ends never is
        self.keep_alive = False  # whether the connection may be used again
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._fed = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bytes:
        """
        Take the next bytes.

        Args:
            data: any length.

        Returns:
            the bytes of the body that are among them.

        Raises:
            RemoteProtocolError: this is no HTTP, or the head is larger than
                MAX_HEAD_BYTES; the reader is of no further use.
        """
        self._body.clear()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise RemoteProtocolError("the server switches to another protocol") from None
        except httptools.HttpParserError as error:
            raise RemoteProtocolError(f"not HTTP: {error}") from None
        if self.head is None:
            self._fed += len(data)
            if self._fed > MAX_HEAD_BYTES:
                raise RemoteProtocolError(f"the head has more than {MAX_HEAD_BYTES} bytes")
        body = self._body
        return body[0] if len(body) == 1 else b"".join(body)

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        One header.
        """
        if self.head is None:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """
        The head is there; one of 1xx is only a word in between.
        """
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:
            self._headers = []
        elif self.head is None:
            self.head = ResponseHead(parser.get_http_version(), status, self._headers)

    def on_body(self, data: bytes) -> None:
        """
        A piece of the body.
        """
        if not self.complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """
        The body is whole.
        """
        if self.head is not None and not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
