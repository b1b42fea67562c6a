"""
Parser for HTTP/1.1 responses (RFC 9112), on httptools.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import httptools

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_HEAD_BYTES = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class ReceivedHead:
    """
    Status and headers of a response.

    Args:
        version: of HTTP, `1.1` or `1.0`.
        status: 200 to 599.
        headers: names in lower case, in the order received.
    """

    version: str
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """
        Return the values of all headers *name* (in lower case), joined by commas.
        """
        values = [value for each, value in self.headers if each == name]
        return ", ".join(values) if values else None


class ResponseReader:
    """
    Parses one response, and decodes the chunked coding.

    The response to a HEAD request ends with its head: do not wait for `complete`.

    Attributes:
        head: None until it is complete.
        complete: the body is complete; never set for a body that ends with the connection.
        keep_alive: whether the connection can be used for another request.
    """

    __slots__ = ("_body", "_fed", "_headers", "_parser", "complete", "head", "keep_alive")

    def __init__(self) -> None:
        self.head: ReceivedHead | None = None
        self.complete = False
        self.keep_alive = False
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._fed = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bytes:
        """
        Parse the next bytes, however they are split.

        Args:
            data: any length.

        Returns:
            the decoded bytes of the body in *data*.

        Raises:
            RemoteProtocolError: the response is malformed, or its head is larger than
                MAX_HEAD_BYTES; the reader cannot be used again.
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

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        status = parser.get_status_code()
        if status < 200:  # an interim response (RFC 9110, 15.2)
            self._headers = []
        elif self.head is None:
            self.head = ReceivedHead(parser.get_http_version(), status, self._headers)

    def on_body(self, data: bytes) -> None:
        if not self.complete:
            self._body.append(data)

    def on_message_complete(self) -> None:
        if self.head is not None and not self.complete:
            self.complete = True
            self.keep_alive = self._parser.should_keep_alive()
