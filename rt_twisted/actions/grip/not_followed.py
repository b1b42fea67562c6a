"""
The parts of GRIP that are not supported: each is named once in the log.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger

MAX_NAMES = 100  # that are remembered

_log = Logger()


class NotFollowed:
    """
    The names that have been logged; of a process.
    """

    def __init__(self) -> None:
        self._names: set[str] = set()

    def note(self, names: Iterable[str]) -> None:
        """
        Log those of *names* that have not been logged yet.
        """
        for name in sorted(names):
            if name not in self._names and len(self._names) < MAX_NAMES:
                self._names.add(name)
                _log.warn("{name}: this part of GRIP is not supported, and is ignored", name=name)
