"""
The body of a live publisher: read, numbered and published as it arrives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.interfaces import IChunkSink
from rt_twisted.hub.publishers import LivePublisher, ParkedRun
from rt_twisted.media.containers import (
    START_BYTES,
    ContainerReader,
    find_reader,
    may_be_container,
)
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Head, Unit, write
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import UNIT, Draft

_log = Logger()

MAX_UNACKNOWLEDGED = 4 * 1024 * 1024  # bytes at the broker before the publisher is paused


class PublisherRun(Protocol):
    """
    Numbers frames; see `LiveRun`.
    """

    def feed(self, parts: Iterable[Part]) -> list[Head | Unit]:
        """
        Return what is published for *parts*.
        """


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
    ) -> None:
        self._context = context
        self._exchange = exchange
        self._publisher = publisher
        self._run = run
        self._prefix, self._suffix = around
        self._reader = reader
        self._recognized = raw or reader is not None
        self._chunk = bytearray()  # bytes that are no message yet
        self._has_chunks = "chunked" in (exchange.header("transfer-encoding") or "")
        self._unacknowledged = 0
        self._paused = False
        self._skipping = False  # the broker was away: up to the next head
        self._received = 0  # bytes
        self._ended = False  # the whole body was received
        self._closed = False
        publisher.lost.addCallback(self._on_lost)

    def go_on_with(self, exchange: PublisherExchange) -> None:
        """
        Receive the body of *exchange* as the continuation of the one before.
        """
        self._exchange = exchange
        self._ended = False

    def data(self, piece: bytes) -> None:
        if self._closed:
            return
        self._received += len(piece)
        self._publisher.touch(self._context.hub.seconds())
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
                self._fail(HttpError(413, "a chunk is larger than max-message"))
            return
        try:
            messages = [write(thing) for thing in self._run.feed(self._reader.feed(piece))]
        except RemoteProtocolError as error:
            self._fail(HttpError(400, error.reason))
            return
        channel = self._publisher.channel
        self._publish([Draft(channel, data, event, transient=True) for event, data in messages])

    def chunk_end(self) -> None:
        if (
            not self._recognized
            and not self._ended
            and may_be_container(bytes(self._chunk[:START_BYTES]))
        ):
            return  # a chunk may end within the first bytes of a container
        self._recognize()
        if self._reader is None and self._chunk and not self._closed:
            data = bytes(self._chunk)
            self._chunk.clear()
            self._publish([Draft(self._publisher.channel, self._prefix + data + self._suffix)])

    def end(self) -> None:
        self._ended = True
        self.chunk_end()
        self._answer_end()

    def lost(self, reason: Exception) -> None:
        self._closed = True
        self._publisher.close("the connection of the publisher was lost")

    def _recognize(self) -> None:
        if not self._recognized and self._chunk:
            self._recognized = True
            self._reader = find_reader(
                bytes(self._chunk[:START_BYTES]),
                self._exchange.header("content-type") or "",
                self._context.hub.seconds,
            )

    def _publish(self, drafts: list[Draft]) -> None:
        if self._skipping:
            drafts = _from_head(drafts)
            self._skipping = not drafts
        if not drafts:
            return
        size = sum([len(draft.data) for draft in drafts])
        self._unacknowledged += size
        self._context.publish(drafts).addCallbacks(
            self._on_published, self._on_failed, (size,), errbackArgs=(size,)
        )
        if self._unacknowledged > MAX_UNACKNOWLEDGED and not self._paused and not self._closed:
            self._paused = True
            self._publisher.touch(math.inf)  # its silence is ours
            self._exchange.pause()

    def _on_published(self, _: object, size: int) -> None:
        self._unacknowledged -= size
        if self._paused and self._unacknowledged <= MAX_UNACKNOWLEDGED // 2:
            self._paused = False
            self._publisher.touch(self._context.hub.seconds())
            self._exchange.resume()
        self._answer_end()

    def _on_failed(self, failure: Failure, size: int) -> None:
        if isinstance(failure.value, HttpError):
            self._fail(failure.value)
        elif failure.check(Unavailable):
            if not self._skipping:
                _log.warn(
                    "frames of {channel} are dropped up to the next keyframe: {reason}",
                    channel=self._publisher.channel,
                    reason=failure.getErrorMessage(),
                )
            self._skipping = True
        else:
            _log.failure("while publishing a live stream", failure)
            self._fail(HttpError(500, "internal error"))
        self._on_published(None, size)

    def _answer_end(self) -> None:
        if not self._ended or self._unacknowledged or self._closed or self._exchange.answered:
            return
        exchange = self._exchange
        is_part = self._reader is not None or exchange.header("content-range") is not None
        if is_part and exchange.length:
            self._publisher.park(ParkedRun(exchange.connection, self._received, self))
        else:
            self._closed = True
            self._publisher.close()
        exchange.answer(200, b'{"status": "ok"}\n', "application/json")

    def _on_lost(self, reason: str) -> None:
        self._fail(HttpError(403, reason))

    def _fail(self, error: HttpError) -> None:
        if not self._closed:
            self._closed = True
            self._publisher.close(error.reason)
            self._exchange.refuse(error)


def _from_head(drafts: list[Draft]) -> list[Draft]:
    """
    Return *drafts* from the first head on, or from the first plain message on.
    """
    for index, draft in enumerate(drafts):
        if draft.event is None or draft.event.startswith(UNIT + "h"):
            return drafts[index:]
    return []
