"""
The numbers of the packets that players are sent, which any node computes alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b


@dataclass(frozen=True, slots=True)
class StreamNumbers:
    """
    What the numbers of a track's packets begin with.

    Args:
        source: the synchronization source (SSRC).
        sequence: of the packet before which the track had none.
        timestamp: at the time 0.
    """

    source: int
    sequence: int
    timestamp: int


@lru_cache(maxsize=1024)
def numbers_of(channel: str, track: int) -> StreamNumbers:
    """
    Return the numbers of a track of a channel.
    """
    digest = blake2b(f"{track} {channel}".encode(errors="surrogateescape"), digest_size=10).digest()
    return StreamNumbers(
        int.from_bytes(digest[:4]), int.from_bytes(digest[4:6]), int.from_bytes(digest[6:])
    )


def ticks_of(time: int, rate: int) -> int:
    """
    Return a time in microseconds as ticks of a clock of *rate* ticks per second.
    """
    return (time * rate + 500_000) // 1_000_000
