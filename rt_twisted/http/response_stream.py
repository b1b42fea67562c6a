"""
A response whose body follows its head piece by piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.http.channel import ResponseChannel
from rt_twisted.http.head import Field, ResponseHead
from rt_twisted.http.interfaces import IResponseStream

_log = Logger()

_CHUNKED = (b"Transfer-Encoding", b"chunked")


@implementer(IResponseStream)
class ResponseStream:
    """
    Sends the body of a response as it is made. Created by `HttpExchange.stream`.

    Args:
        channel: sends the response.
        path: of the request, for the log.
        head: of the response.
        length: bytes of the body, for Content-Length; None if it is not known.
        has_body: False for responses that have none, such as those to HEAD: what is written
            is discarded.
        framed: send the body in HTTP chunks.
    """

    def __init__(
        self,
        channel: ResponseChannel,
        path: str,
        head: ResponseHead,
        length: int | None,
        has_body: bool,
        framed: bool,
    ) -> None:
        self._channel = channel
        self._path = path
        self._declared = length if has_body else 0
        self._has_body = has_body
        self._framed = framed and has_body and length is None
        self._sent = 0
        self._producer: Any = None
        self._ended = False
        if self._framed:
            head = replace(head, fields=[*head.fields, _CHUNKED])
        channel.start(head, length, direct=True)

    def register_producer(self, producer: Any) -> None:
        self._producer = producer
        self._channel.registerProducer(producer, True)

    def write(self, data: bytes) -> None:
        if self._ended or not self._has_body:
            return
        if self._declared is not None:
            data = data[: self._declared - self._sent]
        if not data:
            return
        self._sent += len(data)
        if self._framed:
            self._channel.writeSequence((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._channel.write(data)

    def finish(self, trailers: Sequence[Field] = ()) -> None:
        if self._ended:
            return
        if self._declared is not None and self._sent < self._declared:
            _log.warn(
                "{path!r}: the application wrote {sent} of {declared} bytes; connection closed",
                path=self._path,
                sent=self._sent,
                declared=self._declared,
            )
            self.abort()
            return
        self._end()
        if self._framed:
            lines = b"".join([b"%s: %s\r\n" % field for field in trailers])
            self._channel.write(b"0\r\n%s\r\n" % lines)
        self._channel.finish(trailers if self._has_body else ())

    def abort(self) -> None:
        if not self._ended:
            self._end()
            self._channel.abort()

    def stopProducing(self) -> None:
        """
        End the response: the client has disconnected. Called by the exchange.
        """
        self._ended = True
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    def _end(self) -> None:
        self._ended = True
        if self._producer is not None:
            self._producer = None
            self._channel.unregisterProducer()
