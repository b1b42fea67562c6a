"""
The line in front of the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.hub.admission import BURST, LONGEST, TICK, Admission
from rt_twisted.model.errors import HttpError


@dataclass(eq=False)
class Client:
    """
    A request, as far as the line looks at it.
    """

    answered: bool = False


class Door:
    """
    A line, and who has come through.

    Args:
        rate: see `Admission`.
        most: the same.
    """

    def __init__(self, rate: int, most: int) -> None:
        self.clock = Clock()
        self.admission = Admission(self.clock, rate, most)
        self.inside: list[Client] = []
        self.refused: list[HttpError] = []

    def come(self, count: int) -> list[Client]:
        """
        So many ask at once.
        """
        clients = [Client() for _ in range(count)]
        for client in clients:
            self._ask(client)
        return clients

    def _ask(self, client: Client) -> None:
        exchange: Any = client
        try:
            turn = self.admission.turn(exchange)
        except HttpError as refusal:
            self.refused.append(refusal)
            return
        if turn is None:
            self.inside.append(client)
            return
        turn.addCallbacks(lambda _: self.inside.append(client), self._send_away)

    def _send_away(self, failure: Any) -> None:
        self.refused.append(failure.value)

    def wait(self, seconds: float) -> None:
        """
        Let time pass, a little at once.
        """
        self.clock.pump([TICK / 5] * round(seconds / TICK * 5))


def test_without_a_rate_everybody_comes_in() -> None:
    """
    0 is no limit, whatever may wait.
    """
    door = Door(0, 0)
    door.come(1000)

    assert len(door.inside) == 1000
    assert door.clock.getDelayedCalls() == []


def test_so_many_a_second_in_order() -> None:
    """
    A tenth of a second's worth at once, the rest at the rate, first come first;
    one timer for all, none when nobody waits.
    """
    door = Door(100, 1000)
    clients = door.come(300)
    assert len(door.inside) == 100 * BURST
    assert door.admission.waiting == 290
    assert len(door.clock.getDelayedCalls()) == 1

    door.wait(1)
    assert 105 <= len(door.inside) <= 115
    door.wait(2)
    assert door.inside == clients
    assert door.clock.getDelayedCalls() == []


def test_a_full_line_sends_away_each_for_another_moment() -> None:
    """
    503 with Retry-After: as many for each second as the rate lets in, after those
    who wait already.
    """
    door = Door(10, 20)
    door.come(71)
    assert len(door.inside) == 1
    moments = [refusal.retry for refusal in door.refused]
    assert all(refusal.status == 503 for refusal in door.refused)
    assert moments == sorted(set(moments))
    assert moments[0] == pytest.approx(2.1)
    assert moments[-1] == pytest.approx(7)
    assert door.refused[0].headers == (("Retry-After", "3"),)

    door.come(100_000 // 10)
    assert max(refusal.retry for refusal in door.refused) <= LONGEST


def test_who_hangs_up_is_forgotten() -> None:
    """
    It takes nobody's turn, and nobody's place in a full line.
    """
    door = Door(10, 20)
    clients = door.come(21)
    for client in clients[1:11]:
        client.answered = True
    door.wait(TICK)
    door.come(10)
    assert door.refused == []
    door.wait(2.1)

    assert len(door.inside) == 21
    assert not any(client in door.inside for client in clients[1:11])


def test_other_limits_hold_at_once() -> None:
    """
    A lower rate, none at all: who waits is let in by what holds now.
    """
    door = Door(10, 1000)
    door.come(101)
    door.admission.reconfigure(50, 1000)
    door.wait(1)
    assert 46 <= len(door.inside) <= 57
    door.admission.reconfigure(0, 0)
    door.come(1)
    door.wait(TICK)

    assert len(door.inside) == 102


def test_a_stop_sends_everybody_away() -> None:
    """
    Each with another time; who has hung up hears nothing.
    """
    door = Door(1, 10)
    door.come(5)[1].answered = True
    door.admission.stop(2)

    moments = [refusal.retry for refusal in door.refused]
    assert len(set(moments)) == 3
    assert all(2 <= moment <= 4 for moment in moments)
    assert door.clock.getDelayedCalls() == []


def test_each_that_is_sent_away_counts_once() -> None:
    """
    The counter is what an operator sees of a full line.
    """
    door = Door(1, 1)
    door.come(50)

    assert door.admission.sent_away == len(door.refused) > 0
