"""
The reactor's time, which goes on evenly whatever is done to the machine's clock.
"""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """
    Have *reactor* count on evenly from what the machine's clock says now.

    Twisted takes that clock itself, for timers too: set back by an hour it would hold
    up all heartbeats and signs of life for an hour, and set forward end all patience.

    So `reactor.seconds()` are unix seconds until somebody sets the clock; who needs the
    date, for others to read, asks `time.time`.
    """
    monotonic = time.monotonic
    began = time.time() - monotonic()
    reactor.seconds = lambda: monotonic() + began
