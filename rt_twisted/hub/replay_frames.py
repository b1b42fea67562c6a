"""
What a subscriber is sent when it joins, encoded piece by piece as it is sent.

A replay may have megabytes, and a client that does not read may have requested it. So a
subscriber queues references to messages, which all subscribers share. A piece is
encoded only when there is room to send it.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from weakref import WeakValueDictionary

from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position

PIECE = 16384  # bytes that are joined for one send(2); a large frame is a piece by itself


class SharedFrame:
    """
    A large message in one format, shared by all subscribers that it is being sent to.

    Args:
        data: the encoded message.
    """

    __slots__ = ("__weakref__", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data


SharedFrames = MutableMapping[tuple[IFormat, Position], SharedFrame]


def shared_frames() -> SharedFrames:
    """
    Return an empty table of frames; each entry lives while a replay is sending it.
    """
    return WeakValueDictionary()


class ReplayFrames:
    """
    The rest of a replay that one subscriber has not been sent yet.

    Frames smaller than PIECE are encoded anew for each subscriber and joined, which
    costs less than to look them up; larger ones are encoded once.

    Args:
        format: encodes the messages.
        items: in order: frames as bytes, and messages.
        shared: the large frames of all replays.
    """

    __slots__ = ("_format", "_frame", "_items", "_left", "_next", "_piece", "_shared")

    def __init__(
        self, format: IFormat, items: Sequence[bytes | Message], shared: SharedFrames
    ) -> None:
        self._format = format
        self._items = items
        self._shared = shared
        self._next = 0  # index of the first item that is in no piece yet
        self._left = -1  # bytes of the items from there on; -1: not computed yet
        self._piece: memoryview | bytes = b""  # what is left of the current piece
        self._frame: SharedFrame | None = None  # a reference keeps a shared frame alive

    def __len__(self) -> int:
        """
        Return about how many bytes are left: messages count before they are encoded.
        """
        if self._left < 0:
            self._left = sum(map(_size, self._items[self._next :]))
        return len(self._piece) + self._left

    def __bool__(self) -> bool:
        """
        Return whether something is left.
        """
        return bool(self._piece) or self._next < len(self._items)

    def piece(self) -> memoryview | bytes:
        """
        Return the next bytes to send, b"" at the end; the same until `sent` is called.
        """
        while not self._piece and self._next < len(self._items):
            self._piece = self._next_piece()
        return self._piece

    def sent(self, size: int) -> None:
        """
        Note that the first *size* bytes of the current piece are sent.
        """
        piece = self._piece
        if size == len(piece):
            self._piece, self._frame = b"", None
        else:
            self._piece = memoryview(piece)[size:]

    def _next_piece(self) -> bytes:
        items, encode = self._items, self._format.encode
        first = index = self._next
        frames: list[bytes] = []
        total = 0
        while total < PIECE and index < len(items):
            item = items[index]
            if isinstance(item, bytes):
                frame = item
            elif len(item.data) < PIECE:
                frame = encode(item)
            elif frames:
                break
            else:
                self._frame = self._encode(item)
                frame, total = self._frame.data, PIECE
            index += 1
            frames.append(frame)
            total += len(frame)
        self._next = index
        if self._left >= 0:
            self._left -= sum(map(_size, items[first:index]))
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _encode(self, message: Message) -> SharedFrame:
        key = (self._format, message.position)
        frame = self._shared.get(key)
        if frame is None:
            frame = self._shared[key] = SharedFrame(self._format.encode(message))
        return frame


def _size(item: bytes | Message) -> int:
    return len(item if isinstance(item, bytes) else item.data)
