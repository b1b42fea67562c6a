"""
The chunk stream: every form of a header, however it is split, and hostile.
"""

from __future__ import annotations

import contextlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtmp.chunks import (
    MAX_CHUNK_STREAMS,
    MAX_COMMAND,
    ChunkReader,
    RtmpMessage,
    write_message,
)

VIDEO = 9
FIRST = "04 000010 000003 09 01000000 616263"  # form 0: time 16, three bytes of video


def read(data: bytes, step: int = 0, reader: ChunkReader | None = None) -> list[RtmpMessage]:
    """
    Return the messages in *data*, read as a whole or *step* bytes at a time.
    """
    reader = reader or ChunkReader()
    if not step:
        return reader.feed(data)
    found: list[RtmpMessage] = []
    for start in range(0, len(data), step):
        found += reader.feed(data[start : start + step])
    return found


def message(time: int, payload: bytes = b"abc", type: int = VIDEO) -> RtmpMessage:
    return RtmpMessage(type, 1, time, payload)


def size_of_chunks(size: int) -> bytes:
    return bytes.fromhex("02 000000 000004 01 00000000") + size.to_bytes(4)


LONG = bytes(range(256)) + b"tail"

TABLE = [
    ("absolute", FIRST, [message(16)]),
    ("a step, another length", f"{FIRST} 44 000005 000002 08 6465", [
        message(16), message(21, b"de", 8)]),
    ("a step", f"{FIRST} 84 000005 646566", [message(16), message(21, b"def")]),
    ("the same step", f"{FIRST} 84 000005 646566 c4 676869", [
        message(16), message(21, b"def"), message(26, b"ghi")]),
    ("the timestamp is the step", f"{FIRST} c4 646566", [message(16), message(32, b"def")]),
    ("ids of two bytes", "00 06 000010 000003 09 01000000 616263 c0 06 646566", [
        message(16), message(32, b"def")]),
    ("ids of three bytes", "01 06 01 000010 000003 09 01000000 616263 c1 06 01 646566", [
        message(16), message(32, b"def")]),
    ("nothing", "04 000010 000000 09 01000000 84 000001", [message(16, b""), message(17, b"")]),
    ("two streams", f"05 000001 000001 08 01000000 61 {FIRST} 85 000002 62", [
        message(1, b"a", 8), message(16), message(3, b"b", 8)]),
    ("an extended timestamp", "04 ffffff 000003 09 01000000 01000000 616263", [message(1 << 24)]),
    ("an extended step", f"{FIRST} 84 ffffff 01000000 646566", [
        message(16), message(16 + (1 << 24), b"def")]),
    ("no step is an extended timestamp",
        "04 ffffff 000003 09 01000000 01000000 616263 c4 646566", [
        message(1 << 24), message(1 << 24, b"def")]),
    ("repeated by the next message",
        "04 ffffff 000003 09 01000000 01000000 616263 c4 01000000 646566", [
        message(1 << 24), message(1 << 24, b"def")]),
    ("the clock wraps", "04 ffffff 000003 09 01000000 ffffffff 616263 84 000002 646566", [
        message(2**32 - 1), message(1, b"def")]),
]  # fmt: skip


@pytest.mark.parametrize("step", [0, 1, 2, 5])
@pytest.mark.parametrize(
    ("wire", "expected"), [row[1:] for row in TABLE], ids=[r[0] for r in TABLE]
)
def test_headers(wire: str, expected: list[RtmpMessage], step: int) -> None:
    """
    Headers leave out what the one before them has said, however the bytes are split.
    """
    assert read(bytes.fromhex(wire), step) == expected


@pytest.mark.parametrize("step", [0, 1, 7])
@pytest.mark.parametrize("size", [1, 3, 128, 129, 4096, 65536, 1 << 20])
@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize("extended", [True, False])
def test_sizes_of_chunks(size: int, step: int, repeated: bool, extended: bool) -> None:
    """
    Senders choose the size. Behind an extended timestamp, ffmpeg and OBS repeat it in each
    chunk, and rtmpdump does not.
    """
    time = b"\x12\x34\x56\x78" if extended else b""
    head = b"\x04" + (b"\xff\xff\xff" if extended else b"\0\0\x10")
    head += len(LONG).to_bytes(3) + b"\x09\x01\0\0\0" + time
    between = b"\xc4" + (time if repeated else b"")
    pieces = [LONG[start : start + size] for start in range(0, len(LONG), size)]
    wire = (
        size_of_chunks(size) + head + between.join(pieces) + bytes.fromhex("84 000001") + LONG[:1]
    )

    assert read(wire, step) == [message(0x12345678 if extended else 16, LONG)]


def test_chunks_of_several_messages_alternate() -> None:
    """
    Audio goes between the chunks of a large picture.
    """
    video = bytes.fromhex("04 000010 0000c8 09 01000000") + bytes(128)
    audio = bytes.fromhex("05 000011 000001 08 01000000 61")

    found = read(video + audio + b"\xc4" + bytes(72))

    assert found == [message(17, b"a", 8), message(16, bytes(200))]


def test_a_message_is_aborted() -> None:
    """
    After an abort the chunk stream begins another message.
    """
    video = bytes.fromhex("04 000010 0000c8 09 01000000") + bytes(128)
    abort = bytes.fromhex("02 000000 000004 02 00000000 00000004")

    found = read(video + abort + bytes.fromhex(FIRST))

    assert found == [message(16)]


@pytest.mark.parametrize(
    "wire",
    [
        "c4 00",  # continues nothing
        "84 000010 616263",  # refers to no header
        "02 000000 000004 01 00000000 00000000",  # chunks of 0 bytes
        "02 000000 000004 01 00000000 80000000",
        "02 000000 000002 01 00000000 0000",
        "02 000000 000004 00 00000000 00000000",
        "04 000010 ffffff 09 01000000 61",  # larger than a command
        "04 000010 0000c8 09 01000000 " + "00" * 128 + FIRST,  # before the last one has ended
    ],
)
def test_broken_streams_are_refused(wire: str) -> None:
    """
    A header that continues nothing, or a size out of its bounds, ends the connection.
    """
    with pytest.raises(RemoteProtocolError):
        read(bytes.fromhex(wire))


def test_the_number_of_chunk_streams_is_bounded() -> None:
    """
    Each chunk stream has a state of its own.
    """
    heads = [bytes((4 + id,)) + bytes.fromhex("000010 000001 09 01000000 61") for id in range(17)]

    assert len(read(b"".join(heads[:MAX_CHUNK_STREAMS]))) == MAX_CHUNK_STREAMS
    with pytest.raises(RemoteProtocolError):
        read(b"".join(heads))


def test_incomplete_messages_are_bounded_together() -> None:
    """
    Sixteen chunk streams do not hold sixteen times the largest message.
    """
    reader = ChunkReader()
    part = MAX_COMMAND // 2
    wire = size_of_chunks(part)
    for id in range(16):
        wire += (
            bytes((4 + id,)) + b"\0\0\0" + MAX_COMMAND.to_bytes(3) + b"\x09\1\0\0\0" + bytes(part)
        )

    with pytest.raises(RemoteProtocolError):
        reader.feed(wire)


def test_many_messages_of_one_byte() -> None:
    """
    A message without a payload and without a header is one byte: there may be few of them.
    """
    empty = bytes.fromhex("03 000000 000000 14 00000000")
    assert len(read(empty + b"\xc3" * 200)) == 201

    with pytest.raises(RemoteProtocolError):
        read(empty + b"\xc3" * 1000)


def test_many_small_frames() -> None:
    """
    Frames of silence that have waited arrive as one.
    """
    assert len(read(bytes.fromhex(FIRST) + bytes.fromhex("c4 616263") * 500)) == 501


PAYLOADS = st.binary(max_size=600)


@given(
    st.lists(st.tuples(st.integers(0, 0xFFFFFE), PAYLOADS), max_size=5),
    st.integers(1, 700),
    st.integers(1, 50),
)
def test_what_is_written_is_read(parts: list[tuple[int, bytes]], chunk: int, step: int) -> None:
    """
    Messages come back as they were, whatever the sizes of chunks and of reads.
    """
    messages = [message(time, payload) for time, payload in parts]
    wire = b"".join([write_message(each, chunk, 4) for each in messages])

    assert read(size_of_chunks(chunk) + wire, step) == messages


@given(
    st.lists(st.tuples(st.sampled_from([4, 5]), st.binary(max_size=300)), min_size=1, max_size=6),
    st.integers(1, 40),
    st.booleans(),
    st.randoms(),
    st.integers(1, 400),
)
def test_chunks_that_alternate_are_read(
    parts: list[tuple[int, bytes]],
    chunk: int,
    extended: bool,
    random: Random,
    step: int,
) -> None:
    """
    Chunks of two messages in any order, however small, come back as they were.
    """
    queues: dict[int, list[bytes]] = {4: [], 5: []}
    for id, payload in parts:
        header = bytes((id,)) + b"\xff\xff\xff" + len(payload).to_bytes(3) + b"\x09\1\0\0\0"
        header = header + b"\1\0\0\0" if extended else header.replace(b"\xff", b"\0")
        again = bytes((0xC0 | id,)) + (b"\1\0\0\0" if extended else b"")
        queues[id].append(header + payload[:chunk])
        for start in range(chunk, len(payload), chunk):
            queues[id].append(again + payload[start : start + chunk])
    wire = size_of_chunks(chunk)
    while queues[4] or queues[5]:
        wire += random.choice([each for each in queues.values() if each]).pop(0)

    found = read(wire, step)

    time = 1 << 24 if extended else 0
    expected = [message(time, payload) for _, payload in parts]
    assert sorted(found, key=str) == sorted(expected, key=str)


def test_a_large_message_in_chunks_of_one_byte() -> None:
    """
    Each byte has a header of its own, and none is read by itself.
    """
    payload = bytes(range(256)) * 200
    wire = size_of_chunks(1) + write_message(message(16, payload), 1, 4)

    assert read(wire) == [message(16, payload)]


def test_alternating_chunks_of_one_byte_are_bounded() -> None:
    """
    Two messages whose chunks alternate, a byte each, would cost most.
    """
    head = "000010 00ffff 09 01000000 00"
    wire = size_of_chunks(1) + bytes.fromhex(f"04 {head} 05 {head}") + b"\xc4\0\xc5\0" * 5000

    with pytest.raises(RemoteProtocolError, match="small chunks"):
        read(wire)


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_no_input_raises_another_error(pieces: list[bytes]) -> None:
    """
    Only the codecs' error is raised.
    """
    reader = ChunkReader()
    with contextlib.suppress(RemoteProtocolError):
        for piece in pieces:
            reader.feed(piece)
