"""
The turn of a reactor that waits by epoll(7): measured, and with less work for each event.
"""

from __future__ import annotations

import math
import select
from collections.abc import Callable
from time import monotonic
from typing import Any

from twisted.logger import Logger

MAX_EVENTS = 512  # of a turn; Twisted makes room for one of each connection

_log = Logger()


class PollLoop:
    """
    Waits for events and serves them, as Twisted's `EPollReactor.doPoll`, which it replaces.

    Twisted serves each event in a context that names the connection to `log.msg`. Nothing of the
    daemon logs by that, and the context takes 5 us for each event, of 100 for a publish request.

    Args:
        reactor: an `EPollReactor`, see `is_possible`.
        on_hold: called in each turn with the seconds in which no client was served since the
            poll before; must be cheap.

    Attributes:
        since: when the last poll returned (`time.monotonic`); infinity while polling.
    """

    def __init__(self, reactor: Any, on_hold: Callable[[float], object]) -> None:
        self.since = math.inf
        self._reactor = reactor
        self._on_hold = on_hold
        # Names of Twisted beyond its interfaces: another version may lack them (`is_possible`).
        self._poll = reactor._poller.poll
        self._selectables = reactor._selectables
        self._serve = reactor._doReadOrWrite

    @staticmethod
    def is_possible(reactor: Any) -> bool:
        """
        Return whether *reactor* waits by epoll(7), as Twisted's own on Linux does.
        """
        has_names = hasattr(reactor, "_selectables") and hasattr(reactor, "_doReadOrWrite")
        return has_names and isinstance(getattr(reactor, "_poller", None), select.epoll)

    def start(self) -> None:
        """
        Replace the reactor's own turn.
        """
        self._reactor.doIteration = self.turn

    def stop(self) -> None:
        """
        Give the reactor its own turn back.
        """
        del self._reactor.doIteration

    def turn(self, timeout: float | None) -> None:
        """
        Wait for events, and serve them.

        Args:
            timeout: seconds; None for any time.
        """
        self._on_hold(monotonic() - self.since)
        self.since = math.inf
        events = self._poll(-1 if timeout is None else timeout, MAX_EVENTS)
        self.since = monotonic()
        selectables, serve = self._selectables, self._serve
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is None:  # an event before has closed it
                continue
            try:
                serve(selectable, descriptor, event)
            except Exception:
                _log.failure("while serving {connection}", connection=selectable)
