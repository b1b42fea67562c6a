"""
What a reader got, and what is wrong with it, is judged right.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.model.message import Position
from rt_twisted.tools.cuttest import published as published_module
from rt_twisted.tools.cuttest.checker import Checker, Fault
from rt_twisted.tools.cuttest.published import Published


def at(offset: int, epoch: str = "e") -> Position:
    return Position(epoch, offset)


class Log:
    """
    A server's log, and a reader of channels 0 and 1 that began behind offset 0.
    """

    def __init__(self) -> None:
        self.published = Published(["a", "b", "c"], 60, "77")
        self.checker = Checker([0, 1], self.published)
        self.head = at(0)
        self.checker.advance(self.head)

    def publish(self, *channels: int) -> None:
        """
        The next message of each.
        """
        for channel in channels:
            self.head = Position(self.head.epoch, self.head.offset + 1)
            self.published.write(channel)
            self.published.accept(channel, self.head)

    def hear(self, *offsets: int, epoch: str = "e") -> list[str]:
        """
        The reader hears what is at *offsets*.

        Returns:
            what was wrong.
        """
        wrong = []
        for offset in offsets:
            channel, number = self.find(at(offset, epoch))
            wrong += [
                fault.value for fault, *_ in self.checker.record(channel, number, at(offset, epoch))
            ]
        return wrong

    def find(self, position: Position) -> tuple[int, int]:
        """
        Channel and number of the message there.
        """
        for channel in range(3):
            for number in range(self.published.accepted(channel)):
                if self.published.position(channel, number) == position:
                    return channel, number
        raise AssertionError(f"nothing is at {position}")


@pytest.fixture
def log() -> Log:
    return Log()


def judged(log: Log) -> tuple[int, int, dict[str, int]]:
    """
    Delivered, told of as missing, and faults, when all is over.
    """
    log.checker.close()
    return (
        log.checker.delivered,
        log.checker.reported_lost,
        {fault.value: count for fault, count in log.checker.faults.items() if count},
    )


@pytest.mark.parametrize(
    ("heard", "wrong", "delivered", "faults"),
    [
        ([1, 2, 3, 4], [], 4, {}),
        ([1, 2, 4], ["lost"], 3, {"lost": 1}),
        ([1, 2, 3], [], 3, {"lost": 1}),
        ([1, 2, 2, 3, 4], ["repeated"], 4, {"repeated": 1}),
        ([1, 3, 2, 4], ["lost", "out of order"], 4, {"out of order": 1}),  # of another channel
        ([1, 3, 4, 2], ["lost", "out of order"], 4, {"out of order": 1}),  # of the same
        ([3, 4, 3, 4], ["lost", "lost", "repeated", "repeated"], 2, {"lost": 2, "repeated": 2}),
        ([], [], 0, {"lost": 4}),
    ],
)
def test_what_is_wrong_is_named(
    log: Log, heard: list[int], wrong: list[str], delivered: int, faults: dict[str, int]
) -> None:
    """
    Lost, repeated, out of order over all channels: each once.
    """
    log.publish(0, 1, 0, 1)
    assert log.hear(*heard) == wrong
    assert log.checker.is_waiting() is (4 not in heard)

    assert judged(log) == (delivered, 0, faults)


def test_only_what_is_owed_is_missed() -> None:
    """
    What came before its first position is not, also if that became known later;
    nor what was not accepted, nor what is of other channels.
    """
    log = Log()
    log.publish(0, 0, 1)
    late = Checker([0, 2], log.published)
    assert not late.started
    assert (late.is_waiting(), late.close()) == (False, [])
    late = Checker([0, 2], log.published)
    late.advance(at(5))
    log.publish(0)  # it is at 4: its publisher hears of that after the reader heard of 5
    log.head = at(5)
    log.publish(0, 1)
    log.published.write(0)
    assert late.count_expected() == 1
    assert late.record(0, 3, at(6)) == []

    assert (late.is_waiting(), late.close(), late.faults.total()) == (False, [], 0)


def test_what_was_published_before_its_publisher_knew_is_owed(log: Log) -> None:
    """
    A reader that begins behind offset 1 is owed 2, even if that was accepted
    before the reader told us where it is.
    """
    log.publish(0, 0, 0)
    late = Checker([0], log.published)
    late.advance(at(1))

    assert late.close() == [(Fault.LOST, 0, 1), (Fault.LOST, 0, 2)]


def test_a_channel_that_nobody_asked_for_is_a_fault(log: Log) -> None:
    """
    A message at another position than in its publisher's answer is a fault, too.
    """
    log.publish(2, 0)
    assert log.hear(1) == ["of a channel not asked for"]
    assert log.checker.record(0, 0, at(3)) == [(Fault.MISPLACED, 0, 0)]


def test_what_a_gap_tells_of_is_no_fault(log: Log) -> None:
    """
    From where the reader was up to where the gap says; nothing further.
    """
    log.publish(0, 1, 0, 1, 0, 1)
    log.hear(1)
    log.checker.gap(at(3))
    assert log.hear(5, 6) == ["lost"]

    assert judged(log) == (3, 2, {"lost": 1})


def test_a_gap_does_not_excuse_what_was_passed_before(log: Log) -> None:
    """
    A subscriber at 4 without message 2 has lost it, also if a gap follows.
    """
    log.publish(0, 1, 0, 0, 1, 1)
    assert log.hear(1, 3, 4) == ["lost"]
    log.checker.gap(at(5))
    assert log.hear(6) == []

    assert judged(log) == (4, 1, {"lost": 1})


def test_a_gap_may_be_the_last_that_is_heard(log: Log) -> None:
    """
    Nothing is waited for in vain.
    """
    log.publish(0, 1, 0)
    log.checker.gap(at(2))
    log.checker.gap(at(3))  # cut off right behind it, it hears of it again
    assert not log.checker.is_waiting()

    assert judged(log) == (0, 3, {})


def test_a_new_log_excuses_the_old_one_behind_a_gap(log: Log) -> None:
    """
    The gap excuses messages until then, and none that follow; without a gap they are lost.
    """
    log.publish(0, 1, 0)
    log.hear(1)
    silent = Checker([0, 1], log.published)
    silent.advance(at(1))
    for checker in (log.checker, silent):
        if checker is log.checker:
            checker.gap(at(0, "f"))
        checker.advance(at(0, "f"))
    log.head = at(0, "f")
    log.publish(0, 1)
    assert log.hear(2, epoch="f") == []
    assert judged(log) == (2, 2, {"lost": 1})
    assert [number for _, _, number in silent.close()] == [1, 2, 0, 1]


def test_a_log_that_begins_anew_may_have_forgotten_keys(log: Log) -> None:
    """
    A message that was published twice for that is counted apart, if a gap told of
    the new log; else it is a repeat.
    """
    log.publish(0)
    log.hear(1)
    silent = Checker([0], log.published)
    silent.advance(at(0))
    silent.record(0, 0, at(1))
    log.checker.gap(at(0, "f"))

    assert log.checker.record(0, 0, at(1, "f")) == []
    assert log.checker.republished == 1
    assert silent.record(0, 0, at(1, "f")) == [(Fault.REPEATED, 0, 0)]


@given(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=30), st.data())
def test_every_loss_is_found(channels: list[int], data: st.DataObject) -> None:
    """
    Whatever is left out of a log, as much is lost; nothing else is wrong.
    """
    log = Log()
    log.publish(*channels)
    heard = data.draw(st.sets(st.sampled_from(range(1, len(channels) + 1))))
    log.hear(*sorted(heard))
    lost = len(channels) - len(heard)

    assert judged(log) == (len(heard), 0, {"lost": lost} if lost else {})


def test_messages_are_known_by_their_text() -> None:
    """
    Those of this run alone, and only those that were written.
    """
    published = Published(["a", "b"], 40, "77")
    number = published.write(1)
    text = published.text(1, number)
    assert len(text) == 40
    assert published.find(text) == (1, 0)
    for other in (text + "\n", text.replace("77", "78"), published.text(1, 1), "cut-77-9-0-", ""):
        assert published.find(other) is None


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing more is written while readers have too much to catch up with.
    """
    monkeypatch.setattr(published_module, "MAX_MESSAGES", 3)
    log = Log()
    log.publish(0, 0, 0)
    assert not log.published.has_room()
    log.hear(1, 2)
    log.published.forget(0, log.checker.next_number(0))
    assert log.published.has_room()
    assert (log.published.accepted(0), log.published.first(0)) == (3, 2)

    assert judged(log) == (2, 0, {"lost": 1})
