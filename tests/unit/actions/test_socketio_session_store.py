"""
Tests of what is saved of clients that may recover.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.socketio import session_store as module
from rt_twisted.actions.socketio.session_store import SavedSession, SessionStore
from rt_twisted.hub.subscriber import DisconnectReason


class ClosedSession:
    """
    A session that records why it is closed.
    """

    def __init__(self) -> None:
        self.closed: list[str] = []

    def close(self, why: str, *, cause: DisconnectReason) -> None:
        self.closed.append(why)


def test_a_client_can_be_restored_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A saved session also ends when its key is discarded; above the limit the oldest are removed.
    """
    monkeypatch.setattr(module, "MAX_SAVED", 3)
    clock = Clock()
    store = SessionStore(clock)
    session = ClosedSession()

    def saved(name: str) -> SavedSession:
        return SavedSession(name, "/", ("news",), {}, clock.seconds() + 120)

    for name in "abcd":
        store.persist(name, saved(name))
    assert store.restore("a", session) is None
    assert store.restore("b", session) == store.restore("b", session) == saved("b")
    store.discard("b")
    assert store.restore("b", session) is None
    clock.advance(120)
    assert store.restore("c", session) is None


def test_the_channels_of_saved_clients_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The limit holds for all clients together, however few they are.
    """
    monkeypatch.setattr(module, "MAX_SAVED_CHANNELS", 10)
    store = SessionStore(Clock())
    session = ClosedSession()
    few, many = ("news",), tuple("abcde")

    def found(keys: str) -> list[bool]:
        return [store.restore(key, session) is not None for key in keys]

    for key, names in (("1", many), ("2", many), ("3", few), ("4", few), ("4", many)):
        store.persist(key, SavedSession(key, "/", names, {}, 120.0))
    assert found("1234") == [False, False, True, True]
    for key in "567":
        store.persist(key, SavedSession(key, "/", many, {}, 120.0))
    assert found("567") == [False, True, True]


class WatchedData(dict[str, Any]):
    """
    Data of an application that can be referenced weakly.
    """


def test_expired_clients_are_removed() -> None:
    """
    The data of their application is freed.
    """
    clock = Clock()
    store = SessionStore(clock)
    data = WatchedData()
    watched = ref(data)
    store.persist("key", SavedSession("me", "/", (), data, 60.0))
    del data

    clock.pump([1.0] * 59)
    assert watched() is not None
    clock.pump([1.0] * 2)
    assert watched() is None


def test_restore_closes_the_old_session_of_a_key() -> None:
    """
    A client may reconnect before the loss of its old connection is noticed.
    """
    store = SessionStore(Clock())
    old, new = ClosedSession(), ClosedSession()
    store.bind("key", old)

    store.restore("key", old)
    assert old.closed == []
    store.restore("key", new)
    assert old.closed == ["transport close"]
