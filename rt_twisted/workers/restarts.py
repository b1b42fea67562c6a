"""
Restarts of child processes: when the next one starts, and how the last one ended.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable

from twisted.python.failure import Failure

FIRST_DELAY = 0.1  # seconds until a restart; short, as subscribers of a worker reconnect already
MAX_DELAY = 30.0  # after many processes that ended soon
STEADY = 30.0  # seconds that one has to live, so that the next delay is the first again

_DOUBLINGS = 30  # enough for any delay


class RestartDelays:
    """
    The delays before the restarts of one process.

    A delay doubles while processes end soon, from FIRST_DELAY to MAX_DELAY; it is at least half
    of that and random, so that processes that crash together do not restart together.

    Args:
        uniform: as `random.uniform`.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._short_lives = 0  # processes in a row that ended before STEADY

    def following(self, lived: float) -> float:
        """
        Return the seconds to wait after a process that ended.

        Args:
            lived: seconds for which it ran; 0 if it could not be started.
        """
        if lived >= STEADY:
            self._short_lives = 0
        longest = min(MAX_DELAY, FIRST_DELAY * 2.0 ** min(self._short_lives, _DOUBLINGS))
        self._short_lives += 1
        return self._uniform(longest / 2, longest)


def exit_cause(reason: Failure) -> str:
    """
    Return how a process ended: the name of a signal, or its exit status.

    Args:
        reason: as `ProcessProtocol.processExited` gets it.
    """
    status = getattr(reason.value, "status", None)
    if status is not None and os.WIFSIGNALED(status):
        return signal_name(os.WTERMSIG(status))
    return f"status {getattr(reason.value, 'exitCode', None)}"


def signal_name(number: int) -> str:
    """
    Return the name of a signal, such as SIGKILL; real-time signals have none.
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
