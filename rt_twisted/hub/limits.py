"""
Limits of a hub and of one subscriber's backlog.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class HubLimits:
    """
    Limits of one hub; 0 means no limit, except where it says otherwise.

    Args:
        subscribers: connected at once.
        subscribers_per_address: of those, from one address.
        history_bytes: retained for replay in all channels. The channels that were
            published to longest ago are dropped first.
        replay_bytes: replayed to one subscriber.
        linger: seconds for which the broker stays subscribed to a channel after its
            last subscriber left.
        heartbeat: seconds between two heartbeats of a subscriber; 0 for none.
        join_rate: new subscribers per second.
        join_queue: new subscribers that may wait for that; 0 for none.
    """

    subscribers: int = 0
    subscribers_per_address: int = 0
    history_bytes: int = 256 << 20
    replay_bytes: int = 8 << 20
    linger: float = 60.0
    heartbeat: float = 30.0
    join_rate: int = 0
    join_queue: int = 0


class SlowConsumerPolicy(Enum):
    """
    What happens to a subscriber that is too far behind.
    """

    DISCONNECT = "disconnect"  # it reconnects and resumes from its position
    SKIP = "skip"  # its backlog is replaced by a gap event, and it goes on with the newest


@dataclass(frozen=True, slots=True)
class BacklogLimits:
    """
    How far behind a subscriber may be.

    Args:
        bytes: of frames queued behind the one that is being sent. One frame of any
            size, such as the replay that it requested, is always allowed.
        seconds: for which its connection may accept no byte at all.
        policy: what happens to it then.
    """

    bytes: int = 1 << 20
    seconds: float = 30.0
    policy: SlowConsumerPolicy = SlowConsumerPolicy.DISCONNECT
