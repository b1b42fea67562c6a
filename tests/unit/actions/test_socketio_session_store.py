"""
Whom a node remembers when it has left.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.socketio import session_store as module
from rt_twisted.actions.socketio.session_store import SavedSession, SessionStore


class Session:
    """
    As much of one as is ended.
    """

    def __init__(self) -> None:
        self.closed: list[str] = []

    def close(self, why: str, cause: Any) -> None:
        self.closed.append(why)


def test_who_comes_back_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Is known until it is let in, or until it is too late; the oldest are forgotten first.
    """
    monkeypatch.setattr(module, "MAX_SAVED", 3)
    clock = Clock()
    recovery = SessionStore(clock)
    me: Any = Session()

    def left(name: str) -> SavedSession:
        return SavedSession(name, "/", ("news",), {}, clock.seconds() + 120)

    for name in "abcd":
        recovery.persist(name, left(name))
    assert recovery.find("a", me) is None
    assert recovery.find("b", me) == recovery.find("b", me) == left("b")
    recovery.drop("b")
    assert recovery.find("b", me) is None
    clock.advance(120)
    assert recovery.find("c", me) is None


def test_what_those_who_left_heard_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    However few they are; with the oldest go their channels.
    """
    monkeypatch.setattr(module, "MAX_SAVED_CHANNELS", 10)
    recovery = SessionStore(Clock())
    me: Any = Session()
    few, many = ("news",), tuple("abcde")

    for key, names in (("1", many), ("2", many), ("3", few), ("4", few), ("4", many)):
        recovery.persist(key, SavedSession(key, "/", names, {}, 120.0))
    assert [recovery.find(key, me) is not None for key in "1234"] == [False, False, True, True]
    for key in "567":
        recovery.persist(key, SavedSession(key, "/", many, {}, 120.0))
    assert [recovery.find(key, me) is not None for key in "567"] == [False, True, True]


class Data(dict[str, Any]):
    """
    Of an application; can be watched.
    """


def test_who_does_not_come_back_is_forgotten() -> None:
    """
    With all that was kept for it.
    """
    clock = Clock()
    recovery = SessionStore(clock)
    data = Data()
    watched = ref(data)
    recovery.persist("key", SavedSession("me", "/", (), data, 60.0))
    del data

    clock.pump([1.0] * 59)
    assert watched() is not None
    clock.pump([1.0] * 2)
    assert watched() is None


def test_who_comes_back_before_it_is_missed() -> None:
    """
    Its old session ends.
    """
    recovery = SessionStore(Clock())
    old, new = Session(), Session()
    recovery.here("key", old)  # type: ignore[arg-type]

    recovery.find("key", old)  # type: ignore[arg-type]
    assert old.closed == []
    recovery.find("key", new)  # type: ignore[arg-type]
    assert old.closed == ["transport close"]
