"""
Session descriptions (RFC 4566), as far as RTSP needs them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_SDP = 64 * 1024  # bytes
MAX_MEDIA = 16  # media sections
MAX_RATE = 2**31  # of a clock

# Static payload types (RFC 3551, table 4 and 5): encoding name, clock rate, channels.
_STATIC = {
    0: ("pcmu", 8000, 1),
    8: ("pcma", 8000, 1),
    14: ("mpa", 90000, 1),
    26: ("jpeg", 90000, 1),
}


@dataclass(frozen=True, slots=True)
class MediaDescription:
    """
    One media section, with the first of its payload types.

    Args:
        kind: `video`, `audio`, or another word.
        payload_type: 0 to 127.
        encoding: the encoding name in lower case; "" if the section does not say.
        rate: of the RTP clock; 0 if the section does not say.
        channels: of audio; 1 if the section does not say.
        parameters: of `a=fmtp`; the names in lower case.
        control: of `a=control`; "" if the section has none.
        size: of `a=framesize` or `a=x-dimensions`; (0, 0) without.
    """

    kind: str
    payload_type: int
    encoding: str
    rate: int
    channels: int = 1
    parameters: Mapping[str, str] = field(default_factory=dict)
    control: str = ""
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """
    What RTSP needs of a session description.

    Args:
        media: its media sections, at most MAX_MEDIA.
        control: of `a=control` before the first media section; "" without.
    """

    media: tuple[MediaDescription, ...]
    control: str = ""


def parse_sdp(data: bytes) -> SessionDescription:
    """
    Parse a session description. Lines that RTSP does not need are skipped, however malformed.

    Raises:
        RemoteProtocolError: it is too large, has too many media sections, or none.
    """
    if len(data) > MAX_SDP:
        raise RemoteProtocolError(f"the SDP is larger than {MAX_SDP} bytes", 413)
    control = ""
    sections: list[_Section] = []
    for line in data.decode("utf-8", "replace").replace("\r", "\n").split("\n"):
        kind, equals, value = line.strip().partition("=")
        if not equals:
            continue
        if kind == "m":
            if len(sections) == MAX_MEDIA:
                raise RemoteProtocolError(f"the SDP has more than {MAX_MEDIA} media sections")
            sections.append(_Section(value))
        elif kind == "a":
            name, _, text = value.partition(":")
            name = name.strip().lower()
            if sections:
                sections[-1].attribute(name, text.strip())
            elif name == "control":
                control = text.strip()
    if not sections:
        raise RemoteProtocolError("the SDP has no media section")
    return SessionDescription(tuple([section.described() for section in sections]), control)


class _Section:
    """
    A media section while it is parsed.

    Args:
        line: the value of `m=`.
    """

    def __init__(self, line: str) -> None:
        words = line.split()
        self._kind = words[0].lower() if words else ""
        self._type = _number(words[3], 127) if len(words) > 3 else None
        self._maps: dict[int, str] = {}
        self._formats: dict[int, str] = {}
        self._control = ""
        self._size = (0, 0)

    def attribute(self, name: str, text: str) -> None:
        """
        Take note of an attribute.
        """
        if name == "control":
            self._control = text
        elif name in ("rtpmap", "fmtp"):
            number, _, rest = text.partition(" ")
            kind = _number(number, 127)
            if kind is not None:
                (self._maps if name == "rtpmap" else self._formats)[kind] = rest.strip()
        elif name == "framesize":
            self._size = _size(text.partition(" ")[2].replace("-", ","))
        elif name == "x-dimensions":
            self._size = _size(text)

    def described(self) -> MediaDescription:
        """
        Return the section.
        """
        kind = self._type if self._type is not None else 0
        encoding, rate, channels = (
            _STATIC.get(kind, ("", 0, 1))
            if self._type is not None
            else (
                "",
                0,
                1,
            )
        )
        mapped = self._maps.get(kind, "") if self._type is not None else ""
        if mapped:
            name, *numbers = [part.strip() for part in mapped.split("/")]
            encoding = name.lower()
            rate = (_number(numbers[0], MAX_RATE) or rate) if numbers else rate
            channels = (_number(numbers[1], 255) or 1) if len(numbers) > 1 else 1
        return MediaDescription(
            self._kind,
            kind,
            encoding,
            rate,
            channels,
            _parameters(self._formats.get(kind, "")),
            self._control,
            self._size,
        )


def _parameters(text: str) -> dict[str, str]:
    found = {}
    for part in text.split(";"):
        name, _, value = part.strip().partition("=")
        if name:
            found[name.strip().lower()] = value.strip()
    return found


def _size(text: str) -> tuple[int, int]:
    numbers = [_number(part.strip(), 65535) for part in text.split(",")]
    if len(numbers) == 2 and numbers[0] and numbers[1]:
        return numbers[0], numbers[1]
    return 0, 0


def _number(text: str, most: int) -> int | None:
    if text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most:
        return int(text)
    return None


@dataclass(frozen=True, slots=True)
class OfferedMedia:
    """
    A media section that is written.

    Args:
        kind: `video` or `audio`.
        payload_type: 0 to 127.
        mapping: the value of `a=rtpmap`, such as `H264/90000`.
        parameters: the value of `a=fmtp`; "" for none.
        control: the value of `a=control`.
    """

    kind: str
    payload_type: int
    mapping: str
    parameters: str
    control: str


def write_sdp(address: str, session: str, media: Iterable[OfferedMedia]) -> bytes:
    """
    Return a session description for players.

    Args:
        address: of the server, as an IP address.
        session: digits that name the session.
        media: its media sections.
    """
    family = "IP6" if ":" in address else "IP4"
    anywhere = "::" if ":" in address else "0.0.0.0"
    lines = [
        "v=0",
        f"o=- {session} 1 IN {family} {address}",
        "s=Live",
        f"c=IN {family} {anywhere}",
        "t=0 0",
        "a=range:npt=now-",
        "a=control:*",
    ]
    for one in media:
        lines += [
            f"m={one.kind} 0 RTP/AVP {one.payload_type}",
            f"a=rtpmap:{one.payload_type} {one.mapping}",
        ]
        if one.parameters:
            lines.append(f"a=fmtp:{one.payload_type} {one.parameters}")
        lines.append(f"a=control:{one.control}")
    return "".join([line + "\r\n" for line in lines]).encode()
