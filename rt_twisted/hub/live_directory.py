"""
Which live streams other nodes have: each node announces its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rt_twisted.hub.peer_table import PeerTable

INTERVAL = 2.0  # seconds between two announcements of a node with publishers
EXPIRE = 3 * INTERVAL  # seconds after which a node without announcements has ended
TOLERANCE = 0.5  # seconds: `announce` is called once a second, sometimes a little early
MAX_STREAMS = 10_000  # of a node
MAX_NAME = 1024  # characters of a channel


class LiveAnnouncer:
    """
    Announces the live streams that are published on this node.

    Args:
        announce: see `PeerBus.announce`. While the broker is away other nodes are not reached,
            until the next announcement.
    """

    def __init__(self, announce: Callable[[Mapping[str, Any]], object]) -> None:
        self._announce = announce
        self._names: Collection[str] = ()
        self._announced_at = 0.0

    def announce(self, names: Collection[str], now: float) -> None:
        """
        Announce *names* if they have changed, or every INTERVAL. No names are announced once.
        """
        changed = names != self._names
        due = self._announced_at + INTERVAL - TOLERANCE
        if not changed and (not names or now < due):
            return
        self._names, self._announced_at = names, now
        self._announce({"streams": [*names]})


class LiveDirectory:
    """
    The live streams that nodes have announced.

    Args:
        seconds: returns a time that does not decrease.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._nodes: PeerTable[Sequence[str]] = PeerTable(seconds, EXPIRE)

    def receive(self, node: str, values: Mapping[str, Any]) -> None:
        """
        Take note of an announcement. One that is malformed is ignored, and so are the names of a
        node behind its first MAX_STREAMS.
        """
        names = values.get("streams")
        if type(names) is not list:
            return
        names = names[:MAX_STREAMS]
        known = tuple([name for name in names if type(name) is str and len(name) <= MAX_NAME])
        if known:
            self._nodes.put(node, known)
        else:
            self._nodes.discard(node)

    def names(self, prefix: str) -> set[str]:
        """
        Return the channels with live streams whose names begin with *prefix*.
        """
        return {
            name
            for names in self._nodes.current().values()
            for name in names
            if name.startswith(prefix)
        }
