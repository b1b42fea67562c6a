"""
Which events reach the log, and in what characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel
from zope.interface import implementer

WINDOW = 60.0  # seconds in which repeated lines are counted
REPEATS = 3  # lines of Twisted's own with the same text, in a window
OURS = 500  # the same of everybody else: what no healthy daemon writes
MOST = 1000  # different texts that are counted at a time

# Terminals obey C0 and C1 control characters, and the bidirectional ones change what is read.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff"
_CONTROL = re.compile(f"[{_CONTROLS}]")

Observer = Callable[[Mapping[str, Any]], None]

_log = Logger()


def printable(text: str) -> str:
    """
    *text* with control characters written as in Python, but for tabs and line feeds.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def printable_json(text: str) -> str:
    """
    JSON *text* with control characters written as JSON has them.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@implementer(ILogObserver)
class LogFilter:
    """
    Passes on events from a level on, and no text without end.

    A text that comes too often in a window is counted, and logged once with its count when
    the window is over. While descriptors are used up, for example, Twisted logs three
    lines for each connection that it refuses.

    Args:
        observer: what writes the rest.
        level: `debug`, `info`, `warn` or `error`; may be set again.
        later: calls a function after so many seconds, in the reactor's thread; for any thread.
    """

    def __init__(
        self,
        observer: Observer,
        level: str = "info",
        later: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self._observer = observer
        self._later = later
        self._metrics: dict[tuple[str, str], int] = {}
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """
        Pass on events from *level* on.
        """
        self._level = LogLevel.levelWithName(level)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """
        Part of `ILogObserver`.
        """
        level = event.get("log_level")
        if level is not None and level < self._level:
            return
        text = event.get("log_format")
        if self._later is not None and text and text != "{log_text}":  # a legacy event's
            key = (str(event.get("log_namespace")), str(text))
            count = self._metrics[key] = self._metrics.get(key, 0) + 1
            if count == 1:
                if len(self._metrics) > MOST:
                    self._metrics.pop(key)
                elif len(self._metrics) == 1:
                    self._later(WINDOW, self._sum_up)
            if count > (REPEATS if key[0].startswith("twisted.") else OURS):
                return
        self._observer(event)

    def _sum_up(self) -> None:
        metrics, self._metrics = self._metrics, {}
        for (namespace, text), count in metrics.items():
            left = count - (REPEATS if namespace.startswith("twisted.") else OURS)
            if left > 0:
                _log.warn(
                    "in {seconds:.0f} seconds {left} more lines of this kind were left out: {kind}",
                    seconds=WINDOW,
                    left=left,
                    kind=text,
                )
