"""
Heartbeats: each subscriber gets one in each interval, whatever the interval was before.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.formats.sse import EventStream
from rt_twisted.hub.heartbeats import Heartbeats
from rt_twisted.model.message import Position

HEAD, LATER = Position("e", 1), Position("e", 2)


class Receiver:
    """
    The part of a subscriber that heartbeats use.
    """

    def __init__(self) -> None:
        self.bucket = -1
        self.channels: tuple[Any, ...] = ("a",)
        self.format = EventStream()
        self.frames: list[bytes] = []

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)


def beating(count: int, seconds: float) -> tuple[Any, list[Any]]:
    heartbeats: Any = Heartbeats(seconds, HEAD)
    receivers = [Receiver() for _ in range(count)]
    for receiver in receivers:
        heartbeats.add(receiver)
    return heartbeats, receivers


def send(heartbeats: Any, times: int, head: Position | None = HEAD) -> None:
    for _ in range(times):
        heartbeats.send(head, (), ())


def test_each_gets_one_in_each_interval() -> None:
    """
    Those of one interval are spread over its seconds.
    """
    heartbeats, receivers = beating(10, 5)
    send(heartbeats, 1)
    assert sum(len(each.frames) for each in receivers) == 2
    send(heartbeats, 4)
    assert [len(each.frames) for each in receivers] == [1] * 10
    send(heartbeats, 5)
    assert [len(each.frames) for each in receivers] == [2] * 10


def test_one_that_has_left_gets_none() -> None:
    """
    A subscriber that has left is in no bucket.
    """
    heartbeats, (first, second) = beating(2, 1)
    heartbeats.discard(first)
    send(heartbeats, 1)

    assert first not in heartbeats
    assert second in heartbeats
    assert [len(each.frames) for each in (first, second)] == [0, 1]
    assert list(heartbeats) == [second]


def test_a_position_that_has_moved_is_sent() -> None:
    """
    A heartbeat has the cursor if the log has advanced since the last one, and is bare otherwise.
    During a flush there is no cursor, and the next heartbeat has it.
    """
    heartbeats, (receiver,) = beating(1, 1)
    format = receiver.format
    send(heartbeats, 1)
    send(heartbeats, 1, None)
    send(heartbeats, 2, LATER)

    bare = format.heartbeat
    assert receiver.frames == [bare, bare, format.cursor(LATER), bare]


def test_another_interval_keeps_all_subscribers() -> None:
    """
    A reload with another interval spreads the same subscribers over it. With the same one nothing
    changes, and 0 ends all heartbeats.
    """
    heartbeats, receivers = beating(6, 3)
    assert heartbeats.reconfigure(3, HEAD) is heartbeats
    faster: Any = heartbeats.reconfigure(2, HEAD)
    assert set(faster) == set(receivers)
    send(faster, 2)
    assert [len(each.frames) for each in receivers] == [1] * 6
    silent: Any = faster.reconfigure(0, HEAD)
    send(silent, 5)

    assert [len(each.frames) for each in receivers] == [1] * 6
    for receiver in receivers:
        silent.discard(receiver)
    assert list(silent) == []
