"""
Whether redis takes messages while it is there: it may be full, or unable to write
its file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from txredisapi import ResponseError

from rt_twisted.brokers.redis.connections import RedisUnavailable
from rt_twisted.brokers.redis.publisher import Call
from rt_twisted.brokers.redis.scripts import PUBLISH

QUIET = 5.0  # seconds without a refusal until all is said to be well again


class WriteProbe:
    """
    Tries, as nobody may publish for long, and those who watch want to know.

    Args:
        clock: the reactor.
        call: runs a script; what comes of it is told to us.
        bounds: of the channels' history, as scripts take them.
        say: is told the state in words.
    """

    def __init__(
        self,
        clock: Any,
        call: Call,
        bounds: Callable[[], tuple[int, int, int]],
        say: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._call = call
        self._bounds = bounds
        self._say = say
        self._refused_at = 0.0  # when it last did; 0 for never
        self._tried = False

    @property
    def refuses(self) -> bool:
        """
        Whether it takes none.
        """
        return self._refused_at > 0

    def begin(self) -> None:
        """
        Redis is there, and nothing else is known.
        """
        self._refused_at, self._tried = 0.0, False

    def look(self) -> None:
        """
        Now and then: once when it is there, then for as long as it refuses.
        """
        if not self._tried or self.refuses:
            self._tried = True
            tried = self._call(PUBLISH, *self._bounds())  # of no message; it writes as others do
            tried.addErrback(lambda failure: failure.trap(RedisUnavailable, ResponseError))

    def refused(self, reason: str) -> None:
        """
        It did, for *reason*.
        """
        self._refused_at = self._clock.seconds()
        self._say(f"refuses: {reason}")

    def took(self) -> None:
        """
        It did not.
        """
        # Not with each message, if it takes some and refuses others.
        if self.refuses and self._clock.seconds() - self._refused_at > QUIET:
            self._refused_at = 0.0
            self._say("is there")
