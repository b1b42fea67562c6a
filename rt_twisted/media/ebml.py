"""
EBML, the binary tree behind WebM and Matroska (RFC 8794).

Live streams have elements of unknown size, which end where an element begins that cannot
be inside. Only masters that hold everything else have that: Segment and Cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_DEPTH = 8
MAX_SKIPPED = 64 * 1024 * 1024  # bytes of an element that is not read, such as an attachment
VOID = 0xEC
CRC32 = 0xBF

_UNBOUNDED = 2**63  # the end of a master that nothing contains and that has no size
_UNKNOWN = -1


@dataclass(frozen=True, slots=True)
class _Master:
    """
    An open master element: its ID, the offset where it ends at the latest, and whether
    its size is unknown.
    """

    id: int
    end: int
    unknown: bool


class ElementReader:
    """
    Reads the elements of a stream in order, however it is split, in linear time.

    Args:
        masters: elements to descend into, each with the elements that end it if its size
            is unknown.
        wanted: elements to return whole, each with its largest size in bytes. All others
            are skipped.
    """

    def __init__(self, masters: Mapping[int, Set[int]], wanted: Mapping[int, int]) -> None:
        self._masters = masters
        self._wanted = wanted
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first byte in the stream
        self._skip = 0  # bytes to discard before the next element
        self._open: list[_Master] = []

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """
        Read the next bytes of the stream.

        Returns:
            ID and payload of each element that *data* completed, in order. The payload of
            a master is empty: its contents follow.

        Raises:
            RemoteProtocolError: the stream is malformed, or an element exceeds its bound.
                The reader cannot be used again.
        """
        buffer = self._buffer
        buffer += data
        found: list[tuple[int, bytes]] = []
        position = 0
        while True:
            if self._skip:
                step = min(self._skip, len(buffer) - position)
                position += step
                self._skip -= step
                if self._skip:
                    break
            header = _read_header(buffer, position)
            if header is None:
                break
            id, size, start = header
            self._close(id, self._offset + position)
            if id in self._masters:
                self._descend(id, size, self._offset + start)
                found.append((id, b""))
                position = start
                continue
            if size == _UNKNOWN:
                raise RemoteProtocolError(f"EBML: the size of element {id:X} is unknown")
            if self._open and self._offset + start + size > self._open[-1].end:
                raise RemoteProtocolError(f"EBML: element {id:X} is larger than its master")
            if id not in self._wanted:
                self._check_skipped(id, size)
                self._skip = size
                position = start
                continue
            if size > self._wanted[id]:
                raise RemoteProtocolError(
                    f"EBML: element {id:X} is larger than {self._wanted[id]} bytes"
                )
            end = start + size
            if end > len(buffer):
                break
            found.append((id, bytes(buffer[start:end])))
            position = end
        del buffer[:position]
        self._offset += position
        return found

    def _close(self, id: int, offset: int) -> None:
        """
        Close the masters that end at *offset*, where element *id* begins.
        """
        open = self._open
        while open and (
            open[-1].end == offset or (open[-1].unknown and id in self._masters[open[-1].id])
        ):
            open.pop()

    def _descend(self, id: int, size: int, start: int) -> None:
        if len(self._open) == MAX_DEPTH:
            raise RemoteProtocolError(f"EBML: more than {MAX_DEPTH} levels")
        limit = self._open[-1].end if self._open else _UNBOUNDED
        end = limit if size == _UNKNOWN else start + size
        if end > limit:
            raise RemoteProtocolError(f"EBML: element {id:X} is larger than its master")
        self._open.append(_Master(id, end, size == _UNKNOWN))

    def _check_skipped(self, id: int, size: int) -> None:
        if not self._open and id not in (VOID, CRC32):
            raise RemoteProtocolError(f"EBML: element {id:X} cannot stand by itself")
        if size > MAX_SKIPPED:
            raise RemoteProtocolError(f"EBML: element {id:X} is larger than {MAX_SKIPPED} bytes")


def children(data: bytes) -> list[tuple[int, bytes]]:
    """
    Return ID and payload of each element in the payload of a master.

    Raises:
        RemoteProtocolError: an element is malformed or incomplete.
    """
    found: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        header = _read_header(data, position)
        if header is None or header[1] == _UNKNOWN or header[2] + header[1] > len(data):
            raise RemoteProtocolError("EBML: an element is larger than its master")
        id, size, start = header
        position = start + size
        found.append((id, data[start:position]))
    return found


def read_number(data: bytes | bytearray, position: int) -> tuple[int, int] | None:
    """
    Read a variable-size integer (RFC 8794, 4).

    Returns:
        Its value and the position behind it; None if it is incomplete. A size whose bits
        are all ones, at any length, is -1: unknown.

    Raises:
        RemoteProtocolError: it has more than eight bytes.
    """
    if position >= len(data):
        return None
    length = 9 - data[position].bit_length()
    if length > 8:
        raise RemoteProtocolError("EBML: a number has more than eight bytes")
    end = position + length
    if end > len(data):
        return None
    ones = (1 << 7 * length) - 1
    value = int.from_bytes(data[position:end]) & ones
    return (_UNKNOWN if value == ones else value), end


def _read_header(data: bytes | bytearray, position: int) -> tuple[int, int, int] | None:
    """
    Return ID, size, and where the payload begins; None if they are incomplete.
    """
    if position >= len(data):
        return None
    length = 9 - data[position].bit_length()
    if length > 4:
        raise RemoteProtocolError("EBML: an element ID has more than four bytes")
    middle = position + length
    size = read_number(data, middle)
    if size is None:
        return None
    return int.from_bytes(data[position:middle]), *size


def unsigned(data: bytes) -> int:
    """
    Return the value of an unsigned integer element.

    Raises:
        RemoteProtocolError: it has more than eight bytes.
    """
    if len(data) > 8:
        raise RemoteProtocolError("EBML: an integer has more than eight bytes")
    return int.from_bytes(data)


def text(data: bytes) -> str:
    """
    Return the value of a string element, without the NUL bytes that pad it.
    """
    return data.split(b"\0", 1)[0].decode(errors="replace")


def element(id: int, payload: bytes) -> bytes:
    """
    Encode an element, its size in as few bytes as possible.
    """
    size = len(payload)
    length = 1
    while size >= (1 << 7 * length) - 1:
        length += 1
    coded = (size | 1 << 7 * length).to_bytes(length)
    return id.to_bytes((id.bit_length() + 7) // 8) + coded + payload


def unsigned_element(id: int, value: int) -> bytes:
    """
    Encode an unsigned integer element.
    """
    return element(id, value.to_bytes(max(1, (value.bit_length() + 7) // 8)))
