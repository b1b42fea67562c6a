"""
The rate limit for new subscribers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from rt_twisted.hub.admission import BURST, MAX_RETRY, TICK, Admission
from rt_twisted.model.errors import HttpError


@dataclass(eq=False)
class Client:
    """
    A request, as far as the queue uses it.
    """

    closed: bool = False

    def has_left(self) -> bool:
        """
        Return whether the client is gone.
        """
        return self.closed


class Arrivals:
    """
    An admission queue, and the clients that were admitted and rejected.

    Args:
        rate: see `Admission`.
        queue_limit: the same.
    """

    def __init__(self, rate: int, queue_limit: int) -> None:
        self.clock = Clock()
        self.admission = Admission(self.clock, rate, queue_limit)
        self.admitted: list[Client] = []
        self.rejected: list[HttpError] = []

    def arrive(self, count: int) -> list[Client]:
        """
        Request slots for *count* clients at once.
        """
        clients = [Client() for _ in range(count)]
        for client in clients:
            self._request(client)
        return clients

    def _request(self, client: Client) -> None:
        try:
            slot = self.admission.request_slot(client.has_left)
        except HttpError as error:
            self.rejected.append(error)
            return
        if slot is None:
            self.admitted.append(client)
            return
        slot.addCallbacks(lambda _: self.admitted.append(client), self._on_rejected)

    def _on_rejected(self, failure: Any) -> None:
        self.rejected.append(failure.value)

    def wait(self, seconds: float) -> None:
        """
        Let time pass in small steps.
        """
        self.clock.pump([TICK / 5] * round(seconds / TICK * 5))


def test_without_a_rate_all_are_admitted() -> None:
    """
    A rate of 0 is no limit, whatever the limit of the queue is.
    """
    arrivals = Arrivals(0, 0)
    arrivals.arrive(1000)

    assert len(arrivals.admitted) == 1000
    assert arrivals.clock.getDelayedCalls() == []


def test_clients_are_admitted_at_the_rate_and_in_order() -> None:
    """
    A tenth of a second's worth is admitted at once, the rest at the rate, first come
    first served. One timer serves all; there is none when the queue is empty.
    """
    arrivals = Arrivals(100, 1000)
    clients = arrivals.arrive(300)
    assert len(arrivals.admitted) == 100 * BURST
    assert arrivals.admission.queued == 290
    assert len(arrivals.clock.getDelayedCalls()) == 1

    arrivals.wait(1)
    assert 105 <= len(arrivals.admitted) <= 115
    arrivals.wait(2)
    assert arrivals.admitted == clients
    assert arrivals.clock.getDelayedCalls() == []


def test_each_queue_is_logged_with_its_own_figures() -> None:
    """
    When the queue is empty, one line has how many it admitted and how many were rejected.
    """
    arrivals = Arrivals(10, 5)
    with capturedLogs() as captured:
        for count in (8, 4):
            arrivals.arrive(count)
            arrivals.wait(2)

    lines = [formatEvent(event).partition(": ")[2] for event in captured]
    assert lines == [
        "5 admitted, 2 rejected with Retry-After",
        "3 admitted, 0 rejected with Retry-After",
    ]


def test_a_full_queue_rejects_each_client_with_another_retry() -> None:
    """
    The response is 503 with Retry-After: as many clients for each second as the rate
    admits, after those that are queued already.
    """
    arrivals = Arrivals(10, 20)
    arrivals.arrive(71)
    assert len(arrivals.admitted) == 1
    retries = [error.retry for error in arrivals.rejected]
    assert all(error.status == 503 for error in arrivals.rejected)
    assert retries == sorted(set(retries))
    assert retries[0] == pytest.approx(2.1)
    assert retries[-1] == pytest.approx(7)
    assert arrivals.rejected[0].headers == (("Retry-After", "3"),)

    arrivals.arrive(100_000 // 10)
    assert max(error.retry for error in arrivals.rejected) <= MAX_RETRY


def test_a_client_that_has_left_takes_no_slot() -> None:
    """
    A client that has left takes no slot, and no place in a full queue. Its request
    is refused: one that has closed its sending side only can still read that.
    """
    arrivals = Arrivals(10, 20)
    clients = arrivals.arrive(21)
    for client in clients[1:11]:
        client.closed = True
    arrivals.wait(TICK)
    arrivals.arrive(10)
    assert [error.status for error in arrivals.rejected] == [503] * 10
    assert arrivals.admission.rejected == 0
    arrivals.wait(2.1)

    assert len(arrivals.admitted) == 21
    assert not any(client in arrivals.admitted for client in clients[1:11])


def test_other_limits_apply_at_once() -> None:
    """
    Queued clients are admitted by the new rate, also when there is none any more.
    """
    arrivals = Arrivals(10, 1000)
    arrivals.arrive(101)
    arrivals.admission.reconfigure(50, 1000)
    arrivals.wait(1)
    assert 46 <= len(arrivals.admitted) <= 57
    arrivals.admission.reconfigure(0, 0)
    arrivals.arrive(1)
    arrivals.wait(TICK)

    assert len(arrivals.admitted) == 102


def test_a_stop_rejects_all_queued_clients() -> None:
    """
    Each gets another Retry-After.
    """
    arrivals = Arrivals(1, 10)
    arrivals.arrive(4)
    arrivals.admission.stop(2)

    retries = [error.retry for error in arrivals.rejected]
    assert len(set(retries)) == 3
    assert all(2 <= retry <= 4 for retry in retries)
    assert arrivals.clock.getDelayedCalls() == []


def test_each_rejected_client_counts_once() -> None:
    """
    The counter is what an operator sees of a full queue.
    """
    arrivals = Arrivals(1, 1)
    arrivals.arrive(50)

    assert arrivals.admission.rejected == len(arrivals.rejected) > 0
