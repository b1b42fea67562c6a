"""
The reconnect loop of brokers with a server: connect, wait for the end, back off, connect again.

Twisted's ClientService would be the usual way. It counts a connection as a success before
it is prepared, so a refused login would not slow it down; and a node has two connections
that begin and end together.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

_log = Logger()


def retry_policy(first: float, longest: float, factor: float) -> Callable[[int], float]:
    """
    Return a function from the number of failed attempts to the seconds before the next.

    Args:
        first: seconds after a connection that had been ready.
        longest: seconds after many attempts.
        factor: by which the pause grows with each attempt.
    """
    policy = backoffPolicy(first, longest, factor, jitter=lambda: 0.0)
    return lambda attempts: spread(policy(attempts))


def spread(seconds: float) -> float:
    """
    Return half of *seconds* to all of it, at random: nodes that lost their server
    together do not come back together.
    """
    return seconds * random.uniform(0.5, 1.0)


class Reconnector:
    """
    Connects again and again until it is stopped.

    Args:
        reactor: the reactor.
        connect: connects, and returns when the connection is over: True if it had been
            ready. It handles all errors but cancellation.
        delay: returns the seconds before the next attempt, from the number of attempts
            that have failed in a row.
    """

    def __init__(
        self,
        reactor: Any,
        connect: Callable[[], Awaitable[bool]],
        delay: Callable[[int], float],
    ) -> None:
        self._reactor = reactor
        self._connect = connect
        self._delay = delay
        self._running: Deferred[None] | None = None
        self.stopped = True

    def start(self) -> None:
        """
        Begin to connect.
        """
        self.stopped = False
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._on_error)

    def stop(self) -> None:
        """
        Cancel the attempt or the pause; a connection that is ready is left to the caller.
        """
        self.stopped = True
        if self._running is not None:
            self._running.cancel()

    async def _run(self) -> None:
        attempts = 0
        while True:
            attempts = 0 if await self._connect() else attempts + 1
            if self.stopped:
                return
            await deferLater(self._reactor, self._delay(attempts))

    def _on_error(self, failure: Any) -> None:
        # A name that is being looked up does not end with CancelledError.
        if not self.stopped and not failure.check(CancelledError):
            _log.failure("the broker's connection loop has ended", failure)
