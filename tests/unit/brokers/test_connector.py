"""
The connection loop of brokers with a server.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rt_twisted.brokers.connector import Reconnector, retry_policy


class Attempts:
    """
    Records when connections are tried; the test ends each.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.times: list[float] = []
        self.connected: list[Deferred[bool]] = []
        self.failed: list[int] = []
        self.reconnector = Reconnector(self.clock, self._connect, self._delay)
        self.reconnector.start()

    async def _connect(self) -> bool:
        self.times.append(self.clock.seconds())
        self.connected.append(Deferred())
        return await self.connected[-1]

    def _delay(self, attempts: int) -> float:
        self.failed.append(attempts)
        return attempts + 1.0


def test_attempts_in_a_row_are_counted() -> None:
    """
    A connection that had been ready begins the count again.
    """
    attempts = Attempts()
    for ready in (False, False, True, False):
        attempts.connected[-1].callback(ready)
        attempts.clock.advance(10)

    assert attempts.failed == [1, 2, 0, 1]
    assert attempts.times == [0, 10, 20, 30, 40]


def test_stopping_ends_the_pause_and_the_attempt() -> None:
    """
    Nothing is tried afterwards, and no delayed call is left.
    """
    pausing = Attempts()
    pausing.connected[-1].callback(False)
    pausing.reconnector.stop()
    connecting = Attempts()
    connecting.reconnector.stop()

    for attempts in (pausing, connecting):
        attempts.clock.advance(100)
        assert len(attempts.times) == 1
        assert not attempts.clock.getDelayedCalls()


def test_an_unexpected_error_is_logged(clean_reactor: list[object]) -> None:
    """
    The loop ends with a failure in the log.
    """
    attempts = Attempts()
    attempts.connected[-1].errback(KeyError("x"))

    assert len(clean_reactor) == 1
    clean_reactor.clear()


def test_the_pause_grows_up_to_its_bound() -> None:
    """
    Even after a million attempts; the half of it is random.
    """
    delay = retry_policy(0.1, 5.0, 2.0)
    for attempts, most in ((0, 0.1), (1, 0.2), (3, 0.8), (10, 5.0), (10**6, 5.0)):
        pauses = [delay(attempts) for _ in range(50)]
        assert most / 2 <= min(pauses) < max(pauses) <= most
