"""
The body of a live publisher: read, numbered and published as it arrives.
"""

from __future__ import annotations

from typing import Any, Protocol

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.publication import LivePublication, PublisherRun
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.interfaces import IChunkSink
from rt_twisted.hub.publishers import LivePublisher, ParkedRun
from rt_twisted.media.containers import (
    START_BYTES,
    ContainerReader,
    find_reader,
    may_be_container,
)
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft


class PublisherExchange(Protocol):
    """
    What is used of a publisher's request: an `IExchange`, or what has taken its connection over.
    """

    answered: bool
    connection: object
    length: int | None

    def header(self, name: str) -> str | None:
        """
        Return a header of the request.
        """

    def pause(self) -> None:
        """
        Receive no more of the body.
        """

    def resume(self) -> None:
        """
        Receive the body again after `pause`.
        """

    def answer(self, status: int, body: bytes, content_type: str) -> None:
        """
        Respond: the whole body was received.
        """

    def refuse(self, refusal: HttpError) -> None:
        """
        Respond, and receive no more.
        """


@implementer(IChunkSink)
class LiveIntake:
    """
    Receives one body for one channel.

    WebM, Matroska, fragmented MP4 and Motion JPEG become a live stream. Of any other body each
    HTTP chunk is a message; without chunks, whatever is received at a time.

    Args:
        context: the hub and the settings.
        exchange: answered when the body ends, or with the reason for which it cannot go on.
        publisher: the right to publish.
        run: numbers the frames.
        raw: the body is not searched for a container.
        around: bytes before and behind each plain message.
        reader: of the body; None to recognize it by its first bytes.
        request: the publisher's, for the access log; None for no line.
    """

    def __init__(
        self,
        context: ActionContext,
        exchange: PublisherExchange,
        publisher: LivePublisher,
        run: PublisherRun,
        raw: bool = False,
        around: tuple[bytes, bytes] = (b"", b""),
        reader: ContainerReader | None = None,
        request: Any = None,
    ) -> None:
        self._context = context
        self._exchange = exchange
        self._publisher = publisher
        # With a length, each frame may have a request, whose response the publisher waits for.
        transport = None
        if exchange.length is None:
            transport = getattr(exchange.connection, "transport", None)
        self._publication = LivePublication(context, self, publisher, run, request, transport)
        self._prefix, self._suffix = around
        self._reader = reader
        self._recognized = raw or reader is not None
        self._chunk = bytearray()  # bytes that are no message yet
        self._has_chunks = "chunked" in (exchange.header("transfer-encoding") or "")
        self._received = 0  # bytes
        self._ended = False  # the whole body was received

    def go_on_with(self, exchange: PublisherExchange) -> None:
        """
        Receive the body of *exchange* as the continuation of the one before.
        """
        self._exchange = exchange
        self._ended = False

    def data(self, piece: bytes) -> None:
        if self._publication.closed:
            return
        self._received += len(piece)
        self._publication.touch(len(piece))
        if not self._recognized:
            self._chunk += piece
            if len(self._chunk) < START_BYTES and may_be_container(
                bytes(self._chunk[:START_BYTES])
            ):
                return
            self._recognize()
            piece = bytes(self._chunk)
            self._chunk.clear()
        if self._reader is None:
            self._chunk += piece
            if not self._has_chunks:
                self.chunk_end()
            elif len(self._chunk) > self._context.max_message:
                self._publication.fail(HttpError(413, "a chunk is larger than max-message"))
            return
        try:
            self._publication.feed(self._reader.feed(piece))
        except RemoteProtocolError as error:
            self._publication.fail(HttpError(400, error.reason))

    def chunk_end(self) -> None:
        if (
            not self._recognized
            and not self._ended
            and may_be_container(bytes(self._chunk[:START_BYTES]))
        ):
            return  # a chunk may end within the first bytes of a container
        self._recognize()
        if self._reader is None and self._chunk:
            data = self._prefix + bytes(self._chunk) + self._suffix
            self._chunk.clear()
            self._publication.publish([Draft(self._publication.channel, data)])

    def end(self) -> None:
        self._ended = True
        self.chunk_end()
        self.acknowledged()

    def lost(self, reason: Exception) -> None:
        self._publication.lose(reason)

    def pause(self) -> None:
        """
        Receive no more of the body.
        """
        self._exchange.pause()

    def resume(self) -> None:
        """
        Receive the body again after `pause`.
        """
        self._exchange.resume()

    def refuse(self, error: HttpError) -> None:
        """
        Answer the request with *error*.
        """
        self._exchange.refuse(error)

    def acknowledged(self) -> None:
        """
        Answer the request if its body has ended and the broker has acknowledged all of it.
        """
        publication, exchange = self._publication, self._exchange
        if not self._ended or publication.unacknowledged or publication.closed:
            return
        if exchange.answered:
            return
        is_part = self._reader is not None or exchange.header("content-range") is not None
        if is_part and exchange.length:
            self._publisher.park(ParkedRun(exchange.connection, self._received, self))
        else:
            publication.close()
        exchange.answer(200, b'{"status": "ok"}\n', "application/json")

    def _recognize(self) -> None:
        if not self._recognized and self._chunk:
            self._recognized = True
            self._reader = find_reader(
                bytes(self._chunk[:START_BYTES]),
                self._exchange.header("content-type") or "",
                self._context.hub.seconds,
                self._context.max_unit,
            )
