"""
A bound on what unfinished input takes, in sum over all connections.

Limits per connection (`max-body`, `websocket-message`) bound one request body or
websocket message. This bounds them all together, whoever sends them.

How to use it: whoever collects input that is not complete yet provides
`IncompleteInput` and opens one `Reservation` for it::

    self._held = memory.open(self)      # with the first incomplete bytes
    self._held.grow(len(data))          # with each further piece, once it is kept
    self._held.resize(size)             # or so, where the size may go down too
    self._held.close()                  # complete, refused, or the connection is lost

Above half of the limit `pause_input` is called, from within `grow` too: read no more until
`resume_input`. `drop_input` says that the memory is needed for others: let go of the
input and refuse it (503, or close code 1013). The reservation is closed by then.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Protocol

from twisted.logger import Logger

SMALL = 4096  # bytes: unfinished input of this size is never paused, nor dropped for its age
PIECE = 65536  # bytes that one read of a connection may bring
ALWAYS = 8  # of the paused ones that are read nevertheless, unless told otherwise
GRACE = 5.0  # seconds over which the rate of input is judged while others wait...
PROBE = 1.0  # and of input that was paused: what its client has sent is in the kernel
WAIT = 20.0  # seconds that input is paused at most: many that stall do not hold up others longer
LEAST = 4096  # bytes a second that whoever is read has to bring then
_log = Logger()


class IncompleteInput(Protocol):
    """
    The owner of a reservation. None of these calls may raise.
    """

    def pause_input(self) -> None:
        """
        Stop reading from the connection.
        """

    def resume_input(self) -> None:
        """
        Read again; called once for each `pause_input`, never within a call to `grow`.
        """

    def drop_input(self) -> None:
        """
        Free the input and refuse it. The reservation is closed already; nobody
        calls `resume_input` afterwards, even if the input was paused.
        """


class Reservation:
    """
    What one piece of unfinished input takes. `InboundMemory.open` makes it.

    Attributes:
        size: bytes reserved now.
        paused: `pause_input` was called, and `resume_input` was not yet.
    """

    __slots__ = ("_memory", "_owner", "brought", "paused", "requeued", "since", "size")

    def __init__(self, memory: InboundMemory, owner: IncompleteInput, since: float) -> None:
        self._memory: InboundMemory | None = memory
        self._owner = owner
        self.size = 0
        self.paused = False
        self.requeued = False  # it has waited before: ahead of those that have not
        self.since = since  # when it began to be read, was paused, or judged last
        self.brought = 0  # bytes since then

    def grow(self, size: int) -> None:
        """
        Reserve *size* bytes more, which are in memory already. May call
        `pause_input` or `drop_input` of this or any other owner. Changes nothing
        once the reservation is closed.
        """
        if self._memory is not None:
            self.size += size
            self.brought += size
            self._memory.grown(self, size)

    def resize(self, size: int) -> None:
        """
        Reserve *size* bytes in total. As `grow` if that is more than before; if it
        is less, the input goes on as if it had begun now.
        """
        memory = self._memory
        if memory is None:
            return
        if size > self.size:
            self.grow(size - self.size)
        elif size < self.size:
            freed, self.size = self.size - size, size
            memory.shrunk(self, freed)

    def close(self) -> None:
        """
        Give everything back. Further calls change nothing; `resume_input` is not
        called any more, even if the input was paused.
        """
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.closed(self)

    def pause(self, now: float) -> None:
        """
        For `InboundMemory`.
        """
        self.paused = True
        self.since = now
        self._owner.pause_input()

    def resume(self, now: float) -> None:
        """
        For `InboundMemory`.
        """
        self.paused = False
        self.requeued = True
        self.since = now
        self.brought = 0
        self._owner.resume_input()

    def drop(self) -> None:
        """
        For `InboundMemory`.
        """
        self.close()
        self._owner.drop_input()


class InboundMemory:
    """
    The memory that unfinished input may take.

    Above half of the limit, input of more than SMALL bytes is paused, and read again in
    order as memory becomes free. It cannot stop altogether: the first few are always read,
    and while others wait, whoever is read and brings almost nothing is dropped, and so is
    whoever has waited for WAIT seconds. Above
    the limit (what is received before the pauses take effect) the oldest are dropped
    at once.

    Args:
        clock: provides `seconds` and `callLater`. Nothing is scheduled while
            no input is paused.
        limit: bytes; 0 for no limit.
        always: how many are read however much is in use.

    Attributes:
        limit: may be changed at any time.
        used: bytes reserved now.
        dropped: how many were dropped, in total.
    """

    def __init__(self, clock: Any, limit: int, always: int = ALWAYS) -> None:
        self.limit = limit
        self.used = 0
        self.dropped = 0
        self._clock = clock
        self._many = always
        self._small: dict[Reservation, None] = {}  # the oldest first, as below
        self._read: dict[Reservation, None] = {}  # of more than SMALL bytes
        self._waiting: OrderedDict[Reservation, None] = OrderedDict()
        self._timer: Any = None  # set while some wait
        self._waking = False

    @property
    def waiting(self) -> int:
        """
        How many are paused.
        """
        return len(self._waiting)

    @property
    def busy(self) -> int:
        """
        Bytes above which reading pauses: half of the limit.
        """
        return self.limit // 2

    def open(self, owner: IncompleteInput) -> Reservation:
        """
        A reservation of 0 bytes. Its owner has to close it in the end.
        """
        now = self._clock.seconds() if self.limit else 0.0
        reservation = Reservation(self, owner, now)
        self._small[reservation] = None
        return reservation

    # What reservations call.

    def grown(self, reservation: Reservation, size: int) -> None:
        """
        *reservation* has grown by *size* bytes.
        """
        self.used += size
        if reservation.size > SMALL and reservation in self._small:
            del self._small[reservation]
            self._read[reservation] = None
        if not self.limit or self.used <= self.busy:
            return
        while self.used > self.limit and (victim := self._victim()) is not None:
            self._drop(victim)
        if self.used > self.busy and reservation in self._read and len(self._read) > self._always:
            del self._read[reservation]
            self._waiting[reservation] = None
            if reservation.requeued:
                self._waiting.move_to_end(reservation, last=False)
            if self._timer is None:
                self._timer = self._clock.callLater(1.0, self._look)
            reservation.pause(self._clock.seconds())

    def shrunk(self, reservation: Reservation, size: int) -> None:
        """
        *reservation* takes *size* bytes less.
        """
        self.used -= size
        if self.limit:
            reservation.since = self._clock.seconds()
            reservation.brought = 0
        if reservation.size <= SMALL and self._read.pop(reservation, 0) is None:
            self._small[reservation] = None
        self._wake_soon()

    def closed(self, reservation: Reservation) -> None:
        """
        *reservation* is over.
        """
        self.used -= reservation.size
        self._small.pop(reservation, None)
        self._read.pop(reservation, None)
        self._waiting.pop(reservation, None)
        self._wake_soon()

    # Within.

    def _wake_soon(self) -> None:
        few = len(self._read) < self._always
        if self._waiting and not self._waking and (few or self.used <= self.busy):
            # Not within this call: who resumes reads at once, and may be on the stack.
            self._waking = True
            self._clock.callLater(0, self._wake)

    def _victim(self) -> Reservation | None:
        """
        Whom to drop at once: the oldest, as it is those who stall that are old. One of
        those that are read remains: it is bounded by itself.
        """
        if self._waiting:
            return next(iter(self._waiting))
        if len(self._read) > 1:
            return next(iter(self._read))
        return next(iter(self._small), None)

    @property
    def _always(self) -> int:
        """
        How many are read although the sum is above half of the limit; only one when
        they have brought an eighth of the rest, so that it can become complete.
        """
        return self._many if self.used <= self.busy + self.busy // 8 else 1

    def _wake(self) -> None:
        self._waking = False
        now = self._clock.seconds()
        # One piece of each is expected: all at once would only be paused again.
        room = max(0, self.busy - self.used) // PIECE if self.limit else len(self._waiting)
        room = max(room, self._always - len(self._read))
        for _ in range(min(room, len(self._waiting))):
            reservation, _ = self._waiting.popitem(last=False)
            self._read[reservation] = None
            reservation.resume(now)
            if not self._waiting:
                break

    def _look(self) -> None:
        """
        Once a second while some wait: drop who brings almost nothing, or has waited long.
        """
        self._timer = None
        if not self._waiting:
            return
        self._timer = self._clock.callLater(1.0, self._look)
        now = self._clock.seconds()
        for one in tuple(self._waiting):
            if self.used <= self.busy // 4:
                break  # there is room for those who came later
            if now - one.since >= WAIT and one in self._waiting:
                self._drop(one)
        for one in tuple(self._read):
            span = now - one.since
            if span >= (PROBE if one.requeued else GRACE) and one in self._read:
                if one.brought < LEAST * span:
                    self._drop(one)
                else:
                    one.since, one.brought = now, 0
        if not self._waking:
            self._wake()

    def _drop(self, reservation: Reservation) -> None:
        self.dropped += 1
        try:
            reservation.drop()
        except Exception:
            _log.failure("while dropping unfinished input")
