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
        history_bytes: retained for replay in all channels but live streams. The channels that were
            published to longest ago are dropped first.
        live_memory: bytes retained of all live streams. The oldest keyframe group of the
            stream that was published to longest ago is dropped first.
        replay_bytes: replayed to one subscriber.
        linger: seconds for which the broker stays subscribed to a channel after its
            last subscriber left.
        live_timeout: seconds after which a publisher of a live stream that sends nothing is
            lost.
        live_grace: seconds that viewers then wait for another publisher.
        heartbeat: seconds between two heartbeats of a subscriber; 0 for none.
        join_rate: new subscribers per second.
        join_queue: new subscribers that may wait for that; 0 for none.
    """

    subscribers: int
    subscribers_per_address: int
    history_bytes: int
    live_memory: int
    replay_bytes: int
    linger: float
    live_timeout: float
    live_grace: float
    heartbeat: float
    join_rate: int
    join_queue: int


class SlowConsumerPolicy(Enum):
    """
    What happens to a subscriber that is too far behind.
    """

    DISCONNECT = "disconnect"  # it reconnects and resumes from its position
    SKIP = "skip"  # its backlog is replaced by a gap event, and it goes on with the newest
    SYNC = "sync"  # it keeps its backlog, and goes on at a later resync point
    NEWEST = "newest"  # messages in its backlog are replaced by newer ones, without a gap event


@dataclass(frozen=True, slots=True)
class BacklogLimits:
    """
    How far behind a subscriber may be.

    Args:
        bytes: of frames queued behind the one that is being sent. One frame of any
            size, such as the replay that it requested, is always allowed.
        seconds: for which its connection may accept no byte at all. With the policy
            SYNC or NEWEST it may do so for any time: its backlog does not grow then.
        policy: what happens to it then.
    """

    bytes: int
    seconds: float
    policy: SlowConsumerPolicy
