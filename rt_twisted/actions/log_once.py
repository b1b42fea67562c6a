"""
Log lines about an application that would repeat with each of its responses.
"""

from __future__ import annotations

from twisted.logger import Logger

MAX_LINES = 200  # that are remembered; others are not logged

_log = Logger()


class LogOnce:
    """
    Writes each line once; of a process (`SharedState`).
    """

    def __init__(self) -> None:
        self._lines: set[str] = set()

    def warn(self, line: str) -> None:
        """
        Write *line*, unless it was written before.
        """
        if line not in self._lines and len(self._lines) < MAX_LINES:
            self._lines.add(line)
            _log.warn("{line}", line=line)
