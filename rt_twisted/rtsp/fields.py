"""
The fields of RTSP messages: Transport, Session, and the URLs of tracks (RFC 2326, 12 and C.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_SPECIFICATIONS = 16  # of one Transport field
MAX_URL = 8192  # characters

_URL = re.compile(r"(?:rtsps?|https?)(?:u)?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_CHANNELS = re.compile(r"(\d{1,3})(?:-(\d{1,3}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TransportSpecification:
    """
    One of the transports that a client offers.

    Args:
        interleaved: it is TCP, on this connection.
        channels: of RTP and RTCP; None if the server chooses them.
        mode: `play` or `record`; "" if the client does not say.
    """

    interleaved: bool
    channels: tuple[int, int] | None
    mode: str


def parse_transport(text: str) -> list[TransportSpecification]:
    """
    Parse a Transport field (RFC 2326, 12.39).

    Raises:
        RemoteProtocolError: 461, a number of a channel is malformed; 400, it is too long.
    """
    found = []
    specifications = _split(text, ",")
    if len(specifications) > MAX_SPECIFICATIONS:
        raise RemoteProtocolError("the Transport has too many specifications")
    for specification in specifications:
        name, *parameters = [part.strip() for part in _split(specification, ";")]
        words = name.upper().split("/")
        interleaved = words[:2] == ["RTP", "AVP"] and words[2:] == ["TCP"]
        channels = None
        mode = ""
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            value = value.strip().strip('"')
            if key.strip().lower() == "interleaved" and interleaved:
                channels = _channels(value)
            elif key.strip().lower() == "mode":
                mode = value.lower()
        found.append(TransportSpecification(interleaved, channels, mode))
    return found


def choose_transport(text: str) -> TransportSpecification:
    """
    Return the first interleaved transport of a Transport field.

    Raises:
        RemoteProtocolError: 461, there is none.
    """
    for specification in parse_transport(text):
        if specification.interleaved:
            return specification
    raise RemoteProtocolError("only RTP/AVP/TCP;interleaved is supported", 461)


def _channels(text: str) -> tuple[int, int]:
    found = _CHANNELS.fullmatch(text)
    if found is None:
        raise RemoteProtocolError("the channels of the Transport are malformed", 461)
    first = int(found[1])
    second = int(found[2]) if found[2] else first + 1
    if first > 255 or second > 255 or first == second:
        raise RemoteProtocolError("the channels of the Transport are malformed", 461)
    return first, second


def _split(text: str, separator: str) -> list[str]:
    """
    Split at each separator that is not within quotes.
    """
    if '"' not in text:
        return text.split(separator)
    parts = []
    start = 0
    quoted = False
    for index, character in enumerate(text):
        if character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def session_of(text: str) -> str:
    """
    Return the id of a Session field, without what clients send back behind it.
    """
    return text.partition(";")[0].strip()


@dataclass(frozen=True, slots=True)
class RtspUrl:
    """
    The parts of a request's URL.

    Args:
        host: with the port, as the client wrote it; "" if the URL is a path alone.
        path: percent-decoded, with a slash at the start and none at the end.
        query: as received.
    """

    host: str
    path: str
    query: str


def parse_url(url: str) -> RtspUrl:
    """
    Parse the URL of a request. A path behind the query belongs to the path.

    ffmpeg appends the name of a track to the query of its URL.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    if url == "*":
        return RtspUrl("", "*", "")
    if url.startswith("/"):
        host, rest = "", url
    else:
        found = _URL.fullmatch(url)
        if found is None or len(url) > MAX_URL:
            raise RemoteProtocolError("the URL is malformed")
        host, rest = found[1].rpartition("@")[2], found[2]
    path, _, query = rest.partition("#")[0].partition("?")
    query, slash, tail = query.partition("/")
    if slash and tail:
        path = f"{path.rstrip('/')}/{tail}"
    decoded = unquote(path, errors="surrogateescape").rstrip("/") or "/"
    return RtspUrl(host, decoded if decoded.startswith("/") else "/" + decoded, query)


def find_track(url: RtspUrl, base: str, controls: Sequence[str]) -> int | None:
    """
    Return the index of the track that a SETUP names; None if there is no such track.

    A track is found by the end of its `a=control` value; the base URL names the only track.

    Args:
        url: of the SETUP.
        base: the path of the presentation.
        controls: the `a=control` value of each track; "" for none.
    """
    path = url.path
    wanted = [_tail(control) for control in controls]
    found = [
        index
        for index, tail in enumerate(wanted)
        if tail and (path.endswith("/" + tail) or path.lstrip("/") == tail)
    ]
    if found:
        return max(found, key=lambda index: len(wanted[index]))
    if len(controls) == 1 and path == base:
        return 0
    return None


def _tail(control: str) -> str:
    """
    Return what the path of a track's URL ends with.
    """
    if control in ("", "*"):
        return ""
    if "://" in control:
        try:
            return parse_url(control).path.strip("/")
        except RemoteProtocolError:
            return ""
    path, _, query = control.partition("?")
    tail = query.partition("/")[2]
    return unquote(f"{path}/{tail}" if tail else path, errors="surrogateescape").strip("/")


def free_channels(used: Iterable[int]) -> tuple[int, int]:
    """
    Return the first even pair of channels of which none is used.

    Raises:
        RemoteProtocolError: 453, all are used.
    """
    taken = set(used)
    for first in range(0, 256, 2):
        if not taken & {first, first + 1}:
            return first, first + 1
    raise RemoteProtocolError("no interleaved channels are left", 453)
