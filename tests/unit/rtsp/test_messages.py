"""
RTSP messages as bytes.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtsp.messages import (
    MAX_BODY,
    InterleavedPacket,
    MessageParser,
    RtspItem,
    RtspRequest,
    RtspResponse,
    write_interleaved,
    write_request,
    write_response,
)

RTP = b"\x80\x60" + bytes(10) + b"payload"
STREAM = (
    b"OPTIONS rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    + write_interleaved(0, RTP)
    + b"\r\nGET_PARAMETER rtsp://h/cam RTSP/1.0\nCSeq: 2\nContent-Length: 3\n\nabc"
    + write_interleaved(7, RTP)
    + b"RTSP/1.0 200 OK\r\nWWW-Authenticate: Basic\r\nWWW-Authenticate: Digest\r\n\r\n"
)


def parser() -> MessageParser:
    """
    Return a parser that has channels.
    """
    made = MessageParser()
    made.channels = frozenset((0, 1, 7))
    return made


def parsed(data: bytes, size: int = 1 << 20) -> list[RtspItem]:
    made = parser()
    found: list[RtspItem] = []
    for start in range(0, len(data), size):
        found += made.feed(data[start : start + size])
    return found


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_messages_and_packets(size: int) -> None:
    """
    However the bytes are split.
    """
    assert parsed(STREAM, size) == [
        RtspRequest("OPTIONS", "rtsp://h/cam", {"cseq": "1"}),
        InterleavedPacket(0, RTP),
        RtspRequest("GET_PARAMETER", "rtsp://h/cam", {"cseq": "2", "content-length": "3"}, b"abc"),
        InterleavedPacket(7, RTP),
        RtspResponse(200, {"www-authenticate": "Basic, Digest"}, b"", ("Basic", "Digest")),
    ]


def test_what_is_written_can_be_read() -> None:
    """
    Requests and responses, with a body and without.
    """
    request = write_request("ANNOUNCE", "rtsp://h/", [("CSeq", "1")], b"body")
    response = write_response(454, [("CSeq", "1")])

    first, second = MessageParser().feed(request + response)

    assert first == RtspRequest(
        "ANNOUNCE", "rtsp://h/", {"cseq": "1", "content-length": "4"}, b"body"
    )
    assert second == RtspResponse(454, {"cseq": "1"})
    assert response.startswith(b"RTSP/1.0 454 Session Not Found\r\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"OPTIONS rtsp://h/ RTSP/2.0\r\n\r\n", 505),
        (b"OPTIONS rtsp://h/ HTTP/1.1\r\n\r\n", 400),
        (b"OPTIONS rtsp://h/\r\n\r\n", 400),
        (b"OPTIONS * RTSP/1.0\r\nno colon\r\n\r\n", 400),
        (b"OPTIONS * RTSP/1.0\r\n folded\r\n\r\n", 400),
        (b"OPTIONS * RTSP/1.0\r\nContent-Length: -1\r\n\r\n", 400),
        (b"OPTIONS * RTSP/1.0\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1), 413),
        (b"OPTIONS * RTSP/1.0\r\n" + b"a: b\r\n" * 101 + b"\r\n", 400),
        (b"OPTIONS * RTSP/1.0\r\na: b\r\n" + b" b\r\n" * 100 + b"\r\n", 400),
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\rX: y\r\n\r\n", 400),
        (b"OPTIONS * RTSP/1.0\r\nUser-Agent: \0\r\n\r\n", 400),
        (b"OPTIONS rtsp://h/\x1b[2J RTSP/1.0\r\n\r\n", 400),
        (b"OPTIONS /" + b"a" * 9000, 414),
        (b"OPTIONS * RTSP/1.0\r\na: " + b"a" * 70000, 400),
        (b"RTSP/1.0 abc\r\n\r\n", 400),
    ],
)
def test_malformed_messages(data: bytes, status: int) -> None:
    """
    The error has the status to send.
    """
    with pytest.raises(RemoteProtocolError) as error:
        MessageParser().feed(data)
    assert error.value.status == status


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_garbage_is_skipped(size: int) -> None:
    """
    Up to a packet that looks like RTP on a known channel, or up to a start line.
    """
    garbage = b"\0\1$\2\0\4abcd$\0\0\4\1bcdxyz$"
    made = parser()
    found: list[RtspItem] = []
    data = garbage + write_interleaved(0, RTP) + garbage + b"OPTIONS * RTSP/1.0\r\n\r\n"
    for start in range(0, len(data), size):
        found += made.feed(data[start : start + size])

    assert found == [InterleavedPacket(0, RTP), RtspRequest("OPTIONS", "*", {})]
    assert made.skipped == 2 * len(garbage)


def test_what_precedes_an_error_is_found() -> None:
    """
    The packets and messages before it, in the same segment.
    """
    found: list[RtspItem] = []
    with pytest.raises(RemoteProtocolError):
        parser().feed(STREAM + b"OPTIONS * RTSP/3.0\r\n\r\n", found)

    assert found == parsed(STREAM)


def test_many_short_messages_between_garbage() -> None:
    """
    The search for the next start is linear: it does not look at the whole rest each time.
    """
    count = 30_000
    data = b"PLAY * RTSP/1.0\n\n\0" * count

    assert len(parsed(data, 1 << 30)) == count


def test_too_much_garbage() -> None:
    """
    The connection cannot be used any more.
    """
    made = parser()
    made.feed(bytes(60_000))
    with pytest.raises(RemoteProtocolError):
        made.feed(bytes(10_000))


@given(st.lists(st.binary(max_size=40) | st.sampled_from([STREAM, b"$\0\0\x08\x80", b"PLAY "])))
def test_no_input_raises_anything_else(pieces: list[bytes]) -> None:
    """
    The parser raises its own error, or returns items.
    """
    made = parser()
    try:
        for piece in pieces:
            made.feed(piece)
    except RemoteProtocolError as error:
        assert error.status in (400, 413, 414, 505)


@given(st.binary(max_size=200), st.integers(1, 20))
def test_the_split_does_not_matter_for_messages(noise: bytes, size: int) -> None:
    """
    What is found is the same for whole input and for pieces.
    """
    data = STREAM + noise.replace(b"$", b"").replace(b" ", b"") + STREAM
    try:
        whole = parsed(data)
    except RemoteProtocolError:
        return
    assert parsed(data, size) == whole
