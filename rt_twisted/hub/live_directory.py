"""
Which live streams other nodes have: each node announces its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from rt_twisted.model.internal_channels import STREAMS
from rt_twisted.model.message import Draft

INTERVAL = 2.0  # seconds between two announcements of a node with publishers
EXPIRE = 3 * INTERVAL  # seconds after which a node without announcements has ended
MAX_NODES = 1000
MAX_STREAMS = 10_000  # of a node
MAX_NAME = 1024  # characters of a channel

Publish = Callable[[Sequence[Draft]], Deferred[Any]]


class LiveAnnouncer:
    """
    Announces the live streams that are published on this node.

    Args:
        publish: publishes to the broker that all nodes share.
    """

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._node = secrets.token_hex(8)
        self._names: Collection[str] = ()
        self._announced_at = 0.0

    def announce(self, names: Collection[str], now: float) -> None:
        """
        Announce *names* if they have changed, or every INTERVAL. No names are announced once.
        """
        changed = names != self._names
        if not changed and (not names or now - self._announced_at < INTERVAL):
            return
        self._names, self._announced_at = names, now
        data = json.dumps({"node": self._node, "streams": [*names]}).encode()
        # While the broker is away other nodes are not reached: it is tried again.
        self._publish([Draft(STREAMS, data, transient=True)]).addErrback(lambda failure: None)


class LiveDirectory:
    """
    The live streams that nodes have announced.

    Args:
        seconds: returns a time that does not decrease.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._nodes: dict[str, tuple[float, Sequence[str]]] = {}

    def receive(self, data: bytes) -> None:
        """
        Take note of an announcement. One that is malformed is ignored, and so are the names of a
        node behind its first MAX_STREAMS.
        """
        try:
            fields = json.loads(data)
            node, names = fields["node"], fields["streams"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return
        if type(node) is not str or type(names) is not list:
            return
        names = names[:MAX_STREAMS]
        known = tuple([name for name in names if type(name) is str and len(name) <= MAX_NAME])
        self._nodes.pop(node, None)
        self._expire()
        if known and len(node) <= MAX_NAME and len(self._nodes) < MAX_NODES:
            self._nodes[node] = self._seconds(), known

    def names(self, prefix: str) -> set[str]:
        """
        Return the channels with live streams whose names begin with *prefix*.
        """
        self._expire()
        return {
            name for _, names in self._nodes.values() for name in names if name.startswith(prefix)
        }

    def _expire(self) -> None:
        oldest = self._seconds() - EXPIRE
        for node, (at, _) in tuple(self._nodes.items()):
            if at < oldest:
                del self._nodes[node]
