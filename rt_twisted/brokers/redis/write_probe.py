"""
A probe that finds out whether redis accepts writes while it is reachable: its memory may be
full, or it may be unable to write its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError
from rt_twisted.brokers.redis.publisher import Call
from rt_twisted.brokers.redis.scripts import PUBLISH

QUIET = 5.0  # seconds without a rejected write until redis counts as accepting again


class WriteProbe:
    """
    Probes with a write that stores nothing: there may be no publisher for long, and
    monitoring needs the state all the same.

    Args:
        clock: the reactor.
        call: runs a script; its caller passes the outcome on to `on_error` and `on_success`.
        bounds: returns the bounds of the channels' history, as scripts take them.
        on_state: called with the state in words when it changes.
    """

    def __init__(
        self,
        clock: Any,
        call: Call,
        bounds: Callable[[], tuple[int, ...]],
        on_state: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._call = call
        self._bounds = bounds
        self._on_state = on_state
        self._refused_at = 0.0  # time of the last rejected write; 0 for none
        self._probed = False

    @property
    def refuses(self) -> bool:
        """
        Whether redis rejects writes.
        """
        return self._refused_at > 0

    def reset(self) -> None:
        """
        Forget the state, on a new connection.
        """
        self._refused_at, self._probed = 0.0, False

    def probe(self) -> None:
        """
        Try a write: once on each connection, and again as long as writes are rejected.
        """
        if not self._probed or self.refuses:
            self._probed = True
            # No message; it needs memory as others do.
            done = self._call(PUBLISH, *self._bounds(), 0)
            done.addErrback(lambda failure: failure.trap(RedisUnavailable, ResponseError))

    def on_error(self, reason: str) -> None:
        """
        Enter the rejecting state: redis has answered a write with an error.
        """
        self._refused_at = self._clock.seconds()
        self._on_state(f"rejects writes: {reason}")

    def on_success(self) -> None:
        """
        Leave the rejecting state after QUIET seconds: a write has succeeded.
        """
        # Not with each message, if redis accepts some and rejects others.
        if self.refuses and self._clock.seconds() - self._refused_at > QUIET:
            self._refused_at = 0.0
            self._on_state("is connected")
