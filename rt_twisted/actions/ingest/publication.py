"""
What a live publisher sends, published at the speed of the broker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.publisher_lines import PublisherLines
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import MAX_UNITS, Head, Unit, write
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import UNIT, Draft, PublishResult
from rt_twisted.net.coalesced_reads import CoalescedReads, quick_server_below

_log = Logger()

CONNECTION_LOST = "the connection of the publisher was lost"
MAX_UNACKNOWLEDGED = 4 * 1024 * 1024  # bytes at the broker before the publisher is paused


class PublisherRun(Protocol):
    """
    Numbers frames; see `LiveRun`.
    """

    def feed(self, parts: Iterable[Part]) -> list[Head | Unit]:
        """
        Return what is published for *parts*.
        """


class PublicationOwner(Protocol):
    """
    Receives from the publisher, whatever its protocol is.
    """

    def pause(self) -> None:
        """
        Receive no more from the publisher, as too much waits for the broker.
        """

    def resume(self) -> None:
        """
        Receive again after `pause`.
        """

    def acknowledged(self) -> None:
        """
        Note that the broker has acknowledged some of what was published.
        """

    def refuse(self, error: HttpError) -> None:
        """
        Send the publisher the reason for which its publication has ended. Called once at most.
        """


class LivePublication:
    """
    Publishes the frames of one publisher to one channel, until it is closed.

    While the broker is away frames are dropped up to the next keyframe.

    Args:
        context: the hub and the settings.
        owner: receives from the publisher.
        publisher: the right to publish.
        run: numbers the frames.
        request: the publisher's, for the access log; None for no line.
        transport: of the publisher, which is read together with those of others; None to
            leave it as it is.

    Attributes:
        closed: nothing more is published.
        unacknowledged: bytes that the broker has not acknowledged.
    """

    def __init__(
        self,
        context: ActionContext,
        owner: PublicationOwner,
        publisher: LivePublisher,
        run: PublisherRun,
        request: Any = None,
        transport: Any = None,
    ) -> None:
        self._context = context
        self._owner = owner
        self._publisher = publisher
        self._run = run
        self.unacknowledged = 0
        self.closed = False
        self._paused = False
        self._skipping = False  # the broker was away: up to the next head
        self._dropping = False  # since the broker is away, which is logged once
        self._line = context.shared.get(PublisherLines, PublisherLines).open(request)
        self._request: Any = request if self._line is not None else None
        self._began = context.hub.seconds()
        self._bytes = self._messages = 0  # received, and published
        self._at_once = 0  # frames of what was received last
        self._connection = quick_server_below(transport)
        if self._connection is not None:
            self._reads.add(self._connection)
        publisher.lost.addCallback(self._on_lost)

    @property
    def _reads(self) -> CoalescedReads:
        context = self._context
        return context.shared.get(CoalescedReads, lambda: CoalescedReads(context.reactor))

    @property
    def channel(self) -> str:
        """
        The channel to which is published.
        """
        return self._publisher.channel

    def touch(self, size: int = 0) -> None:
        """
        Note that something was received from the publisher: *size* bytes.
        """
        self._bytes += size
        self._at_once = 0
        if not self._paused:
            self._publisher.touch(self._context.hub.seconds())

    def feed(self, parts: Iterable[Part]) -> None:
        """
        Publish the frames that a reader found.

        Raises:
            RemoteProtocolError: see `LiveRun.feed`; or there are over MAX_UNITS since `touch`.
        """
        channel = self._publisher.channel
        drafts: list[Draft] = []
        things = self._run.feed(parts)
        self._at_once += len(things)
        if self._at_once > MAX_UNITS:
            raise RemoteProtocolError(f"over {MAX_UNITS} frames arrive at once")
        for thing in things:
            event, data = write(thing)
            drafts.append(Draft(channel, data, event, None, True))
        if drafts:
            self._publisher.shown = True
            self.publish(drafts)

    def publish(self, drafts: list[Draft]) -> None:
        """
        Publish *drafts*, unless the publication is closed.
        """
        if self._skipping:
            drafts = _from_head(drafts)
            self._skipping = not drafts
        if not drafts or self.closed:
            return
        self._messages += len(drafts)
        done = self._context.publish_stream(drafts)
        # The embedded broker acknowledges at once.
        if done.called and isinstance(getattr(done, "result", None), PublishResult):
            self._dropping = False
            self._owner.acknowledged()
            return
        size = sum([len(draft.data) for draft in drafts])
        self.unacknowledged += size
        done.addCallbacks(self._on_published, self._on_failed, (size,), errbackArgs=(size,))
        if self.unacknowledged > MAX_UNACKNOWLEDGED and not self._paused and not self.closed:
            self._paused = True
            self._publisher.touch(math.inf)  # its silence is ours
            self._owner.pause()

    def fail(self, error: HttpError, category: DisconnectReason = DisconnectReason.BROKEN) -> None:
        """
        End the publication for *error*, and send it to the publisher.
        """
        if not self.closed:
            self._close(error.reason, category, error.status)
            self._owner.refuse(error)

    def close(self, reason: str = "the publisher has ended") -> None:
        """
        End the publication for *reason*. Viewers wait for the publisher to return.
        """
        lost = reason == CONNECTION_LOST
        self._close(reason, DisconnectReason.LOST if lost else DisconnectReason.CLIENT, 0)

    def lose(self, reason: Exception) -> None:
        """
        End the publication: the connection is lost, or its body will never be complete.
        """
        if not isinstance(reason, HttpError):
            self.close(CONNECTION_LOST)
            return
        silent = reason.status == 408
        category = DisconnectReason.SILENT if silent else DisconnectReason.BROKEN
        self._close(CONNECTION_LOST, category, reason.status)

    def _close(self, reason: str, category: DisconnectReason, status: int) -> None:
        if self.closed:
            return
        self.closed = True
        line, self._line = self._line, None
        if line is not None:
            seconds = self._context.hub.seconds() - self._began
            status = 0 if self._request.answered else status  # it has one already
            line.end(seconds, self._bytes, self._messages, category.value, status)
        self._request = None
        connection, self._connection = self._connection, None
        if connection is not None:
            self._reads.discard(connection)
        self._publisher.close(reason)

    def _on_published(self, _: object, size: int) -> None:
        self._dropping = False
        self._settle(size)

    def _settle(self, size: int) -> None:
        """
        Go on after *size* bytes that the broker has stored, or refused.
        """
        self.unacknowledged -= size
        if self._paused and self.unacknowledged <= MAX_UNACKNOWLEDGED // 2:
            self._paused = False
            self._publisher.touch(self._context.hub.seconds())
            self._owner.resume()
        self._owner.acknowledged()

    def _on_failed(self, failure: Failure, size: int) -> None:
        if isinstance(failure.value, HttpError):
            self.fail(failure.value)
        elif failure.check(Unavailable):
            if not self._dropping:
                _log.warn(
                    "frames of {channel} are dropped up to the next keyframe: {reason}",
                    channel=self._publisher.channel,
                    reason=failure.getErrorMessage(),
                )
            self._skipping = self._dropping = True
        else:
            _log.failure("while publishing a live stream", failure)
            self.fail(HttpError(500, "internal error"), DisconnectReason.ENDED)
        self._settle(size)

    def _on_lost(self, reason: str) -> None:
        self.fail(HttpError(403, reason), self._publisher.category)


def _from_head(drafts: list[Draft]) -> list[Draft]:
    """
    Return *drafts* from the first head on, or from the first plain message on.
    """
    for index, draft in enumerate(drafts):
        if draft.event is None or draft.event.startswith(UNIT + "h"):
            return drafts[index:]
    return []
