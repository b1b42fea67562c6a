"""
The memory of this process, with and without what it shares with others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

# Bytes of resident memory up to which the shared part is measured: the kernel walks all pages,
# which takes 110 ms for a GiB. In a process that grows, the shared part changes little.
MEASURED = 64 << 20

_STATM = Path("/proc/self/statm")
_ROLLUP = Path("/proc/self/smaps_rollup")  # proc(5), since Linux 4.14
_PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_memory() -> int:
    """
    Return the resident memory of the process in bytes; 0 where the kernel does not report it.
    """
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def proportional_memory() -> int:
    """
    Return the resident memory in bytes, of which pages that n processes share count as 1/n (PSS).

    Where the kernel does not report the PSS, the result is 0.
    """
    try:
        for line in _ROLLUP.read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except (OSError, IndexError, ValueError):
        pass
    return 0


class WorkerMemory:
    """
    The memory of a process that shares pages with others which are counted too.

    Args:
        resident: as `resident_memory`.
        proportional: as `proportional_memory`.
    """

    def __init__(
        self,
        resident: Callable[[], int] = resident_memory,
        proportional: Callable[[], int] = proportional_memory,
    ) -> None:
        self._resident = resident
        self._proportional = proportional
        self._of_others = 0  # bytes of the resident memory that count for other processes

    def measure(self) -> int:
        """
        Return the bytes of the process, so that a sum over processes counts a page once.
        """
        resident = self._resident()
        if resident <= MEASURED and (proportional := self._proportional()):
            self._of_others = max(0, resident - proportional)
        return max(0, resident - self._of_others)
