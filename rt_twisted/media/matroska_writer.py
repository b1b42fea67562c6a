"""
Writes live WebM (RFC 9559): a header, and one cluster for each frame.

A cluster of its own costs 25 bytes, and makes the bytes of a frame independent of all
others: every subscriber can be sent the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable

from rt_twisted.media.ebml import element, unsigned_element
from rt_twisted.media.matroska import EBML, INFO, TRACKS
from rt_twisted.media.matroska_tracks import write_track
from rt_twisted.media.unit import Track

_UNKNOWN_SEGMENT = b"\x18\x53\x80\x67\x01" + b"\xff" * 7
_CLUSTER = b"\x1f\x43\xb6\x75"
_KEY, _DELTA = b"\0\0\x80", b"\0\0\0"  # no time relative to the cluster; flags
_LONGEST = 2**48 - 1  # milliseconds, in the six bytes of a timestamp
_APPLICATION = b"rt_twisted"

_DOCUMENT = element(
    EBML,
    unsigned_element(0x4286, 1)
    + unsigned_element(0x42F7, 1)
    + unsigned_element(0x42F2, 4)
    + unsigned_element(0x42F3, 8)
    + element(0x4282, b"webm")
    + unsigned_element(0x4287, 4)
    + unsigned_element(0x4285, 2),
)
_INFO = element(
    INFO,
    unsigned_element(0x2AD7B1, 1_000_000)
    + element(0x4D80, _APPLICATION)
    + element(0x5741, _APPLICATION),
)


def write_header(tracks: Iterable[Track]) -> bytes:
    """
    Return the start of a live stream: EBML header, Segment, Info and Tracks.
    """
    entries = element(TRACKS, b"".join(map(write_track, tracks)))
    return _DOCUMENT + _UNKNOWN_SEGMENT + _INFO + entries


def write_cluster(track: int, time: int, key: bool, data: bytes) -> bytes:
    """
    Return a cluster with one frame.

    Args:
        track: 1 to MAX_TRACK_ID.
        time: when it is presented, in microseconds; 0 is the earliest.
        key: whether it is a keyframe.
        data: up to 256 MiB.
    """
    milliseconds = min(max(0, (time + 500) // 1000), _LONGEST)
    number = bytes((0x80 | track,)) if track < 127 else (0x4000 | track).to_bytes(2)
    size = len(number) + 3 + len(data)
    return b"%b%b\xe7\x86%b\xa3%b%b%b%b" % (
        _CLUSTER,
        (size + 13 | 0x10000000).to_bytes(4),
        milliseconds.to_bytes(6),
        (size | 0x10000000).to_bytes(4),
        number,
        _KEY if key else _DELTA,
        data,
    )
