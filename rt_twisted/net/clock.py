"""
A clock for the reactor that runs evenly, whatever happens to the machine's clock.
"""

from __future__ import annotations

import time
from typing import Any


def use_monotonic_clock(reactor: Any) -> None:
    """
    Make *reactor* count on evenly from the present time of the machine's clock.

    Twisted uses that clock itself, for timers too: set back by an hour it would delay
    all heartbeats for an hour, and set forward end all timeouts at once.

    So `reactor.seconds()` are unix seconds until the machine's clock is set. Use
    `time.time` for dates that are shown.
    """
    monotonic = time.monotonic
    began = time.time() - monotonic()
    reactor.seconds = lambda: monotonic() + began
