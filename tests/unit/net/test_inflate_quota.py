"""
Inflating of all clients together is bounded in each turn of the reactor.
"""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rt_twisted.net.inflate_quota import InflateQuota
from tests.turns import run_turn


class Inflater:
    """
    A client with pieces of input; *turns* collects who inflated in which turn.
    """

    def __init__(self, quota: InflateQuota, name: str, pieces: int, done: list[str]) -> None:
        self._quota = quota
        self._name = name
        self._left = pieces
        self._done = done

    def inflate(self) -> None:
        while self._left:
            if self._quota.left <= 0:
                self._quota.wait(self.inflate)
                return
            self._left -= 1
            self._quota.spend(10)
            self._done.append(self._name)


def test_a_turn_has_one_quota_for_all() -> None:
    """
    Clients above the quota continue in later turns, in order, and none starves.
    """
    clock, done = Clock(), list[str]()
    quota = InflateQuota(clock, 20)
    for name in "abc":
        Inflater(quota, name, 3, done).inflate()
    turns = ["".join(done)]
    while clock.getDelayedCalls():
        before = len(done)
        run_turn(clock)
        turns.append("".join(done[before:]))

    assert turns == ["aa", "ab", "cc", "bb", "c"]


def test_what_is_left_needs_no_turn() -> None:
    """
    Nothing is scheduled while the quota is not spent, and while nobody waits.
    """
    clock, done = Clock(), list[str]()
    quota = InflateQuota(clock, 20)
    Inflater(quota, "a", 2, done).inflate()
    assert not clock.getDelayedCalls()

    Inflater(quota, "b", 1, done).inflate()
    clock.advance(0)
    assert done == ["a", "a", "b"]
    assert not clock.getDelayedCalls()


def test_one_that_fails_does_not_stop_the_others(clean_reactor: list[Failure]) -> None:
    """
    An exception of a client is logged, and the next one goes on.
    """
    clock, done = Clock(), list[str]()
    quota = InflateQuota(clock)
    quota.wait(lambda: 1 / 0)
    quota.wait(lambda: done.append("b"))
    clock.advance(0)

    assert done == ["b"]
    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()
