"""
Bound the memory that incomplete input takes, in sum over all connections.

Limits per connection (`max-body`, `websocket-message`) bound one request body or
websocket message. This bounds all of them together.

How to use it: an object that collects input that is not complete yet provides
`IncompleteInput` and opens one `Reservation` for it::

    self._reserved = memory.open(self)  # with the first incomplete bytes
    self._reserved.grow(len(data))      # with each further piece, once it is stored
    self._reserved.resize(size)         # or this, where the size may shrink too
    self._reserved.close()              # complete, refused, or the connection is lost

Above half of the limit `pause_input` is called, from within `grow` too: read no more until
`resume_input`. `drop_input` is called when the memory is needed for other input: free the
input and refuse it (503, or close code 1013). The reservation is closed by then.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from twisted.logger import Logger

SMALL = 4096  # bytes: input of this size is never paused, nor dropped for its age
READ_SIZE = 65536  # bytes that one read of a connection may bring
MIN_READING = 8  # connections of the paused ones that are read nevertheless, by default
GRACE = 5.0  # seconds over which the rate of input is measured while other input is paused...
PROBE = 1.0  # ...and of input that was paused: its bytes are in the kernel already
MAX_PAUSE = 20.0  # seconds that input is paused, so that many that stall do not delay others
MIN_RATE = 4096  # bytes a second that input which is read has to bring meanwhile

_log = Logger()


class IncompleteInput(Protocol):
    """
    Owns a reservation. None of its methods may raise.
    """

    def pause_input(self) -> None:
        """
        Stop reading from the connection.
        """

    def resume_input(self) -> None:
        """
        Read again. Called once for each `pause_input`, never within a call of `grow`.
        """

    def drop_input(self) -> None:
        """
        Free the input and refuse it.

        The reservation is closed already. `resume_input` is not called afterwards, even
        if the input was paused.
        """


class Reservation:
    """
    The memory that one incomplete input takes. `InboundMemory.open` makes it.

    Attributes:
        size: bytes reserved now.
        paused: `pause_input` was called, and `resume_input` was not yet.
        requeued: it was paused before, so it goes ahead of those that were not.
        since: when it began to be read, was paused, or was measured last.
        received: bytes since then.
    """

    __slots__ = ("_memory", "_owner", "paused", "received", "requeued", "since", "size")

    def __init__(self, memory: InboundMemory, owner: IncompleteInput, since: float) -> None:
        self._memory: InboundMemory | None = memory
        self._owner = owner
        self.size = 0
        self.paused = False
        self.requeued = False
        self.since = since
        self.received = 0

    def grow(self, size: int) -> None:
        """
        Reserve *size* bytes more, which are in memory already.

        May call `pause_input` or `drop_input` of this or any other owner. Changes nothing
        once the reservation is closed.
        """
        if self._memory is not None:
            self.size += size
            self.received += size
            self._memory.on_grown(self, size)

    def resize(self, size: int) -> None:
        """
        Reserve *size* bytes in total.

        As `grow` if that is more than before; if it is less, the input is measured as if
        it had begun now.
        """
        memory = self._memory
        if memory is None:
            return
        if size > self.size:
            self.grow(size - self.size)
        elif size < self.size:
            freed, self.size = self.size - size, size
            memory.on_shrunk(self, freed)

    def close(self) -> None:
        """
        Release the memory.

        Further calls change nothing. `resume_input` is not called any more, even if the
        input was paused.
        """
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.on_closed(self)

    def pause(self, now: float) -> None:
        """
        Pause the input; called by `InboundMemory`.
        """
        self.paused = True
        self.since = now
        self._owner.pause_input()

    def resume(self, now: float) -> None:
        """
        Resume the input; called by `InboundMemory`.
        """
        self.paused = False
        self.requeued = True
        self.since = now
        self.received = 0
        self._owner.resume_input()

    def drop(self) -> None:
        """
        Drop the input; called by `InboundMemory`.
        """
        self.close()
        self._owner.drop_input()


class InboundMemory:
    """
    Bounds the memory that incomplete input takes.

    Above half of the limit, input of more than SMALL bytes is paused, and resumed in
    order as memory becomes free. A few are read in any case, so that some become complete.
    While others are paused, input that is read is dropped if it brings less than MIN_RATE,
    and so is input that was paused for MAX_PAUSE seconds. Above the limit (by bytes that
    are received before the pauses take effect) the oldest are dropped at once.

    Args:
        clock: provides `seconds` and `callLater`. Nothing is scheduled while
            no input is paused.
        limit: bytes; 0 for no limit.
        min_reading: how many are read however much is in use.

    Attributes:
        limit: bytes; may be changed at any time.
        used: bytes reserved now.
        dropped: how many were dropped, in total.
    """

    def __init__(self, clock: Any, limit: int, min_reading: int = MIN_READING) -> None:
        self.limit = limit
        self.used = 0
        self.dropped = 0
        self._clock = clock
        self._configured_min = min_reading
        self._small: dict[Reservation, None] = {}  # the oldest first, as in the next two
        self._reading: dict[Reservation, None] = {}  # of more than SMALL bytes
        self._paused: OrderedDict[Reservation, None] = OrderedDict()
        self._timer: Any = None  # set while some are paused
        self._resuming = False

    @property
    def paused(self) -> int:
        """
        The number of reservations whose input is paused.
        """
        return len(self._paused)

    @property
    def high_water(self) -> int:
        """
        Bytes above which input is paused: half of the limit.
        """
        return self.limit // 2

    def open(self, owner: IncompleteInput) -> Reservation:
        """
        Return a reservation of 0 bytes, which *owner* has to close.
        """
        now = self._clock.seconds() if self.limit else 0.0
        reservation = Reservation(self, owner, now)
        self._small[reservation] = None
        return reservation

    # Called by reservations.

    def on_grown(self, reservation: Reservation, size: int) -> None:
        """
        Count *size* bytes more; pause or drop input if that is too much.
        """
        self.used += size
        if reservation.size > SMALL and reservation in self._small:
            del self._small[reservation]
            self._reading[reservation] = None
        if not self.limit or self.used <= self.high_water:
            return
        while self.used > self.limit and (victim := self._victim()) is not None:
            self._drop(victim)
        if (
            self.used > self.high_water
            and reservation in self._reading
            and len(self._reading) > self._min_reading
        ):
            del self._reading[reservation]
            self._paused[reservation] = None
            if reservation.requeued:
                self._paused.move_to_end(reservation, last=False)
            if self._timer is None:
                self._timer = self._clock.callLater(1.0, self._drop_slow)
            reservation.pause(self._clock.seconds())

    def on_shrunk(self, reservation: Reservation, size: int) -> None:
        """
        Count *size* bytes less.
        """
        self.used -= size
        if self.limit:
            reservation.since = self._clock.seconds()
            reservation.received = 0
        if reservation.size <= SMALL and self._reading.pop(reservation, 0) is None:
            self._small[reservation] = None
        self._resume_soon()

    def on_closed(self, reservation: Reservation) -> None:
        """
        Count the bytes of *reservation* no more.
        """
        self.used -= reservation.size
        self._small.pop(reservation, None)
        self._reading.pop(reservation, None)
        self._paused.pop(reservation, None)
        self._resume_soon()

    def _resume_soon(self) -> None:
        few = len(self._reading) < self._min_reading
        if self._paused and not self._resuming and (few or self.used <= self.high_water):
            # Later: input that is resumed is read at once, and its owner may be on the stack.
            self._resuming = True
            self._clock.callLater(0, self._resume_some)

    def _victim(self) -> Reservation | None:
        """
        Return the reservation to drop at once: the oldest, as those that stall are old.

        One of those that are read remains: its own limit bounds it.
        """
        if self._paused:
            return next(iter(self._paused))
        if len(self._reading) > 1:
            return next(iter(self._reading))
        return next(iter(self._small), None)

    @property
    def _min_reading(self) -> int:
        """
        How many are read above half of the limit.

        It is one when they have received an eighth of the rest, so that this one can
        become complete.
        """
        return self._configured_min if self.used <= self.high_water + self.high_water // 8 else 1

    def _resume_some(self) -> None:
        self._resuming = False
        now = self._clock.seconds()
        # Each brings one read at once: if all were resumed, most would be paused again.
        room = max(0, self.high_water - self.used) // READ_SIZE if self.limit else len(self._paused)
        room = max(room, self._min_reading - len(self._reading))
        for _ in range(min(room, len(self._paused))):
            reservation, _ = self._paused.popitem(last=False)
            self._reading[reservation] = None
            reservation.resume(now)
            if not self._paused:
                break

    def _drop_slow(self) -> None:
        """
        Drop input that is too slow, or was paused for too long.

        Called once a second while some input is paused.
        """
        self._timer = None
        if not self._paused:
            return
        self._timer = self._clock.callLater(1.0, self._drop_slow)
        now = self._clock.seconds()
        for one in tuple(self._paused):
            if self.used <= self.high_water // 4:
                break  # there is enough room for the others
            if now - one.since >= MAX_PAUSE and one in self._paused:
                self._drop(one)
        for one in tuple(self._reading):
            span = now - one.since
            if span >= (PROBE if one.requeued else GRACE) and one in self._reading:
                if one.received < MIN_RATE * span:
                    self._drop(one)
                else:
                    one.since, one.received = now, 0
        if not self._resuming:
            self._resume_some()

    def _drop(self, reservation: Reservation) -> None:
        self.dropped += 1
        try:
            reservation.drop()
        except Exception:
            _log.failure("while dropping incomplete input")
