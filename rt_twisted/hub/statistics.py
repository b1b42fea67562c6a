"""
The numbers of channels that /stats, metrics and the admin API show.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from heapq import nlargest
from operator import attrgetter

from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.hub.channel import Channel
from rt_twisted.hub.channel_table import ChannelTable
from rt_twisted.metrics.metrics import ChannelCounts
from rt_twisted.net.slices import run_at_once

STEP = 1000  # channels, then other clients may be served


class HubStatistics:
    """
    Counts what the channels and patterns of this node have.

    Args:
        channels: all of them.
    """

    def __init__(self, channels: ChannelTable) -> None:
        self._channels = channels

    def names(self) -> list[Selector]:
        """
        Return the names of all channels and patterns that are open on this node.
        """
        return [channel.name for channel in self._channels.newest_first()]

    def counts_of(self, name: str) -> ChannelCounts:
        """
        Return the counts of one channel or pattern; zeros if it is not open on this node.
        """
        channel = self._channels.get(name) or self._channels.get(Wildcard.of(name))
        return _counts(channel) if channel is not None else ChannelCounts(name, 0, 0)

    def busiest(self, limit: int) -> tuple[list[ChannelCounts], ChannelCounts]:
        """
        Return the *limit* channels with the most subscribers, and the sum of all others.

        Among equals, those that were published to last come first.
        """
        return run_at_once(self.busiest_in_steps(limit))

    def busiest_in_steps(
        self, limit: int
    ) -> Generator[None, None, tuple[list[ChannelCounts], ChannelCounts]]:
        """
        Return what `busiest` does; yield where other clients may be served.
        """
        channels = list(self._channels.newest_first())
        yield
        shown = nlargest(limit, channels, key=attrgetter("subscribers"))
        yield
        total, part = _sums(channels), _sums(shown)
        others = ChannelCounts(
            "", total[0] - part[0], total[1] - part[1], channels=len(channels) - len(shown)
        )
        counts: list[ChannelCounts] = []
        for at in range(0, len(shown), STEP):
            yield
            counts += [_counts(channel) for channel in shown[at : at + STEP]]
        return counts, others


def _counts(channel: Channel) -> ChannelCounts:
    position = str(channel.last_position) if channel.last_position is not None else ""
    return ChannelCounts(str(channel.name), channel.subscribers, channel.received_count, position)


def _sums(channels: Sequence[Channel]) -> tuple[int, int]:
    return (
        sum([channel.subscribers for channel in channels]),
        sum([channel.received_count for channel in channels]),
    )
