"""
What a listener of Icecast or SHOUTcast is sent: a response head, then audio with titles in it.

Servers answer `HTTP/1.0 200 OK` or `ICY 200 OK`. After each `icy-metaint` bytes of audio comes
one byte n, then n * 16 bytes of text, such as `StreamTitle='Artist - Title';`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError

_STATUS = re.compile(rb"(?:HTTP/1\.[01]|ICY) (\d{3})(?: |\r|\n)")
_TITLE = re.compile(rb"StreamTitle='(.*?)';", re.DOTALL)
_END = re.compile(rb"\r?\n\r?\n")


def read_icy_response(data: bytes, limit: int) -> tuple[dict[str, str], bytes] | None:
    """
    Return the headers of a response, by lower-case name, and the bytes behind them.

    Args:
        data: from the start of the connection on.
        limit: bytes of a head.

    Returns:
        None if *data* has not all of the head.

    Raises:
        RemoteProtocolError: the status is not 200, or the head is malformed or too long.
    """
    end = _END.search(data, 0, limit)
    if end is None:
        if len(data) >= limit:
            raise RemoteProtocolError("the head of the response is too long")
        return None
    head = data[: end.start()]
    status = _STATUS.match(data)
    if status is None:
        raise RemoteProtocolError("the response is not one of HTTP or ICY")
    if status[1] != b"200":
        raise RemoteProtocolError(f"the server answered {status[1].decode()}")
    headers: dict[str, str] = {}
    for line in head.decode("latin-1").splitlines()[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.strip().lower(), value.strip())
    return headers, data[end.end() :]


@dataclass(frozen=True, slots=True)
class IcyTitle:
    """
    A title in a stream.

    Args:
        text: in any character set.
    """

    text: bytes


class IcyReader:
    """
    Separates audio and titles.

    Args:
        interval: `icy-metaint`; 0 for a stream without titles.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._left = interval  # bytes of audio up to the next block
        self._block = b""  # received of the block, with its length in front

    def feed(self, data: bytes) -> list[bytes | IcyTitle]:
        """
        Return the audio and the titles in *data*, in order. Empty titles are left out.
        """
        if not self._interval:
            return [data] if data else []
        found: list[bytes | IcyTitle] = []
        at = 0
        while at < len(data):
            if self._left:
                piece = data[at : at + self._left]
                found.append(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            size = 1 + 16 * (self._block or data[at : at + 1])[0]
            missing = size - len(self._block)
            self._block += data[at : at + missing]
            at += missing
            if len(self._block) == size:
                title = _TITLE.search(self._block)
                if title is not None and title[1]:
                    found.append(IcyTitle(title[1]))
                self._block, self._left = b"", self._interval
        return found
