"""
Clients that are ended because a token was revoked, or its key removed.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rt_twisted.access.grants import Grant
from rt_twisted.hub.grant_holders import BATCHES, GrantHolder, GrantHolders
from rt_twisted.net.slices import SLICE

MANY = 10_000
COST = 0.00005  # seconds that the end of one client takes


class BusyClock(Clock):
    """
    A clock that counts its turns, and how long the longest one was.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.longest = 0.0

    def turn(self, seconds: float = 0.0) -> None:
        """
        Let *seconds* pass, and run what is due.
        """
        self.rightNow += seconds
        begun = self.rightNow
        due = [call for call in self.calls if call.time <= begun]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)
        self.turns += bool(due)
        self.longest = max(self.longest, self.rightNow - begun)


def make_clients(clock: BusyClock, count: int) -> tuple[GrantHolders, list[float]]:
    """
    Return *count* clients, and a list of the times at which they are ended.
    """
    holders, ended = GrantHolders(clock), list[float]()

    def end() -> None:
        clock.rightNow += COST
        ended.append(clock.rightNow)

    for number in range(count):
        client: Any = object()
        holders.add(client, GrantHolder(Grant(f"{number}"), 0.0, end, None))
    return holders, ended


def anyone(grant: Grant) -> bool:
    return True


@pytest.mark.parametrize("spread", [0.0, 10.0])
def test_many_clients_end_without_holding_others(spread: float) -> None:
    """
    10,000 clients of a revoked subject, or of a removed key, end in many turns of the reactor,
    and no turn takes much longer than a slice. With a spread they end evenly over it.
    """
    clock = BusyClock()
    holders, ended = make_clients(clock, MANY)
    assert holders.end_all(anyone, spread) == MANY
    assert len(clock.calls) <= max(1, spread * BATCHES)
    while clock.calls:
        clock.turn(0.001 if not spread else 0.01)
    assert len(ended) == MANY
    assert clock.longest <= 2 * (SLICE + COST)
    assert clock.turns >= MANY * COST / (2 * SLICE)
    if spread:
        halves = [
            sum(time < spread / 2 for time in ended),
            sum(time >= spread / 2 for time in ended),
        ]
        assert min(halves) > MANY / 3


def test_an_end_that_fails_leaves_the_others(clean_reactor: list[Failure]) -> None:
    """
    The error is logged.
    """
    clock = BusyClock()
    holders, ended = make_clients(clock, 3)
    broken: Any = object()
    holders.add(broken, GrantHolder(Grant("x"), 0.0, lambda: 1 / 0, None))
    assert holders.end_all(anyone) == 4
    clock.turn()
    assert len(ended) == 3
    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()


def test_renewed_grants_do_not_end() -> None:
    """
    A client that got another grant before its turn stays.
    """
    clock = BusyClock()
    holders, ended = make_clients(clock, 1)
    [(client, holder)] = holders.items()
    holders.end_all(anyone)
    holders.add(client, GrantHolder(Grant("next"), 0.0, holder.end, None))
    clock.turn()
    assert ended == []
