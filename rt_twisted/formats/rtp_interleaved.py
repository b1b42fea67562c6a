"""
RTP packets on an RTSP connection (RFC 2326, 10.12).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from zope.interface import implementer

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.live import changes_tracks, read_live
from rt_twisted.media.rtp.numbers import numbers_of, ticks_of
from rt_twisted.media.rtp.packet import write_bye, write_packet, write_report
from rt_twisted.media.rtp.payload_format import PayloadFormat
from rt_twisted.media.rtp.payload_registry import BY_CODEC
from rt_twisted.media.timeline import PACKET
from rt_twisted.media.unit import Head, Track, Unit
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

MAX_PACKET = 65_535  # bytes: the length before a packet has 16 bits


@dataclass(frozen=True, slots=True)
class WireTrack:
    """
    How a player gets one track.

    Args:
        track: of the head with which the player's description was made.
        payload_type: 0 to 127.
        channel: of its RTP packets.
        report_channel: of its sender reports.
    """

    track: Track
    payload_type: int
    channel: int
    report_channel: int


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class RtpInterleaved:
    """
    Encodes the tracks that a player has set up as RTP packets between RTSP messages.

    A sender report precedes each keyframe. All nodes give the packets the same numbers.

    Args:
        channel: of the stream.
        tracks: that the player gets; others are left out.
    """

    channel: str = ""
    tracks: tuple[WireTrack, ...] = ()

    content_type = "application/x-rtsp-tunnelled"
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        messages = replay.messages
        for index, message in enumerate(messages):
            if message.mark is Mark.HEAD:
                return messages[index:]
        return []

    def encode(self, message: Message) -> bytes:
        thing = read_live(message)
        if isinstance(thing, Unit):
            for wire in self.tracks:
                if wire.track.id == thing.track:
                    return b"".join(_packets(self.channel, wire, thing))
            return b""
        if isinstance(thing, Head):
            return b"".join([_report(self.channel, wire, thing.time) for wire in self.tracks])
        return b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        sources = [(wire, numbers_of(self.channel, wire.track.id).source) for wire in self.tracks]
        return b"".join(
            [_interleave(wire.report_channel, write_bye(source)) for wire, source in sources]
        )

    def is_resync_point(self, message: Message) -> bool:
        return message.mark is Mark.HEAD

    def must_restart(self, message: Message) -> bool:
        if not changes_tracks(message):
            return False
        head = read_live(message)
        tracks = head.tracks if isinstance(head, Head) else ()
        return any(wire.track not in tracks for wire in self.tracks)

    def resumed(self, last: Message | None, first: Message) -> RtpInterleaved:
        return self  # players go by the timestamps, and see the gap in the numbers


def payload_for(track: Track) -> PayloadFormat | None:
    """
    Return the payload format with which players are sent a track; None if there is none.
    """
    found = BY_CODEC.get(track.codec)
    if found is None:
        return None
    try:
        found.mapping(track)
        found.parameters(track)
    except RemoteProtocolError:  # its decoder configuration is missing or malformed
        return None
    return found


@lru_cache(maxsize=1024)
def clock_rate(track: Track) -> int:
    """
    Return the ticks per second of the RTP clock of a track that `payload_for` accepts.
    """
    return int(BY_CODEC[track.codec].mapping(track).split("/")[1])


def _packets(channel: str, wire: WireTrack, unit: Unit) -> Iterable[bytes]:
    track = wire.track
    numbers = numbers_of(channel, track.id)
    count = max(1, -(-len(unit.data) // PACKET))
    payloads = BY_CODEC[track.codec].packetize(track, unit.data, count)
    timestamp = numbers.timestamp + ticks_of(unit.pts, clock_rate(track))
    # If there are fewer than the unit counts, its last packet has the last number.
    sequence = numbers.sequence + unit.packets + count - len(payloads)
    last = len(payloads) - 1
    for index, payload in enumerate(payloads):
        packet = write_packet(
            wire.payload_type, index == last, sequence + index, timestamp, numbers.source, payload
        )
        if len(packet) <= MAX_PACKET:
            yield _interleave(wire.channel, packet)


def _report(channel: str, wire: WireTrack, time: int) -> bytes:
    numbers = numbers_of(channel, wire.track.id)
    timestamp = numbers.timestamp + ticks_of(time, clock_rate(wire.track))
    report = write_report(numbers.source, max(0, time), timestamp, 0, 0)
    return _interleave(wire.report_channel, report)


def _interleave(channel: int, packet: bytes) -> bytes:
    return b"$" + bytes((channel,)) + len(packet).to_bytes(2) + packet
