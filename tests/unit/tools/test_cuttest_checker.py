"""
The cut test's checker: expected deliveries, and faults.
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
    A server's log, and a subscriber of channels 0 and 1 whose first position is offset 0.
    """

    def __init__(self) -> None:
        self.published = Published(["a", "b", "c"], 60, "77")
        self.checker = Checker([0, 1], self.published)
        self.head = at(0)
        self.checker.advance(self.head)

    def publish(self, *channels: int) -> None:
        """
        Publish the next message of each channel.
        """
        for channel in channels:
            self.head = Position(self.head.epoch, self.head.offset + 1)
            self.published.write(channel)
            self.published.accept(channel, self.head)

    def receive(self, *offsets: int, epoch: str = "e") -> list[str]:
        """
        Receive the messages at *offsets*.

        Returns:
            the faults.
        """
        found_faults = []
        for offset in offsets:
            channel, number = self.find(at(offset, epoch))
            found_faults += [
                fault.value for fault, *_ in self.checker.record(channel, number, at(offset, epoch))
            ]
        return found_faults

    def find(self, position: Position) -> tuple[int, int]:
        """
        Return channel and number of the message at *position*.
        """
        for channel in range(3):
            for number in range(self.published.accepted(channel)):
                if self.published.position(channel, number) == position:
                    return channel, number
        raise AssertionError(f"nothing is at {position}")


@pytest.fixture
def log() -> Log:
    return Log()


def results(log: Log) -> tuple[int, int, dict[str, int]]:
    """
    Close the checker, and return deliveries, losses that gaps reported, and faults.
    """
    log.checker.close()
    return (
        log.checker.delivered,
        log.checker.reported_lost,
        {fault.value: count for fault, count in log.checker.faults.items() if count},
    )


@pytest.mark.parametrize(
    ("received", "found_faults", "delivered", "faults"),
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
def test_faults_are_classified(
    log: Log, received: list[int], found_faults: list[str], delivered: int, faults: dict[str, int]
) -> None:
    """
    Each loss, repetition and change of order over all channels is one fault.
    """
    log.publish(0, 1, 0, 1)
    assert log.receive(*received) == found_faults
    assert log.checker.is_waiting() is (4 not in received)

    assert results(log) == (delivered, 0, faults)


def test_only_expected_messages_count_as_lost() -> None:
    """
    Messages before the first position, messages that were not accepted, and those of other
    channels are not expected, also if their positions are known only later.
    """
    log = Log()
    log.publish(0, 0, 1)
    late = Checker([0, 2], log.published)
    assert not late.started
    assert (late.is_waiting(), late.close()) == (False, [])
    late = Checker([0, 2], log.published)
    late.advance(at(5))
    log.publish(0)  # at 4: its publisher gets the response after the subscriber received 5
    log.head = at(5)
    log.publish(0, 1)
    log.published.write(0)
    assert late.count_expected() == 1
    assert late.record(0, 3, at(6)) == []

    assert (late.is_waiting(), late.close(), late.faults.total()) == (False, [], 0)


def test_messages_after_the_first_position_are_expected(log: Log) -> None:
    """
    A subscriber whose first position is 1 expects offset 2, even if that was accepted before
    the first position was known.
    """
    log.publish(0, 0, 0)
    late = Checker([0], log.published)
    late.advance(at(1))

    assert late.close() == [(Fault.LOST, 0, 1), (Fault.LOST, 0, 2)]


def test_a_message_of_another_channel_is_a_fault(log: Log) -> None:
    """
    A message at another position than in its publisher's answer is a fault, too.
    """
    log.publish(2, 0)
    assert log.receive(1) == ["of a channel not asked for"]
    assert log.checker.record(0, 0, at(3)) == [(Fault.MISPLACED, 0, 0)]


def test_losses_that_a_gap_reports_are_no_faults(log: Log) -> None:
    """
    A gap excuses losses from the subscriber's position to the position of the gap, no others.
    """
    log.publish(0, 1, 0, 1, 0, 1)
    log.receive(1)
    log.checker.gap(at(3))
    assert log.receive(5, 6) == ["lost"]

    assert results(log) == (3, 2, {"lost": 1})


def test_a_gap_does_not_excuse_earlier_losses(log: Log) -> None:
    """
    A subscriber at 4 without message 2 has lost it, also if a gap follows.
    """
    log.publish(0, 1, 0, 0, 1, 1)
    assert log.receive(1, 3, 4) == ["lost"]
    log.checker.gap(at(5))
    assert log.receive(6) == []

    assert results(log) == (4, 1, {"lost": 1})


def test_a_gap_may_be_the_last_event(log: Log) -> None:
    """
    After a gap up to the end of the log the checker waits for no message.
    """
    log.publish(0, 1, 0)
    log.checker.gap(at(2))
    log.checker.gap(at(3))  # repeated, as the connection was cut right after the first one
    assert not log.checker.is_waiting()

    assert results(log) == (0, 3, {})


def test_a_new_log_excuses_the_old_one_behind_a_gap(log: Log) -> None:
    """
    The gap excuses messages until then, and none that follow; without a gap they are lost.
    """
    log.publish(0, 1, 0)
    log.receive(1)
    without_gap = Checker([0, 1], log.published)
    without_gap.advance(at(1))
    for checker in (log.checker, without_gap):
        if checker is log.checker:
            checker.gap(at(0, "f"))
        checker.advance(at(0, "f"))
    log.head = at(0, "f")
    log.publish(0, 1)
    assert log.receive(2, epoch="f") == []
    assert results(log) == (2, 2, {"lost": 1})
    assert [number for _, _, number in without_gap.close()] == [1, 2, 0, 1]


def test_a_new_log_may_have_lost_idempotency_keys(log: Log) -> None:
    """
    A message that is published twice because of a new log is counted separately if a gap
    reported the new log; otherwise it is a repetition.
    """
    log.publish(0)
    log.receive(1)
    without_gap = Checker([0], log.published)
    without_gap.advance(at(0))
    without_gap.record(0, 0, at(1))
    log.checker.gap(at(0, "f"))

    assert log.checker.record(0, 0, at(1, "f")) == []
    assert log.checker.republished == 1
    assert without_gap.record(0, 0, at(1, "f")) == [(Fault.REPEATED, 0, 0)]


@given(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=30), st.data())
def test_every_loss_is_found(channels: list[int], data: st.DataObject) -> None:
    """
    Each message that is left out counts as lost, and there is no other fault.
    """
    log = Log()
    log.publish(*channels)
    received = data.draw(st.sets(st.sampled_from(range(1, len(channels) + 1))))
    log.receive(*sorted(received))
    lost = len(channels) - len(received)

    assert results(log) == (len(received), 0, {"lost": lost} if lost else {})


def test_messages_are_found_by_their_text() -> None:
    """
    Only texts that this run has written are found.
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
    No message is written while subscribers have too much to catch up with.
    """
    monkeypatch.setattr(published_module, "MAX_MESSAGES", 3)
    log = Log()
    log.publish(0, 0, 0)
    assert not log.published.has_room()
    log.receive(1, 2)
    log.published.forget(0, log.checker.next_number(0))
    assert log.published.has_room()
    assert (log.published.accepted(0), log.published.first(0)) == (3, 2)

    assert results(log) == (2, 0, {"lost": 1})
