"""
The sources that are connected to this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rt_twisted.media.unit import Head


@dataclass(frozen=True, slots=True)
class Source:
    """
    A connected source.

    Args:
        channel: that it publishes to.
        kill: ends it.
        head: returns its newest head; None before it has sent audio.
    """

    channel: str
    kill: Callable[[], object]
    head: Callable[[], Head | None]


class IcecastSources:
    """
    The sources of this process by channel; shared by all routes of a hub.
    """

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}

    def add(self, source: Source) -> None:
        """
        Add a source, in place of one that it has taken over from.
        """
        self._sources[source.channel] = source

    def remove(self, source: Source) -> None:
        """
        Remove a source, unless another one has taken over.
        """
        if self._sources.get(source.channel) is source:
            del self._sources[source.channel]

    def all(self) -> Sequence[Source]:
        """
        Return all sources.
        """
        return tuple(self._sources.values())

    def find(self, channel: str) -> Source | None:
        """
        Return the source of *channel*; None if it has none here.
        """
        return self._sources.get(channel)
