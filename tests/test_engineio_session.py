"""
Who pings whom, and whom a node remembers.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions import engineio_sessions
from rt_twisted.actions.engineio_heart import Heart, Pulse
from rt_twisted.actions.engineio_sessions import Left, Sessions
from rt_twisted.house import SocketioLimits

LIMITS = SocketioLimits(ping_interval=25, ping_timeout=20)


def test_revision_4_is_pinged() -> None:
    """
    Every interval; who does not answer in time is gone.
    """
    heart = Heart(4, LIMITS, 0.0)

    assert heart.look(24.9) is Pulse.NOTHING
    assert heart.look(25.0) is Pulse.PING
    assert heart.look(44.9) is Pulse.NOTHING
    heart.heard(44.9, beat=True)
    assert heart.look(69.8) is Pulse.NOTHING
    assert heart.look(69.9) is Pulse.PING
    heart.heard(80.0, beat=False)  # it lives, though it has not answered
    assert heart.look(99.9) is Pulse.NOTHING
    assert heart.look(100.0) is Pulse.GONE


def test_revision_3_pings() -> None:
    """
    Interval and timeout after the last word it is gone.
    """
    heart = Heart(3, LIMITS, 0.0)

    heart.heard(30.0, beat=True)
    assert heart.look(74.9) is Pulse.NOTHING
    assert heart.look(75.0) is Pulse.GONE


class Due:
    """
    A session that counts how often it is looked at.
    """

    def __init__(self, sid: str, due: float) -> None:
        self.sid = sid
        self.due = due
        self.looks: list[float] = []
        self.closed: list[str] = []

    def look(self, now: float) -> None:
        self.looks.append(now)
        self.due = now + 2

    def close(self, why: str, cause: Any) -> None:
        self.closed.append(why)


def test_one_look_a_second() -> None:
    """
    At those that are due, while there are any; no timer is left afterwards.
    """
    clock = Clock()
    sessions = Sessions(clock)
    one, two = Due("1", 3.0), Due("2", 99.0)
    for session in (one, two):
        sessions.add(session)  # type: ignore[arg-type]  # as much of one as is looked at
    clock.pump([1.0] * 6)

    assert (one.looks, two.looks) == ([3.0, 5.0], [])
    for session in (one, two):
        sessions.forget(session)  # type: ignore[arg-type]
    assert clock.getDelayedCalls() == []
    assert len(sessions) == 0


def test_ids_name_their_node() -> None:
    """
    And cannot be guessed from one another.
    """
    sessions = Sessions(Clock())
    ids = {sessions.new_id() for _ in range(1000)}

    assert len(ids) == 1000
    assert {sid.partition("-")[0] for sid in ids} == {sessions.node}
    assert min(map(len, ids)) >= 30


def test_who_comes_back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Is known once, until it is too late; the oldest are forgotten first.
    """
    monkeypatch.setattr(engineio_sessions, "MAX_LEFT", 3)
    clock = Clock()
    sessions = Sessions(clock)
    me: Any = Due("me", 0.0)

    def left(name: str) -> Left:
        return Left(name, "/", ("news",), {}, clock.seconds() + 120)

    for name in "abcd":
        sessions.keep(name, left(name))
    assert sessions.take_back("a", me) is None
    assert sessions.take_back("b", me) == left("b")
    assert sessions.take_back("b", me) is None
    clock.advance(120)
    assert sessions.take_back("c", me) is None


def test_who_comes_back_before_it_is_missed() -> None:
    """
    Its old session ends.
    """
    sessions = Sessions(Clock())
    old, new = Due("old", 0.0), Due("new", 0.0)
    sessions.here("key", old)  # type: ignore[arg-type]

    sessions.take_back("key", old)  # type: ignore[arg-type]
    assert old.closed == []
    sessions.take_back("key", new)  # type: ignore[arg-type]
    assert old.closed == ["transport close"]
