"""
What is fetched of channels, and what redis has answered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rt_twisted.brokers.redis.entries import ChannelSlice
from rt_twisted.model.message import Position


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """
    Names what to fetch of a channel.

    Args:
        channel: its name.
        after: only messages with a higher offset.
        newest: at most so many, the newest; 0 for all.
    """

    channel: str
    after: int = 0
    newest: int = 0


@dataclass(slots=True)
class FetchResult:
    """
    Stored messages of some channels.

    Args:
        position: the log's at the first answer; the slices may have newer messages.
        since: the lowest offset of this epoch; whether older messages are missing is unknown.
        now: Unix milliseconds, by redis' clock.
        slices: by channel.
        newest: by channel, where only the newest were wanted.
        skipped: channels that were not fetched, as there were too many bytes.
    """

    position: Position
    since: int
    now: float
    slices: dict[str, ChannelSlice] = field(default_factory=dict)
    newest: dict[str, ChannelSlice] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
