"""
Jitter buffer: puts RTP packets in order, and finds the gaps between them (RFC 3550, A.1).
"""

from __future__ import annotations

from rt_twisted.media.rtp.packet import RtpPacket

MAX_HELD = 64  # packets behind a gap...
MAX_HELD_TIME = 200_000  # ...and microseconds, after which the missing ones are lost
MAX_AHEAD = 3000  # a larger step begins a sequence of its own...
MAX_BEHIND = 1000  # ...as does one so far back


class JitterBuffer:
    """
    Returns packets in the order of their sequence numbers, each once.

    A packet that is missing is waited for, at most MAX_HELD packets and MAX_HELD_TIME. Two
    packets in a row with numbers far away begin another sequence.
    """

    __slots__ = ("_held", "_next", "_restart", "_waiting_since")

    def __init__(self) -> None:
        self._next: int | None = None  # sequence number
        self._held: dict[int, RtpPacket] = {}
        self._waiting_since = 0
        self._restart: int | None = None  # the number that proves another sequence

    def feed(self, packet: RtpPacket, now: int) -> list[RtpPacket | None]:
        """
        Return the packets that are in order now. None stands for lost ones.

        Args:
            packet: as it arrived.
            now: microseconds.
        """
        number = packet.sequence
        if number == self._next and not self._held:
            self._next = number + 1 & 0xFFFF
            self._restart = None
            return [packet]
        if self._next is None:
            self._next = number + 1 & 0xFFFF
            return [packet]
        ahead = number - self._next & 0xFFFF
        if ahead > 0x7FFF:
            ahead -= 0x10000
        if not -MAX_BEHIND <= ahead <= MAX_AHEAD:
            if number != self._restart:
                self._restart = number + 1 & 0xFFFF
                return []
            found = self._flush()
            self._restart = None
            self._next = number + 1 & 0xFFFF
            return [*found, None, packet]
        self._restart = None
        if ahead < 0:
            return []  # late, or a duplicate
        if not self._held:
            self._waiting_since = now
        self._held[number] = packet
        found = self._in_order()
        late = len(self._held) > MAX_HELD or now - self._waiting_since > MAX_HELD_TIME
        if self._held and late:
            self._next = min(self._held, key=lambda each: each - number + 0x8000 & 0xFFFF)
            found.append(None)
            found += self._in_order()
        if self._held and found:
            self._waiting_since = now
        return found

    def _in_order(self) -> list[RtpPacket | None]:
        found: list[RtpPacket | None] = []
        packet = self._held.pop(self._next or 0, None)
        while packet is not None:
            found.append(packet)
            self._next = packet.sequence + 1 & 0xFFFF
            packet = self._held.pop(self._next, None)
        return found

    def _flush(self) -> list[RtpPacket | None]:
        found: list[RtpPacket | None] = []
        first = self._next or 0
        for number in sorted(self._held, key=lambda each: each - first & 0xFFFF):
            if number != self._next:
                found.append(None)
            found.append(self._held[number])
            self._next = number + 1 & 0xFFFF
        self._held.clear()
        return found
