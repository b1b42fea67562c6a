"""
Bound what is inflated in one turn of the reactor, in sum over all clients.

Compressed input can become a thousand times larger, which takes milliseconds for each MiB. A limit
for each client does not help if many of them send at once: other clients are served after all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

BYTES = 1 << 20  # inflated in one turn, which takes 1 to 3 ms

_log = Logger()
_resuming = _log.failureHandler("while inflating the input of a client")


class InflateQuota:
    """
    The bytes that all clients together may inflate in one turn of the reactor.

    Before each piece of input, its owner looks at `left`; afterwards it calls `spend`. If nothing
    is left, it stops reading, and calls `wait`.

    Args:
        clock: provides `callLater`.
        size: bytes of one turn. One piece may exceed it.

    Attributes:
        left: bytes; what is not above zero is spent until a later turn. A new turn begins only
            when a client waits, so that those who inflate little cost nothing.
    """

    def __init__(self, clock: Any, size: int = BYTES) -> None:
        self.left = size
        self._clock = clock
        self._size = size
        self._waiting: deque[Callable[[], object]] = deque()
        self._scheduled = False

    def spend(self, size: int) -> None:
        """
        Count *size* inflated bytes.
        """
        self.left -= size

    def wait(self, resume: Callable[[], object]) -> None:
        """
        Call *resume* in a later turn of the reactor, in which something is left.

        Those that wait are called in order. *resume* may call `wait` again.
        """
        self._waiting.append(resume)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._begin_turn)

    def _begin_turn(self) -> None:
        self._scheduled = False
        self.left = self._size
        for _ in range(len(self._waiting)):  # those that are added now wait for the next turn
            if self.left <= 0:
                break
            with _resuming:
                self._waiting.popleft()()
        self._schedule()
