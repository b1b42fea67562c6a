"""
The transport of a subscriber that has no connection, but whose client polls.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from rt_twisted.hub.subscriber import Subscriber

PORTION = 1 << 16  # bytes of one response, which has to arrive over a bad line too

Deliver = Callable[[bytes], object]
Cut = Callable[[bytes, int], int]


class PollBuffer:
    """
    Collects what is written to a `Subscriber`, until the next poll fetches it.

    While nothing is fetched, the subscriber is paused: frames wait in its backlog, as
    references shared by all subscribers, within its backlog limits. The hub drops a
    subscriber that is paused for too long, or, where the policy is to skip, keeps it
    until `close`. A fetch is answered with all frames that wait; if there are none,
    with all that are written in the next turn of the reactor in which some are. Frames
    are delivered whole, in order, once each. A fetch may ask for a portion: the rest
    waits in the subscriber for the next fetch.

        buffer = PollBuffer(reactor, on_close)
        subscriber = Subscriber(buffer, format, hub, limits)
        hub.join(subscriber, names, since)
        buffer.fetch(deliver)                  # for each poll

    Args:
        clock: the reactor.
        on_close: called once, when the subscriber is dropped, or has written its last
            frames, which are delivered before if a fetch waits. Its argument: whether
            frames were dropped.
    """

    __slots__ = (
        "_clock",
        "_cut",
        "_deliver",
        "_delivery_scheduled",
        "_on_close",
        "_pieces",
        "_producer",
        "_size",
        "_wanted",
        "protocol",
    )

    disconnecting = False

    def __init__(self, clock: IReactorTime, on_close: Callable[[bool], object]) -> None:
        self.protocol: Subscriber | None = None
        self._clock = clock
        self._on_close: Callable[[bool], object] | None = on_close
        self._deliver: Deliver | None = None  # of the fetch that waits
        self._cut: Cut | None = None  # its portion
        self._pieces: list[bytes] = []  # written since the fetch, or left by the one before
        self._size = 0  # bytes of the pieces
        self._wanted = sys.maxsize  # bytes which are enough for the fetch
        self._producer: IPushProducer | None = None
        self._delivery_scheduled = False

    @property
    def fetching(self) -> bool:
        """
        Whether a fetch waits for frames.
        """
        return self._deliver is not None

    def fetch(self, deliver: Deliver, cut: Cut | None = None) -> None:
        """
        Call *deliver* once with the frames that wait, or later with the next ones.

        Args:
            deliver: gets whole frames, never b"". It may fetch again.
            cut: limits the delivery to about PORTION bytes. It is called with bytes that begin
                with a frame and with PORTION, and returns where the last frame
                ends that fits; 0 if it needs more bytes of the first frame.
        """
        assert self._deliver is None, "a fetch waits already"
        self._deliver = deliver
        self._cut = cut
        self._wanted = sys.maxsize if cut is None else PORTION
        if self._producer is not None:
            self._producer.resumeProducing()
        self.flush()

    def flush(self) -> None:
        """
        Deliver what was written in this turn of the reactor now, not at its end.
        """
        deliver, cut = self._deliver, self._cut
        if deliver is None or not self._pieces:
            return
        data = self._take_pieces()
        if cut is not None:
            data = self._take_portion(data, cut)
        self._deliver = None
        self._pause()
        deliver(data)

    def _take_portion(self, data: bytes, cut: Cut) -> bytes:
        while not (end := cut(data, PORTION)):
            self._put_back(data)
            self._wanted = 2 * len(data)
            if self._producer is not None:
                self._producer.resumeProducing()
            more = self._take_pieces()
            if len(more) == len(data):
                return data  # there is no more of it
            data = more
        self._put_back(data[end:])
        return data[:end]

    def _take_pieces(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return data

    def _put_back(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._size += len(data)

    def close(self, dropped: bool = False) -> None:
        """
        Disconnect the subscriber: no fetch comes any more.
        """
        self._deliver = self._producer = None
        self._pieces.clear()
        on_close, self._on_close = self._on_close, None
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))
        if on_close is not None:
            on_close(dropped)

    # What the subscriber calls.

    def write(self, data: bytes) -> None:
        if self._on_close is None:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= self._wanted:
            self._pause()
        # A frame may be written in several pieces: it is whole when the turn ends.
        if self._deliver is not None and not self._delivery_scheduled:
            self._delivery_scheduled = True
            self._clock.callLater(0, self._flush_scheduled)

    def _flush_scheduled(self) -> None:
        self._delivery_scheduled = False
        self.flush()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        assert streaming, "a subscriber without a socket is a push producer"
        self._producer = producer
        if self._deliver is None:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self._producer = None

    def _pause(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def loseConnection(self) -> None:
        self.flush()
        self.close()

    def abortConnection(self) -> None:
        # What waits is useless to a client that does not get what follows.
        self.close(dropped=True)
