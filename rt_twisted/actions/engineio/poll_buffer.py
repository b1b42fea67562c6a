"""
The transport of a reader that has no connection of its own, and comes now and
then to ask.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

Take = Callable[[bytes], object]
Cut = Callable[[bytes, int], int]

PORTION = 1 << 16  # bytes of one answer that is to come through on a bad line too


class PollBuffer:
    """
    To a `Subscriber` its transport; to whoever answers polls, where the frames
    come from.

    While nobody asks, the subscriber is held up: frames wait in its backlog, as
    references shared by all readers, within its patience. One that does not come
    for longer than that is dropped by the hub, as every reader that takes
    nothing; where the policy is to skip, it stays until `lose`. Who asks gets all
    that waits, at once; or, if nothing does, all that comes within one turn of
    the reactor, as soon as something comes. What is handed over is whole frames,
    in order, each once. Who asks for a portion leaves the rest to the next who
    asks; it stays where it waits, in the subscriber.

        mailbox = Mailbox(reactor, closed)
        reader = Subscriber(mailbox, format, hub, patience)
        hub.join(reader, names, since)
        mailbox.ask(answer)                  # for each poll
        exchange.watch(mailbox.hush)         # that it went away unanswered

    Args:
        clock: the reactor.
        closed: called once, when the reader is gone for good: it was dropped, or
            has said its last, which is handed over before if somebody asks.
    """

    __slots__ = (
        "_clock",
        "_closed",
        "_cut",
        "_due",
        "_pieces",
        "_producer",
        "_room",
        "_size",
        "_take",
        "protocol",
    )

    disconnecting = False

    def __init__(self, clock: Any, closed: Callable[[], object]) -> None:
        self.protocol: Any = None  # the subscriber
        self._clock = clock
        self._closed: Callable[[], object] | None = closed
        self._take: Take | None = None  # who asks
        self._cut: Cut | None = None  # for a portion
        self._pieces: list[bytes] = []  # what came since it asked, and what it left
        self._size = 0  # bytes of them...
        self._room = sys.maxsize  # ...of which so many are enough
        self._producer: Any = None
        self._due = False  # a delivery is on its way

    # Who asks.

    @property
    def asked(self) -> bool:
        """
        Whether somebody waits for something to come.
        """
        return self._take is not None

    def ask(self, take: Take, cut: Cut | None = None) -> None:
        """
        Hand what waits to *take*, before this returns; or later what comes
        first. It is called once, never with nothing, unless `hush` comes before.

        Args:
            take: who asks.
            cut: it wants about PORTION bytes, or less, and says of bytes from a
                frame's beginning on where the last frame ends that fits; 0 if it
                needs more of the first one.
        """
        assert self._take is None, "somebody asks already"
        self._take = take
        self._cut = cut
        self._room = sys.maxsize if cut is None else PORTION
        if self._producer is not None:
            self._producer.resumeProducing()
        self.deliver()

    def deliver(self) -> None:
        """
        Hand over what came in this turn now, and not at its end.
        """
        take, cut = self._take, self._cut
        if take is None or not self._pieces:
            return
        data = self._pick_up()
        if cut is not None:
            data = self._portion(data, cut)
        self._take = None
        self._hold_up()
        take(data)

    def _portion(self, data: bytes, cut: Cut) -> bytes:
        while not (end := cut(data, PORTION)):
            self._keep(data)
            self._room = 2 * len(data)
            if self._producer is not None:
                self._producer.resumeProducing()
            more = self._pick_up()
            if len(more) == len(data):
                return data  # there is no more of it
            data = more
        self._keep(data[end:])
        return data[:end]

    def _pick_up(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return data

    def _keep(self, data: bytes) -> None:
        if data:
            self._pieces.append(data)
            self._size += len(data)

    def hush(self) -> None:
        """
        Who asked does not any more: what comes waits for the next.
        """
        self._take = None
        self._hold_up()

    def lose(self) -> None:
        """
        Nobody will ask again: the reader leaves.
        """
        self._take = None
        self._pieces.clear()
        closed, self._closed = self._closed, None
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))
        if closed is not None:
            closed()

    # What the subscriber calls.

    def write(self, data: bytes) -> None:
        """
        The next bytes; frames are whole when the turn ends.
        """
        if self._closed is None:
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size >= self._room:
            self._hold_up()
        if self._take is not None and not self._due:
            self._due = True
            self._clock.callLater(0, self._deliver_due)

    def _deliver_due(self) -> None:
        self._due = False
        self.deliver()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        See `IConsumer`; it is streaming, as this transport has no socket.
        """
        assert streaming
        self._producer = producer
        if self._take is None:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """
        See `IConsumer`.
        """
        self._producer = None

    def _hold_up(self) -> None:
        if self._producer is not None:
            self._producer.pauseProducing()

    def loseConnection(self) -> None:
        """
        Nothing more will come.
        """
        self.deliver()
        self.lose()

    def abortConnection(self) -> None:
        """
        The reader was dropped: what waits is not worth having, as there is more
        that it did not get.
        """
        self.lose()
