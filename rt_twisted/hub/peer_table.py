"""
What other processes have announced lately.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

MAX_PEERS = 1000

_T = TypeVar("_T")


class PeerTable(Generic[_T]):
    """
    The last announcement of each process, until it is too old.

    At most MAX_PEERS are kept: announcements under ever other names do not fill the memory.

    Args:
        seconds: returns a time that does not decrease.
        expire: seconds after which a process without announcements has ended.
    """

    def __init__(self, seconds: Callable[[], float], expire: float) -> None:
        self._seconds = seconds
        self._expire = expire
        self._announced: dict[str, tuple[float, _T]] = {}

    def put(self, node: str, value: _T) -> None:
        """
        Replace what the process *node* has announced before.
        """
        self._drop_old()
        if node in self._announced or len(self._announced) < MAX_PEERS:
            self._announced[node] = self._seconds(), value

    def discard(self, node: str) -> None:
        """
        Forget what the process *node* has announced.
        """
        self._announced.pop(node, None)

    def current(self) -> Mapping[str, _T]:
        """
        Return the last announcements by process.
        """
        self._drop_old()
        return {node: value for node, (_, value) in self._announced.items()}

    def _drop_old(self) -> None:
        oldest = self._seconds() - self._expire
        for node, (at, _) in tuple(self._announced.items()):
            if at <= oldest:
                del self._announced[node]
