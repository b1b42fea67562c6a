"""
Streams of other servers: their heads, and titles between the audio.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.icy_client import IcyReader, IcyTitle, read_icy_response
from rt_twisted.media.icy import title_block


@pytest.mark.parametrize("first", [b"HTTP/1.0 200 OK", b"HTTP/1.1 200 OK", b"ICY 200 OK"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
def test_a_head_is_read(first: bytes, end: bytes) -> None:
    """
    Icecast and SHOUTcast begin differently.
    """
    data = end.join([first, b"icy-name: R\xe4dio", b"icy-metaint:16000", b"", b"audio"])
    for size in range(len(data) - 5):
        assert read_icy_response(data[:size], 1000) is None

    headers = {"icy-name": "Rädio", "icy-metaint": "16000"}
    assert read_icy_response(data, 1000) == (headers, b"audio")


@pytest.mark.parametrize(
    "data", [b"HTTP/1.0 404 x\r\n\r\n", b"HTTP/1.0 302 x\r\n\r\n", b"what\n\n", b"x" * 100]
)
def test_another_head_is_refused(data: bytes) -> None:
    """
    A relay tries again later.
    """
    with pytest.raises(RemoteProtocolError):
        read_icy_response(data, 100)


@given(st.binary(max_size=200), st.integers(1, 50), st.lists(st.integers(1, 40)))
def test_titles_are_separated(audio: bytes, interval: int, cuts: list[int]) -> None:
    """
    However the stream is cut.
    """
    stream = b""
    for number, start in enumerate(range(0, len(audio), interval)):
        piece = audio[start : start + interval]
        stream += piece
        if len(piece) == interval:
            stream += b"\0" if number % 2 else title_block(f"title {number}")
    reader = IcyReader(interval)
    found: list[bytes | IcyTitle] = []
    for size in cuts:
        found += reader.feed(stream[:size])
        stream = stream[size:]
    found += reader.feed(stream)

    assert b"".join([one for one in found if isinstance(one, bytes)]) == audio
    titles = [one.text for one in found if isinstance(one, IcyTitle)]
    assert titles == [b"title %d" % n for n in range(0, len(audio) // interval, 2)]


@given(st.binary(max_size=300), st.integers(0, 20))
def test_any_bytes_are_read(data: bytes, interval: int) -> None:
    """
    No stream raises another error.
    """
    IcyReader(interval).feed(data)
    with suppress(RemoteProtocolError):
        read_icy_response(data, 100)
