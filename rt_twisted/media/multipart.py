"""
Pictures in a multipart body, as cameras and ffmpeg's `mpjpeg` send them (RFC 2046, 5.1).

The delimiter is what the body begins with: the boundaries that peers announce differ from
it by dashes, quotes and blanks.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.jpeg import MAX_JPEG, START, JpegReader, is_picture

MAX_LINE = 1024  # bytes of a line of a part's header, and of the delimiter
MAX_LINES = 64  # of a part's header

_LENGTH = re.compile(rb"content-length[ \t]*:[ \t]*(\d{1,10})[ \t]*", re.IGNORECASE)


class _Place(Enum):
    FIRST_LINE = auto()
    OUTSIDE = auto()  # before a delimiter
    DELIMITER = auto()  # behind a delimiter, in its line
    HEADER = auto()
    BODY = auto()
    SIZED_BODY = auto()
    END = auto()  # behind the last delimiter


class MultipartReader:
    """
    Reads the pictures of a multipart body, however it is split, in linear time.

    A part without a length ends where its picture ends, so it need not wait for the next
    delimiter. Parts that are no JPEG pictures are left out.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0  # bytes of the buffer that were searched
        self._place = _Place.FIRST_LINE
        self._delimiter = b""
        self._lines = 0  # of the header
        self._length: int | None = None  # of the part
        self._skipped = 0  # bytes outside of parts
        self._picture = JpegReader()

    def feed(self, data: bytes) -> list[bytes]:
        """
        Read the next bytes of the body.

        Returns:
            The pictures that *data* completed, in order.

        Raises:
            RemoteProtocolError: the body is malformed, or exceeds a bound. The reader cannot
                be used again.
        """
        found: list[bytes] = []
        if self._place is not _Place.END:
            self._buffer += data
        while self._step(found):
            pass
        return found

    def _step(self, found: list[bytes]) -> bool:
        """
        Read on; return whether there may be more to read.
        """
        match self._place:
            case _Place.FIRST_LINE:
                return self._read_first_line()
            case _Place.OUTSIDE:
                return self._find_delimiter()
            case _Place.DELIMITER:
                return self._leave_delimiter()
            case _Place.HEADER:
                return self._read_header()
            case _Place.BODY:
                return self._read_picture(found)
            case _Place.SIZED_BODY:
                return self._read_sized(found)
        self._buffer.clear()
        return False

    def _line(self) -> bytes | None:
        """
        Remove a line from the buffer, and return it without its end; None if it is incomplete.
        """
        buffer = self._buffer
        end = buffer.find(b"\n", self._scanned)
        if max(end, len(buffer) if end < 0 else 0) > MAX_LINE:
            raise RemoteProtocolError(f"multipart: a line is longer than {MAX_LINE} bytes")
        if end < 0:
            self._scanned = len(buffer)
            return None
        line = bytes(buffer[:end]).rstrip()
        del buffer[: end + 1]
        self._scanned = 0
        return line

    def _read_first_line(self) -> bool:
        line = self._line()
        if line:
            self._delimiter = line
            self._begin_header()
        return line is not None

    def _find_delimiter(self) -> bool:
        buffer, size = self._buffer, len(self._delimiter)
        start = buffer.find(self._delimiter, self._scanned)
        kept = max(0, len(buffer) - size + 1) if start < 0 else start + size
        self._skipped += kept
        if self._skipped > MAX_JPEG:
            raise RemoteProtocolError(f"multipart: no delimiter within {MAX_JPEG} bytes")
        del buffer[:kept]
        self._scanned = 0
        if start >= 0:
            self._place = _Place.DELIMITER
        return start >= 0

    def _leave_delimiter(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line.startswith(b"--"):
            self._place = _Place.END
        else:
            self._begin_header()
        return True

    def _begin_header(self) -> None:
        self._place, self._lines, self._length = _Place.HEADER, 0, None

    def _read_header(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if not line:
            self._place = _Place.BODY if self._length is None else _Place.SIZED_BODY
            return True
        self._lines += 1
        if self._lines > MAX_LINES:
            raise RemoteProtocolError(f"multipart: a part has more than {MAX_LINES} headers")
        length = _LENGTH.fullmatch(line)
        if length is not None:
            self._length = int(length[1])
            if self._length > MAX_JPEG:
                raise RemoteProtocolError(f"multipart: a part is larger than {MAX_JPEG} bytes")
        return True

    def _read_sized(self, found: list[bytes]) -> bool:
        length = self._length or 0
        if len(self._buffer) < length:
            return False
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        if is_picture(body):
            found.append(body)
        self._leave_part()
        return True

    def _read_picture(self, found: list[bytes]) -> bool:
        buffer, reader = self._buffer, self._picture
        if not reader.pending:
            if len(buffer) < len(START):
                return False
            if not buffer.startswith(START):
                self._leave_part()
                return True
        picture = reader.feed_one(bytes(buffer))
        buffer.clear()
        if picture is None:
            return False
        found.append(picture)
        buffer += reader.rest()
        self._leave_part()
        return True

    def _leave_part(self) -> None:
        self._place, self._skipped, self._scanned = _Place.OUTSIDE, 0, 0
