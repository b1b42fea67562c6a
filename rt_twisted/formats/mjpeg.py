"""
Motion JPEG as browsers show it in an `<img>`: a multipart body that replaces its picture.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.formats.live import read_live, refusal
from rt_twisted.media.jpeg import is_picture
from rt_twisted.media.unit import Head
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

BOUNDARY = "frame"

_BOUNDARY = re.compile(r"[0-9A-Za-z'()+_,./:=?-]{1,70}")  # RFC 2046, 5.1.1, without blanks


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class MotionJpeg:
    """
    Encodes each picture of a live stream, and each message that is a JPEG, as one part.

    The header of the next part follows each picture: browsers show a picture when they
    receive what is behind it. So parts have no Content-Length.

    Args:
        boundary: between parts.

    Raises:
        ValueError: it has other characters than those of a boundary, or more than 70.
    """

    boundary: str = BOUNDARY

    heartbeat = b""

    def __post_init__(self) -> None:
        if not _BOUNDARY.fullmatch(self.boundary):
            raise ValueError("boundary= has up to 70 letters, digits and '()+_,-./:=?")

    @property
    def content_type(self) -> str:
        token = re.fullmatch(r"[0-9A-Za-z'+_.-]+", self.boundary)
        boundary = self.boundary if token else f'"{self.boundary}"'
        return f"multipart/x-mixed-replace; boundary={boundary}"

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return [self._header(), *replay.messages]

    def encode(self, message: Message) -> bytes:
        # A picture with the boundary in it could add parts of any type.
        if not _has_picture(message) or self._delimiter() in message.data:
            return b""
        return b"%b\r\n%b" % (message.data, self._header())

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""

    def is_resync_point(self, message: Message) -> bool:
        # The head of a stream without pictures: subscribers are refused, see `check`.
        return _has_picture(message) or bool(_other_codecs(message))

    def must_restart(self, message: Message) -> bool:
        return bool(_other_codecs(message))

    def resumed(self, last: Message | None, first: Message) -> MotionJpeg:
        return self

    def _delimiter(self) -> bytes:
        return b"--" + self.boundary.encode()

    def _header(self) -> bytes:
        return self._delimiter() + b"\r\nContent-Type: image/jpeg\r\n\r\n"


def check_pictures(first: Message) -> None:
    """
    Check that a stream which begins with *first* has pictures.

    Args:
        first: a resync point of `MotionJpeg`.

    Raises:
        HttpError: 415, it has not. The sentence names the route word of a format that can
            carry it.
    """
    codecs = _other_codecs(first)
    if codecs:
        raise HttpError(415, refusal(codecs[0], "MJPEG"))


def _has_picture(message: Message) -> bool:
    mark = message.mark
    return (mark is Mark.UNIT or mark is Mark.NONE) and is_picture(message.data)


def _other_codecs(message: Message) -> list[str]:
    """
    Return the codecs of a head of a stream without pictures; none for all other messages.
    """
    head = read_live(message) if message.mark is Mark.HEAD else None
    codecs = [track.codec for track in head.tracks] if isinstance(head, Head) else []
    return [] if "jpeg" in codecs else codecs
