"""
A player that plays: a subscriber, and the numbers of its first packets.
"""

from __future__ import annotations

from collections.abc import Sequence

from rt_twisted.formats.live import read_live
from rt_twisted.formats.rtp_interleaved import WireTrack, clock_rate
from rt_twisted.media.reorder import DEFAULT_DURATION
from rt_twisted.media.rtp.numbers import numbers_of, ticks_of
from rt_twisted.media.timeline import PACKET
from rt_twisted.media.unit import Head, Unit
from rt_twisted.model.message import Message


def rtp_info(
    base: str, channel: str, tracks: Sequence[WireTrack], retained: Sequence[Message]
) -> str:
    """
    Return the RTP-Info of a player that begins at the last head of *retained*: the numbers of
    the first packet of each track (RFC 2326, 12.33).

    A track without a frame behind the head has the numbers that its next frame will have.
    They are never ahead of the first packet: ffmpeg would take it for one of 13 hours later.

    Args:
        base: the URL of the presentation, without a slash at the end.
        channel: of the stream.
        tracks: that are played.
        retained: the newest messages of the channel, in order.
    """
    first: dict[int, Unit] = {}
    last: dict[int, Unit] = {}
    is_behind_head = True
    wanted = {wire.track.id for wire in tracks}
    for message in reversed(retained):  # there may be many of earlier groups
        thing = read_live(message)
        if isinstance(thing, Head):
            is_behind_head = False
        elif isinstance(thing, Unit):
            last.setdefault(thing.track, thing)
            if is_behind_head:
                first[thing.track] = thing
        if not is_behind_head and wanted <= last.keys():
            break
    return ",".join([_entry(base, channel, wire, first, last) for wire in tracks])


def _entry(
    base: str, channel: str, wire: WireTrack, first: dict[int, Unit], last: dict[int, Unit]
) -> str:
    id = wire.track.id
    text = f"url={base}/trackID={id}"
    unit = first.get(id)
    if unit is not None:
        packets, time = unit.packets, unit.pts
    elif id in last:
        unit = last[id]
        packets = unit.packets + -(-len(unit.data) // PACKET)
        time = unit.pts + (unit.duration or DEFAULT_DURATION)
    else:
        return text
    numbers = numbers_of(channel, id)
    sequence = numbers.sequence + packets & 0xFFFF
    timestamp = numbers.timestamp + ticks_of(time, clock_rate(wire.track)) & 0xFFFFFFFF
    return f"{text};seq={sequence};rtptime={timestamp}"
