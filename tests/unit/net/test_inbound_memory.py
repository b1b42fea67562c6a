"""
Bounds on the incomplete input of all connections together.
"""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rt_twisted.net.inbound_memory import (
    GRACE,
    MIN_RATE,
    MIN_READING,
    READ_SIZE,
    SMALL,
    InboundMemory,
)

LIMIT = 40 * READ_SIZE  # reading pauses above half of it


class Upload:
    """
    Input of a known size that is read piece by piece.
    """

    def __init__(self, memory: InboundMemory, size: int) -> None:
        self.reading = True
        self.dropped = False
        self.complete = False
        self.left = size
        self.held = memory.open(self)

    def pause_input(self) -> None:
        assert self.reading and not self.dropped
        self.reading = False

    def resume_input(self) -> None:
        assert not self.reading and not self.dropped
        self.reading = True

    def drop_input(self) -> None:
        assert not self.dropped
        self.dropped = True

    def read(self, size: int = READ_SIZE) -> None:
        """
        Receive up to *size* bytes, if the input is not paused.
        """
        if not self.reading or self.dropped or self.complete:
            return
        size = min(size, self.left)
        self.left -= size
        self.held.grow(size)
        if not self.left and not self.dropped:
            self.complete = True
            self.held.close()


def fill(memory: InboundMemory, size: int = LIMIT // 2 - 10) -> list[Upload]:
    """
    Open those that are always read, of *size* bytes together, and read one more byte of each.
    """
    uploads = [Upload(memory, size // MIN_READING + 1) for _ in range(MIN_READING)]
    for upload in uploads:
        upload.read(size // MIN_READING)
    return uploads


def test_below_the_limit_nothing_happens() -> None:
    """
    Input within the limit is read without a pause, and nothing is scheduled.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    uploads = [Upload(memory, 5 * READ_SIZE) for _ in range(2)]
    for _ in range(5):
        for upload in uploads:
            upload.read()

    assert all(upload.complete for upload in uploads)
    assert (memory.used, memory.paused, memory.dropped) == (0, 0, 0)
    assert clock.getDelayedCalls() == []


def test_no_limit() -> None:
    """
    A limit of 0 bounds nothing.
    """
    memory = InboundMemory(Clock(), 0)
    uploads = [Upload(memory, 100 * READ_SIZE) for _ in range(100)]
    for upload in uploads:
        upload.read(50 * READ_SIZE)

    assert all(upload.reading and not upload.dropped for upload in uploads)
    assert memory.used == 5000 * READ_SIZE


def test_above_the_limit_input_is_paused_in_order() -> None:
    """
    Input above the limit is paused, and resumed in the order of the pauses as other input becomes
    complete.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    first = fill(memory)
    later = [Upload(memory, 2 * READ_SIZE) for _ in range(3)]
    for upload in later:
        upload.read(SMALL + 1)

    assert [upload.reading for upload in later] == [False] * 3
    assert all(upload.reading for upload in first)
    for upload in first[:2]:
        upload.read()
    assert not any(upload.reading for upload in later)  # not within the call
    clock.advance(0)
    assert all(upload.reading for upload in later)
    assert memory.paused == 0


def test_some_are_always_read() -> None:
    """
    When all incomplete input is above the limit, the first that were paused are resumed
    nevertheless: fewer of them, the further it is exceeded.
    """
    clock = Clock()
    memory = InboundMemory(clock, 4 * LIMIT)
    uploads = [Upload(memory, 4 * READ_SIZE) for _ in range(60)]
    for _ in range(3):
        for upload in uploads:
            upload.read()
    assert 1 <= [upload.reading for upload in uploads].count(True) <= MIN_READING
    for _ in range(400):
        for upload in uploads:
            upload.read()
        clock.advance(0)

    assert all(upload.complete for upload in uploads)
    assert memory.used == 0


def test_stalled_input_is_dropped_while_others_wait() -> None:
    """
    Input that fills the memory and stalls is dropped after a few seconds, but only while other
    input is paused.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    stalled = fill(memory)
    clock.advance(100)
    assert not any(upload.dropped for upload in stalled)

    healthy = Upload(memory, 2 * READ_SIZE)
    healthy.read()
    assert not healthy.reading
    clock.pump([1.0] * 2)
    healthy.read()

    assert healthy.complete
    assert all(upload.dropped for upload in stalled)
    assert memory.dropped == MIN_READING
    clock.pump([1.0] * 2)
    assert clock.getDelayedCalls() == []


def test_many_that_stall_are_dropped_soon() -> None:
    """
    Input that was paused has to bring bytes as soon as it is resumed; a slow client that brings a
    little all the time is spared.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    slow = Upload(memory, 10 * READ_SIZE)
    slow.read(2 * READ_SIZE)
    stalled = [Upload(memory, 2 * READ_SIZE) for _ in range(100)]
    for upload in stalled:
        upload.read()
    healthy = Upload(memory, 3 * READ_SIZE)
    for _ in range(20):
        healthy.read()
        slow.read(MIN_RATE)
        clock.advance(1.0)

    assert healthy.complete
    assert not slow.dropped
    assert memory.used <= LIMIT
    assert memory.paused == 0


def test_pauses_are_bounded() -> None:
    """
    Clients that bring just enough delay others for MAX_PAUSE seconds at most: then those that are
    paused are refused, or resumed.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT, min_reading=1)
    slow = [Upload(memory, 1000 * READ_SIZE) for _ in range(30)]
    for upload in slow:
        upload.read()
    waiting = [upload for upload in slow if not upload.reading]
    clock.pump([0.5] * 10)
    healthy = Upload(memory, 2 * READ_SIZE)
    healthy.read()
    assert not healthy.reading
    for _ in range(60):
        for upload in slow:
            upload.read(MIN_RATE)
        healthy.read()
        clock.advance(0.5)

    assert healthy.complete or healthy.dropped
    assert all(upload.dropped or upload.held.size > READ_SIZE for upload in waiting)
    assert memory.used <= LIMIT


def test_small_input_that_stalls_delays_no_other() -> None:
    """
    Small input is neither paused nor counted as input that is read.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    small = [Upload(memory, SMALL) for _ in range(20)]
    for upload in small:
        upload.read(10)
    large = [Upload(memory, 9 * READ_SIZE) for _ in range(6)]
    for _ in range(60):
        for upload in large:
            upload.read()
        clock.advance(0)

    assert all(upload.complete for upload in large)
    assert all(upload.reading and not upload.dropped for upload in small)


def test_far_above_the_limit_the_oldest_are_dropped() -> None:
    """
    The bytes that many connections send at once, before a pause takes effect, are bounded too.
    """
    memory = InboundMemory(Clock(), LIMIT)
    uploads = [Upload(memory, 2 * READ_SIZE) for _ in range(100)]
    for upload in uploads:
        upload.read()
        assert memory.used <= memory.limit

    assert memory.dropped >= 50
    small = [Upload(memory, SMALL) for _ in range(5000)]
    for upload in small:
        upload.read(SMALL - 1)
        assert memory.used <= memory.limit + SMALL
    assert not small[-1].dropped


def test_input_larger_than_the_limit_passes_alone() -> None:
    """
    A single input is bounded by its own limit, not by this one.
    """
    memory = InboundMemory(Clock(), LIMIT)
    upload = Upload(memory, 10 * LIMIT)
    while upload.reading and not upload.complete:
        upload.read()

    assert upload.complete
    assert memory.used == 0


def test_closing() -> None:
    """
    A closed reservation is not counted, whatever is called.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    uploads = [*fill(memory), Upload(memory, LIMIT)]
    uploads[-1].read()
    assert not uploads[-1].reading
    for upload in uploads:
        upload.held.close()
        upload.held.close()
        upload.held.grow(100)
    clock.pump([1.0] * 3)

    assert memory.used == 0
    assert not uploads[-1].reading  # it waits no more
    assert clock.getDelayedCalls() == []


def test_shrinking_frees_memory() -> None:
    """
    A reservation that shrinks is measured anew, and paused input is resumed.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    first = fill(memory)
    other = Upload(memory, LIMIT)
    other.read()
    assert not other.reading
    clock.advance(GRACE - 0.5)
    first[0].held.resize(SMALL + 1)
    first[1].held.resize(10)
    clock.advance(0)
    assert other.reading
    clock.advance(1.0)

    assert not first[0].dropped and not first[1].dropped
    assert memory.used == sum(upload.held.size for upload in [*first, other])


def test_a_limit_that_changes() -> None:
    """
    A changed limit takes effect with the next piece.
    """
    memory = InboundMemory(Clock(), 0)
    uploads = [Upload(memory, LIMIT) for _ in range(10)]
    for upload in uploads:
        upload.read(READ_SIZE)
    memory.limit = 18 * READ_SIZE
    uploads[0].read(1)

    assert not uploads[0].reading


@given(
    st.lists(st.integers(1, 20 * READ_SIZE), min_size=1, max_size=30),
    st.randoms(use_true_random=False),
)
def test_all_input_ends(sizes: list[int], chance: Random) -> None:
    """
    For all sizes and orders of reads, the sum stays bounded, and all input becomes complete or is
    dropped, although some stalls.
    """
    clock = Clock()
    memory = InboundMemory(clock, LIMIT)
    uploads = [Upload(memory, size) for size in sizes]
    stalls = [upload for upload in uploads if chance.random() < 0.3]
    most = memory.limit + max(sizes)
    for _ in range(200):
        upload = chance.choice(uploads)
        if upload in stalls and upload.left <= sizes[uploads.index(upload)] // 2:
            continue
        upload.read(chance.randint(1, 2 * READ_SIZE))
        assert memory.used <= most
        assert memory.used == sum(
            one.held.size for one in uploads if not one.complete and not one.dropped
        )
        clock.advance(0)
    for _ in range(40 * len(uploads)):
        for upload in uploads:
            if upload not in stalls:
                upload.read()
        clock.advance(GRACE / 10)

    assert all(upload.complete or upload.dropped for upload in uploads if upload not in stalls)
    assert memory.paused == 0
