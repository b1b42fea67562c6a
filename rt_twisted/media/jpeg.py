"""
JPEG pictures one after the other, as Motion JPEG has them (ITU-T T.81, annex B).
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_JPEG = 8 * 1024 * 1024  # bytes of a picture
START = b"\xff\xd8\xff"  # SOI, and the first byte of the next marker

_SOI = 0xD8
_EOI = 0xD9
_SOS = 0xDA
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))  # TEM, RST0 to RST7
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF0 to SOF15
_PADDING = b"\0\r\n\xff"  # between two pictures
_IN_SCAN = frozenset((0, *range(0xD0, 0xD8), 0xFF))  # FF 00 is data, FF FF is fill bytes


class JpegReader:
    """
    Splits a stream into pictures, however it is split, in linear time.

    A picture ends at its own EOI: that of a thumbnail is inside a segment with a length.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # in the buffer, up to which it is read; 0 between two pictures
        self._in_scan = False

    @property
    def pending(self) -> int:
        """
        Return how many bytes of an incomplete picture there are.
        """
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """
        Read the next bytes of the stream.

        Returns:
            The pictures that *data* completed, in order.

        Raises:
            RemoteProtocolError: the stream is no sequence of JPEG pictures, or one is larger
                than MAX_JPEG. The reader cannot be used again.
        """
        found: list[bytes] = []
        picture = self.feed_one(data)
        while picture is not None:
            found.append(picture)
            picture = self.feed_one(b"")
        return found

    def feed_one(self, data: bytes) -> bytes | None:
        """
        Read the next bytes up to the end of a picture, and return it; None if it is not
        complete. What is behind it waits for the next call.

        Raises:
            RemoteProtocolError: see `feed`.
        """
        self._buffer += data
        buffer = self._buffer
        if not self._position and not self._begin():
            return None
        while not self._in_scan or self._leave_scan():
            marker = self._marker()
            if marker is None:
                break
            code, end = marker
            if code == _EOI:
                if end > MAX_JPEG:
                    break
                picture = bytes(buffer[:end])
                del buffer[:end]
                self._position = 0
                return picture
            if code not in _WITHOUT_LENGTH:
                size = int.from_bytes(buffer[end : end + 2])
                if len(buffer) < end + 2:
                    break
                if size < 2:
                    raise RemoteProtocolError("JPEG: a segment has a length below 2")
                if len(buffer) < end + size:
                    break
                end += size
            self._position = end
            self._in_scan = code == _SOS
        if len(buffer) > MAX_JPEG:
            raise RemoteProtocolError(f"JPEG: a picture is larger than {MAX_JPEG} bytes")
        return None

    def rest(self) -> bytes:
        """
        Return what was fed and is in no picture, and forget it.
        """
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._position, self._in_scan = 0, False
        return rest

    def _begin(self) -> bool:
        """
        Return whether a picture begins in the buffer; remove the padding before it.
        """
        buffer = self._buffer
        padding = len(buffer) - len(buffer.lstrip(_PADDING))
        if padding == len(buffer):
            del buffer[: padding - 1]  # the last byte may be that of SOI
            return False
        if buffer[padding] != _SOI or not padding or buffer[padding - 1] != 0xFF:
            raise RemoteProtocolError("JPEG: the stream does not go on with a picture")
        del buffer[: padding - 1]
        self._position = 2
        return True

    def _leave_scan(self) -> bool:
        buffer = self._buffer
        # A loop of find takes half of the time of a regular expression.
        position = buffer.find(b"\xff", self._position)
        while 0 <= position < len(buffer) - 1:
            code = buffer[position + 1]
            if code not in _IN_SCAN:
                self._position = position
                self._in_scan = False
                return True
            position = buffer.find(b"\xff", position + (1 if code == 0xFF else 2))
        self._position = len(buffer) if position < 0 else position
        return False

    def _marker(self) -> tuple[int, int] | None:
        """
        Return the code of the marker at the position, and where it ends.
        """
        buffer, position = self._buffer, self._position
        while position + 1 < len(buffer):
            if buffer[position] != 0xFF or buffer[position + 1] in (0, _SOI):
                raise RemoteProtocolError("JPEG: a marker is missing")
            if buffer[position + 1] != 0xFF:
                return buffer[position + 1], position + 2
            position += 1
            self._position = position  # fill bytes
        return None


def is_picture(data: bytes) -> bool:
    """
    Return whether a message looks like one JPEG picture: by its first and last bytes.
    """
    return data.startswith(START) and b"\xff\xd9" in data[-16:] and len(data) <= MAX_JPEG


def size_of(picture: bytes) -> tuple[int, int]:
    """
    Return width and height of a picture; (0, 0) if it does not say.
    """
    position = 2
    while position + 9 <= len(picture) and picture[position] == 0xFF:
        code = picture[position + 1]
        if code in _SIZES:
            height, width = picture[position + 5 : position + 7], picture[position + 7 :][:2]
            return int.from_bytes(width), int.from_bytes(height)
        if code == 0xFF:
            position += 1
        elif code in _WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + max(2, int.from_bytes(picture[position + 2 : position + 4]))
    return 0, 0
