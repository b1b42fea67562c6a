"""
Filters log events by level and repetition, and escapes control characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from twisted.logger import ILogObserver, Logger, LogLevel
from zope.interface import implementer

WINDOW = 60.0  # seconds in which repeated lines are counted
MAX_TWISTED = 3  # lines of Twisted's own with the same text, in a window
MAX_OTHER = 500  # the same of all others: more than a healthy daemon writes
MAX_TEXTS = 1000  # different texts that are counted at a time

# Terminals execute C0 and C1 control characters; bidirectional ones reorder what is shown.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff"
_CONTROL = re.compile(f"[{_CONTROLS}]")

Observer = Callable[[Mapping[str, Any]], None]

_log = Logger()


def printable(text: str) -> str:
    """
    Return *text* with control characters escaped as in Python, except tabs and line feeds.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def printable_json(text: str) -> str:
    """
    Return JSON *text* with control characters escaped as in JSON.
    """
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@implementer(ILogObserver)
class LogFilter:
    """
    Passes events of a level or above to an observer, and limits repeated texts.

    A text that is logged too often in a window is counted, and its count is logged when
    the window ends. Without free descriptors, for example, Twisted logs three lines for
    each connection that it refuses.

    Args:
        observer: writes the events that pass.
        level: `debug`, `info`, `warn` or `error`.
        later: calls a function after so many seconds in the reactor's thread; may be
            called in any thread. None for no limit on repetition.
    """

    def __init__(
        self,
        observer: Observer,
        level: str = "info",
        later: Callable[[float, Callable[[], None]], None] | None = None,
    ) -> None:
        self._observer = observer
        self._later = later
        self._counts: dict[tuple[str, str], int] = {}
        self.set_level(level)

    def set_level(self, level: str) -> None:
        """
        Pass events of *level* and above from now on.
        """
        self._level = LogLevel.levelWithName(level)

    def __call__(self, event: Mapping[str, Any]) -> None:
        level = event.get("log_level")
        if level is not None and level < self._level:
            return
        text = event.get("log_format")
        if self._later is not None and text and text != "{log_text}":  # of a legacy event
            key = (str(event.get("log_namespace")), str(text))
            count = self._counts[key] = self._counts.get(key, 0) + 1
            if count == 1:
                if len(self._counts) > MAX_TEXTS:
                    self._counts.pop(key)
                elif len(self._counts) == 1:
                    self._later(WINDOW, self._log_suppressed)
            if count > (MAX_TWISTED if key[0].startswith("twisted.") else MAX_OTHER):
                return
        self._observer(event)

    def _log_suppressed(self) -> None:
        counts, self._counts = self._counts, {}
        for (namespace, text), count in counts.items():
            left = count - (MAX_TWISTED if namespace.startswith("twisted.") else MAX_OTHER)
            if left > 0:
                _log.warn(
                    "suppressed {left} more lines of this kind in {seconds:.0f} s: {kind}",
                    seconds=WINDOW,
                    left=left,
                    kind=text,
                )
