"""
The memory of all live streams of this node: their retained keyframe groups.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from rt_twisted.hub.keyframe_groups import KeyframeGroups
from rt_twisted.model.message import Mark, Message
from rt_twisted.model.retention import History, Retention


class LiveMemory:
    """
    Appends to the histories of live channels, and bounds them together.

    Args:
        retention: of each channel.
        limit: bytes for all. The oldest group of the channel that was published to longest
            ago is dropped first.
    """

    def __init__(self, retention: Retention, limit: int) -> None:
        self._retention = retention
        self._limit = limit
        self._channels: OrderedDict[str, KeyframeGroups] = OrderedDict()
        self.bytes = 0

    def __bool__(self) -> bool:
        """
        Return whether there is a live channel.
        """
        return bool(self._channels)

    def __iter__(self) -> Iterator[str]:
        """
        Iterate over the names of live channels, those published to longest ago first.
        """
        return iter(self._channels)

    def __contains__(self, name: object) -> bool:
        """
        Return whether the channel *name* is a live channel.
        """
        return name in self._channels

    def append(self, history: History, message: Message, mark: Mark, now: float) -> None:
        """
        Append *message*, received at *now* (seconds), to the *history* of its channel, and drop
        what is over the limit. The channel is a live channel from now on.
        """
        name = message.channel
        groups = self._channels.get(name)
        if groups is None:
            groups = self._channels[name] = KeyframeGroups(name, history, self._retention)
        self._channels.move_to_end(name)
        before = groups.bytes
        groups.append(message, mark, now)
        self.bytes += groups.bytes - before
        while self.bytes > self._limit:
            self._evict()

    def expire(self, name: str, now: float) -> None:
        """
        Drop the groups of the live channel *name* that are too old at *now* (seconds).
        """
        groups = self._channels[name]
        before = groups.bytes
        groups.expire(now)
        self.bytes += groups.bytes - before

    def clear(self, name: str) -> None:
        """
        Drop all messages of the live channel *name*.
        """
        groups = self._channels[name]
        self.bytes -= groups.bytes
        groups.clear()

    def remove(self, name: str) -> None:
        """
        Forget the live channel *name* and its messages: it is not open any more.
        """
        self.clear(name)
        del self._channels[name]

    def reconfigure(self, retention: Retention, limit: int) -> None:
        """
        Use other bounds; they apply from the next message of each channel on.
        """
        self._retention = retention
        self._limit = limit
        for groups in self._channels.values():
            groups.reconfigure(retention)

    def _evict(self) -> None:
        name, groups = next((name, groups) for name, groups in self._channels.items() if groups)
        self._channels.move_to_end(name)
        before = groups.bytes
        groups.drop_oldest()
        self.bytes += groups.bytes - before
