"""
Session descriptions (RFC 4566).
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.sdp import (
    MAX_MEDIA,
    MAX_SDP,
    MediaDescription,
    OfferedMedia,
    SessionDescription,
    parse_sdp,
    write_sdp,
)


def described(*lines: str) -> MediaDescription:
    [media] = parse_sdp("\n".join(lines).encode()).media
    return media


def test_a_description_of_an_encoder() -> None:
    """
    Encoding names and parameter names are in lower case.
    """
    media = described(
        "v=0",
        "a=control:rtsp://h/cam",
        "m=audio 0 RTP/AVP 97",
        "c=IN IP4 0.0.0.0",
        "a=rtpmap:97 OPUS/48000/1",
        "a=fmtp:97 sprop-stereo=1; Config=AB==;flag",
        "a=fmtp:98 other=1",
        "a=control:streamid=1",
    )

    parameters = {"sprop-stereo": "1", "config": "AB==", "flag": ""}
    assert media == MediaDescription("audio", 97, "opus", 48000, 1, parameters, "streamid=1")


def test_lines_that_are_short_or_empty() -> None:
    """
    Only what is needed is read.
    """
    data = (
        b"v=0\r\no=- 1001 1 IN\r\ns=\r\nc=IN\r\nt=\r\nx\r\na\r\nm=video 0 RTP/AVP\r\na=rtpmap\r\n"
    )

    assert parse_sdp(data).media == (MediaDescription("video", 0, "", 0),)


@pytest.mark.parametrize(
    ("kind", "encoding", "rate"),
    [(0, "pcmu", 8000), (8, "pcma", 8000), (14, "mpa", 90000), (26, "jpeg", 90000)],
)
def test_static_payload_types(kind: int, encoding: str, rate: int) -> None:
    """
    They need no attributes; the session's control precedes the media.
    """
    found = parse_sdp(f"a=control:*\nm=audio 0 RTP/AVP {kind} 96".encode())

    assert found == SessionDescription((MediaDescription("audio", kind, encoding, rate),), "*")


@pytest.mark.parametrize("line", ["a=framesize:96 640-480", "a=x-dimensions:640,480"])
def test_sizes(line: str) -> None:
    """
    By either attribute.
    """
    assert described("m=video 0 RTP/AVP 96", line).size == (640, 480)


@pytest.mark.parametrize("data", [b"", b"v=0", b"m=x\n" * (MAX_MEDIA + 1), bytes(MAX_SDP + 1)])
def test_bounds(data: bytes) -> None:
    """
    A description without media or with too many is refused, and one that is too large.
    """
    with pytest.raises(RemoteProtocolError):
        parse_sdp(data)


@given(st.text(alphabet="amv=:/ 0123456789rtpmapfm;\n\0\xff", max_size=200))
def test_no_description_raises_anything_else(text: str) -> None:
    """
    Whatever it has.
    """
    with suppress(RemoteProtocolError):
        parse_sdp(text.encode())


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_what_is_written_can_be_read(address: str) -> None:
    """
    No line is empty.
    """
    offered = OfferedMedia("video", 96, "H264/90000", "packetization-mode=1", "trackID=1")

    written = write_sdp(address, "7", [offered])

    assert not any(line.endswith("=") for line in written.decode().splitlines())
    parameters = {"packetization-mode": "1"}
    assert parse_sdp(written) == SessionDescription(
        (MediaDescription("video", 96, "h264", 90000, 1, parameters, "trackID=1"),), "*"
    )
