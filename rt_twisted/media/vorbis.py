"""
Vorbis: its headers, and the duration of frames (Vorbis I specification, 4.2 and 4.3).
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_HEADERS = 64 * 1024  # bytes of all three headers

_IDENTIFICATION = 30  # bytes of the first header
_MAX_MODES = 64


def parse_identification(header: bytes) -> tuple[int, int]:
    """
    Return samples per second and channels of an identification header.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    if len(header) < _IDENTIFICATION or not header.startswith(b"\x01vorbis"):
        raise RemoteProtocolError("Vorbis: the identification header is malformed")
    channels, rate = header[11], int.from_bytes(header[12:16], "little")
    if not channels or not rate:
        raise RemoteProtocolError("Vorbis: the identification header is malformed")
    return rate, channels


def join_headers(headers: tuple[bytes, bytes, bytes]) -> bytes:
    """
    Return the CodecPrivate of Matroska for three headers: with Xiph lacing.
    """
    sizes = b"".join(
        [b"\xff" * (len(header) // 255) + bytes((len(header) % 255,)) for header in headers[:2]]
    )
    return b"\x02" + sizes + b"".join(headers)


def split_headers(private: bytes) -> tuple[bytes, bytes, bytes]:
    """
    Return the three headers of a CodecPrivate.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    if not private.startswith(b"\x02"):
        raise RemoteProtocolError("Vorbis: the headers are malformed")
    position = 1
    sizes = []
    for _ in range(2):
        size = 0
        while position < len(private) and private[position] == 255:
            size += 255
            position += 1
        size += private[position] if position < len(private) else 0
        position += 1
        sizes.append(size)
    first = position + sizes[0]
    second = first + sizes[1]
    if second >= len(private):
        raise RemoteProtocolError("Vorbis: the headers are truncated")
    return private[position:first], private[first:second], private[second:]


class BlockSizes:
    """
    Computes the durations of frames, each from its own block and the one before.

    Args:
        identification: the first header.
        setup: the third header, whose last part has the modes.
    """

    def __init__(self, identification: bytes, setup: bytes) -> None:
        sizes = identification[28]
        self._sizes = 1 << (sizes & 15), 1 << (sizes >> 4)
        self._modes = _parse_modes(setup)
        self._mask = (1 << (len(self._modes) - 1).bit_length()) - 1 if self._modes else 0
        self._before: int | None = None

    def duration_of(self, frame: bytes) -> int:
        """
        Return the samples that *frame* adds; 0 if that is not known.
        """
        if not self._modes:
            return 0
        mode = frame[0] >> 1 & self._mask
        if mode >= len(self._modes):
            return 0
        size = self._sizes[self._modes[mode]]
        before, self._before = self._before, size
        return (before or size) // 4 + size // 4

    def forget(self) -> None:
        """
        Take note that frames are missing.
        """
        self._before = None


def _parse_modes(setup: bytes) -> tuple[bool, ...]:
    """
    Return for each mode whether its blocks are long.

    The modes are at the end of the header. Reading backwards needs nothing of what precedes
    them: a mode has one bit, and 40 bits of which 32 are zero.
    """
    bits = int.from_bytes(setup, "little")
    length = bits.bit_length() - 1  # without the framing bit, the last one that is set
    count = 0
    flags: list[bool] = []
    found: tuple[bool, ...] = ()
    while length >= 47 and count < _MAX_MODES:
        length -= 41
        mode = bits >> length & (1 << 41) - 1
        mapping, zeros, flag = mode >> 33, mode >> 1 & (1 << 32) - 1, bool(mode & 1)
        if mapping > 63 or zeros:
            break
        flags.append(flag)
        count += 1
        if (bits >> length - 6 & 63) + 1 == count:
            found = tuple(reversed(flags))
    return found
