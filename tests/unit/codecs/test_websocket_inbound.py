"""
The parser for frames of websocket clients.
"""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import wsproto
import wsproto.events
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
)
from websockets.frames import Frame
from websockets.frames import Opcode as PeerOpcode
from websockets.protocol import Protocol, Side

from rt_twisted.codecs.websocket import (
    Opcode,
    close_frame,
    frame,
)
from rt_twisted.codecs.websocket_inbound import FrameParser
from tests.unit.codecs.websocket_frames import (
    FRAMES,
    GREEK,
    HUGE,
    LIMIT,
    LONG,
    compress,
    feed,
    masked,
)

HEL, LO = masked(Opcode.TEXT, b"Hel", fin=False), masked(Opcode.CONTINUATION, b"lo")


# RFC 6455, 5.7, as clients send them; RFC 7692, 7.2.3.
VALID = [
    (bytes.fromhex("818537fa213d7f9f4d5158"), [(1, b"Hello")]),
    (HEL + LO, [(1, b"Hello")]),
    (bytes.fromhex("898537fa213d7f9f4d5158"), [(9, b"Hello")]),
    (bytes.fromhex("8a8537fa213d7f9f4d5158"), [(10, b"Hello")]),
    (masked(2, LONG), [(2, LONG)]),
    (masked(2, HUGE), [(2, HUGE)]),
    (masked(1, b""), [(1, b"")]),
    (masked(2, b"", fin=False) + masked(0, b""), [(2, b"")]),
    (HEL + masked(9, b"?") + LO + masked(2, b"\xff"), [(9, b"?"), (1, b"Hello"), (2, b"\xff")]),
    (
        masked(1, "ü€𝄞".encode()[:3], fin=False) + masked(0, "ü€𝄞".encode()[3:]),
        [(1, "ü€𝄞".encode())],
    ),
    (masked(8, b"\x03\xe8bye"), [(8, b"\x03\xe8bye")]),
    (masked(8, b""), [(8, b"")]),
    (masked(8, b"\x0f\xa0"), [(8, b"\x0f\xa0")]),
]
VALID_COMPRESSED = [
    (masked(1, bytes.fromhex("f248cdc9c90700"), rsv=4), [(1, b"Hello")]),
    (
        masked(1, bytes.fromhex("f248cd"), fin=False, rsv=4) + masked(0, bytes.fromhex("c9c90700")),
        [(1, b"Hello")],
    ),
    (masked(1, b"\x00\x05\x00\xfa\xffHello\x00", rsv=4), [(1, b"Hello")]),  # no compression
    (masked(1, bytes.fromhex("f348cdc9c9070000"), rsv=4), [(1, b"Hello")]),  # BFINAL
    (masked(1, bytes.fromhex("f248050000 00ffffcac9c90700"), rsv=4), [(1, b"Hello")]),  # two blocks
    (masked(2, compress(HUGE), rsv=4), [(2, HUGE)]),
    (masked(1, b"plain"), [(1, b"plain")]),
]


@pytest.mark.parametrize("cut", [0, 1, 2, 7])
@pytest.mark.parametrize(("data", "events"), VALID)
def test_valid_frames_become_messages(data: bytes, events: list[Any], cut: int) -> None:
    """
    The RFC's examples and more, however they are split; afterwards the parser is idle.
    """
    found, failure, idle = feed(data, cut=cut)

    assert found == events
    assert failure is None
    assert idle is (events[-1][0] != Opcode.CLOSE)


@pytest.mark.parametrize("cut", [0, 1, 3])
@pytest.mark.parametrize(("data", "events"), VALID_COMPRESSED)
def test_compressed_frames_become_messages(data: bytes, events: list[Any], cut: int) -> None:
    """
    The examples of RFC 7692, and messages without compression between them.
    """
    found, failure, idle = feed(data, deflate=True, cut=cut)

    assert (found, failure, idle) == (events, None, True)


SURROGATE = b"\xed\xa0\x80"
BOMB = compress(bytes(5_000_000))
INVALID = [
    (masked(1, b"x", rsv=4), 1002),
    (masked(1, b"x", rsv=2), 1002),
    (masked(1, b"x", rsv=1), 1002),
    (masked(3, b""), 1002),
    (masked(11, b""), 1002),
    (frame(1, b"not masked"), 1002),
    (masked(0, b"of nothing"), 1002),
    (HEL + masked(1, b"another"), 1002),
    (masked(9, b"x", fin=False), 1002),
    (masked(8, b"", fin=False), 1002),
    (masked(9, bytes(126)), 1002),
    (masked(8, b"\x03"), 1002),
    *((masked(8, code.to_bytes(2, "big")), 1002) for code in (0, 999, 1004, 1005, 1006, 1015)),
    *((masked(8, code.to_bytes(2, "big")), 1002) for code in (1016, 2999, 5000, 65535)),
    (masked(8, b"\x03\xe8\xff"), 1007),
    (masked(1, b"\xff"), 1007),
    (masked(1, SURROGATE), 1007),
    (masked(1, "€".encode()[:2]), 1007),
    (masked(1, "€".encode()[:2], fin=False) + masked(0, b"x"), 1007),
    (masked(2, bytes(LIMIT + 1)), 1009),
    (masked(2, bytes(LIMIT), fin=False) + masked(0, b"x"), 1009),
    (b"\x82\xff" + (2**63).to_bytes(8, "big"), 1009),
    (b"\x82\xff" + (2**64 - 1).to_bytes(8, "big"), 1009),
]
INVALID_COMPRESSED = [
    (masked(2, BOMB, rsv=4), 1009),
    (masked(2, compress(bytes(LIMIT + 1)), rsv=4), 1009),
    (masked(2, BOMB[:1000], fin=False, rsv=4) + masked(0, BOMB[1000:]), 1009),
    (masked(2, b"\xff\xff\xff", rsv=4), 1002),
    (masked(2, b"", fin=False, rsv=4) + masked(0, b"", rsv=4), 1002),
    (masked(9, b"", rsv=4), 1002),
    (masked(1, compress(b"\xff"), rsv=4), 1007),
]


@pytest.mark.parametrize("cut", [0, 1000])
@pytest.mark.parametrize(
    ("data", "code", "deflate"),
    [*((*each, False) for each in INVALID), *((*each, True) for each in INVALID_COMPRESSED)],
)
def test_invalid_frames_have_their_close_code(
    data: bytes, code: int, deflate: bool, cut: int
) -> None:
    """
    Each violation has its code; later bytes are discarded, and the parser stays closed.
    """
    found, failure, idle = feed(masked(1, b"before") + data, deflate=deflate, cut=cut)

    assert found[:1] == [(1, b"before")]
    assert len(found) == 1
    assert failure is not None
    assert failure[0] == code
    assert len(failure[1].encode()) <= 123
    assert not idle


def test_message_limit_is_exact() -> None:
    """
    A message of the limit's size is accepted: plain, fragmented and compressed.
    """
    data = bytes(LIMIT)
    halves = masked(2, data[: LIMIT // 2], fin=False) + masked(0, data[LIMIT // 2 :])
    whole = [(2, data)]

    assert feed(masked(2, data)) == (whole, None, True)
    assert feed(halves) == (whole, None, True)
    assert feed(masked(2, compress(data), rsv=4), deflate=True) == (whole, None, True)


def test_decompression_stops_at_the_limit() -> None:
    """
    A message that would grow to 50 MB takes no more memory than the limit.
    """
    import tracemalloc

    data = masked(2, BOMB, rsv=4)
    tracemalloc.start()
    feed(data, deflate=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * LIMIT + 4 * len(data)


def test_decompression_of_fragments_stops_at_the_limit() -> None:
    """
    All fragments of a message together are decompressed up to the limit and no further.
    """
    press = zlib.compressobj(wbits=-15)
    first, second = (
        press.compress(bytes(size)) + press.flush(zlib.Z_SYNC_FLUSH)
        for size in (LIMIT - 1000, 10 * LIMIT)
    )
    parser = FrameParser(LIMIT, True)
    parser.feed(masked(2, first, fin=False, rsv=4))
    assert parser.bytes == LIMIT - 1000
    assert len(second) < 1024  # fits in one call
    parser.feed(masked(0, second))

    assert parser.failure
    assert parser.bytes <= 1001


def test_many_small_fragments_take_linear_time() -> None:
    """
    20,000 fragments are joined in linear time, and empty ones take no memory.
    """
    pieces = masked(2, b"", fin=False) + masked(0, b"x", fin=False) * 20_000
    pieces += masked(0, b"", fin=False) * 20_000 + masked(0, b"")

    found, failure, idle = feed(pieces)

    assert found == [(2, b"x" * 20_000)]
    assert (failure, idle) == (None, True)


@given(st.binary(max_size=300), st.booleans(), st.integers(1, 50))
def test_any_bytes_give_messages_or_a_close_code(data: bytes, deflate: bool, cut: int) -> None:
    """
    Any input gives messages, or a close code that may be sent.
    """
    _, failure, _ = feed(data, deflate=deflate, limit=100, cut=cut)

    if failure is not None:
        assert close_frame(*failure)


@given(st.data())
def test_damaged_frames_give_messages_or_a_close_code(data: st.DataObject) -> None:
    """
    A valid stream with a changed byte, or truncated, gives messages or a close code.
    """
    frames = data.draw(st.lists(st.sampled_from([each for each, _ in VALID[:4] + VALID[8:]])))
    stream = bytearray(b"".join(frames) or b"\x81\x80")
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(stream)))

    _, failure, _ = feed(bytes(stream[:end]), limit=1000)

    if failure is not None:
        assert close_frame(*failure)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_parser_is_not_idle_within_a_frame(size: int, deflate: bool) -> None:
    """
    Wherever a frame is split, also between its header and its payload.
    """
    data = masked(2, b"x" * size)
    for cut in {*range(1, min(20, len(data))), len(data) - 1}:
        parser = FrameParser(LIMIT, deflate)
        parser.feed(masked(1, b"before") + data[:cut])
        assert not parser.idle, cut
        assert parser.feed(data[cut:]) == [(2, b"x" * size)]
        assert parser.idle
        assert parser.feed(masked(8, b"") + data[:cut]) == [(8, b"")]
        assert not parser.idle


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("end", [masked(8, b"\x03\xe8"), masked(8, b""), masked(3, b"")])
@pytest.mark.parametrize("more", [[b"\0" * 9000], [b"\0"] * 3, [b""], [masked(1, b"x"), b"\xff"]])
def test_closed_parser_is_never_idle(end: bytes, more: list[bytes], deflate: bool) -> None:
    """
    After a close frame or an error a parser is not reused, whatever follows.
    """
    parser = FrameParser(LIMIT, deflate)
    parser.feed(end)
    for data in more:
        assert not parser.idle
        assert parser.feed(data) == []
    assert not parser.idle


def steps(data: bytes, deflate: bool = False) -> int:
    """
    Return how many single bytes of *data* a parser accepts before it fails.
    """
    parser = FrameParser(LIMIT, deflate)
    for at in range(len(data)):
        parser.feed(data[at : at + 1])
        if parser.failure:
            assert parser.failure[0] == 1007
            return at + 1
    raise AssertionError("no failure")


@pytest.mark.parametrize(
    ("bad", "read"),
    [
        (b"\xff", 1),
        (b"\xc0", 1),
        (b"\xf5", 1),
        (b"\x80", 1),
        (b"\xe0\x80", 2),
        (b"\xed\xa0", 2),  # half of a surrogate
        (b"\xf4\x90", 2),  # above U+10FFFF
        (b"\xf0\x80", 2),
        (b"\xc3\x28", 2),
        (b"\xe2\x82\x28", 3),
    ],
)
def test_text_fails_at_the_first_invalid_byte(bad: bytes, read: int) -> None:
    """
    Invalid UTF-8 is refused as early as possible, within a frame and across fragments.
    """
    tail = b"edited"
    whole = masked(1, GREEK + bad + tail)
    assert steps(whole) == 6 + len(GREEK) + read

    pieces = masked(1, GREEK, fin=False) + masked(0, bad + tail, fin=False)
    assert steps(pieces) == 2 * 6 + len(GREEK) + read

    cut = masked(1, GREEK, fin=False) + b"".join(
        masked(0, bytes([byte]), fin=False) for byte in bad + tail
    )
    assert steps(cut) == 6 + len(GREEK) + 7 * read


def test_compressed_text_fails_at_the_first_invalid_byte() -> None:
    """
    Invalid UTF-8 is refused as soon as it is decompressed, before the message ends.
    """
    press = zlib.compressobj(wbits=-15)
    first = press.compress(GREEK + b"\xed\xa0") + press.flush(zlib.Z_SYNC_FLUSH)
    rest = press.compress(b"edited") + press.flush(zlib.Z_SYNC_FLUSH)
    data = masked(1, first, fin=False, rsv=4) + masked(0, rest[:-4])

    assert steps(data, deflate=True) <= 6 + len(first)


@pytest.mark.parametrize("deflate", [False, True])
def test_close_within_a_fragmented_message(deflate: bool) -> None:
    """
    A close frame may stand between fragments (RFC 6455, 5.4); the message is discarded.
    """
    events, failure, idle = feed(HEL + masked(8, b"\x03\xe8") + LO, deflate=deflate, cut=3)

    assert events == [(8, b"\x03\xe8")]
    assert failure is None
    assert not idle


def test_too_large_length_is_refused_before_the_payload() -> None:
    """
    The header of a frame is enough, also for the sum of fragments.
    """
    half = masked(2, bytes(LIMIT // 2), fin=False)
    head = b"\x80\xff" + (LIMIT // 2 + 1).to_bytes(8, "big")

    _, failure, _ = feed(half + head)

    assert failure is not None
    assert failure[0] == 1009


def test_buffered_counts_incomplete_messages() -> None:
    """
    An incomplete message counts with its decompressed bytes and the state of zlib.
    """
    parser = FrameParser(LIMIT, True)
    parser.feed(masked(2, b"x" * 1000, fin=False)[:-1])
    assert parser.buffered == 999
    parser.feed(masked(2, b"x" * 1000, fin=False)[-1:] + masked(0, b"")[:3])
    assert parser.buffered == 1000
    parser.feed(masked(0, b"")[3:])
    assert (parser.buffered, parser.idle) == (0, True)
    data = compress(bytes(50_000))
    parser.feed(masked(2, data, rsv=4)[:-1])
    assert parser.buffered > 80_000
    parser.feed(masked(2, data, rsv=4)[-1:])
    assert (parser.buffered, parser.idle) == (0, True)
    parser.feed(masked(2, b"x" * 1000, fin=False) + masked(3, b""))
    assert (parser.buffered, parser.closed) == (0, True)


def test_bytes_after_a_final_block_are_ignored() -> None:
    """
    Bytes after a final deflate block are ignored in linear time.
    """
    final = zlib.compressobj(wbits=-15)
    first = final.compress(b"Hello") + final.flush(zlib.Z_FINISH)
    parser = FrameParser(LIMIT, True)
    parser.feed(masked(1, first, fin=False, rsv=4))
    for _ in range(100):
        assert parser.feed(masked(0, b"x" * 1000, fin=False)) == []
    held = parser.buffered

    assert held < 50_000
    assert parser.feed(masked(0, b"")) == [(1, b"Hello")]


def parse_with_websockets(
    data: bytes, deflate: bool, limit: int, cut: int
) -> tuple[list[Any], int]:
    """
    Return the messages that the `websockets` library parses, and the code with which it
    fails; 0 for none.
    """
    protocol = Protocol(Side.SERVER, max_size=limit)
    if deflate:
        protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    events: list[Any] = []
    kind, message = 0, b""
    for at in range(0, len(data), cut):
        protocol.receive_data(data[at : at + cut])
        library_events: Any = protocol.events_received()
        for event in library_events:
            if event.opcode >= 8:
                events.append((int(event.opcode), bytes(event.data)))
                continue
            kind = event.opcode or kind
            message += bytes(event.data)
            if event.fin:
                events.append((int(kind), message))
                message = b""
        if protocol.parser_exc is not None:
            assert protocol.close_sent is not None
            return events, int(protocol.close_sent.code)
        if protocol.close_rcvd is not None:
            break
    return events, 0


@given(
    st.lists(FRAMES | st.binary(max_size=20), max_size=8).map(b"".join),
    st.booleans(),
    st.sampled_from([1, 3, 100, 10_000]),
)
def test_websockets_library_parses_the_same(data: bytes, deflate: bool, cut: int) -> None:
    """
    For any input, messages and failures are those of the `websockets` library. It differs
    in three points: it does not check text, reads a payload before it refuses the header,
    and refuses a close within a message.
    """
    found, failure, _ = feed(data, deflate=deflate, limit=1000, cut=cut)
    theirs, code = parse_with_websockets(data, deflate, 1000, cut)

    if code == 1002 and found[-1:] and found[-1][0] == 8:  # a close within a message
        assert found[:-1] == theirs
    elif failure is not None and failure[0] == 1007:
        assert found == theirs[: len(found)]
    elif failure is not None and not code:  # known from the header alone
        assert found == theirs
        assert parse_with_websockets(data + bytes(1 << 14), deflate, 1000, 1000)[1]
    else:
        assert (found, bool(failure)) == (theirs, bool(code))


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_frames_of_other_clients_are_parsed(data: list[bytes], deflate: bool) -> None:
    """
    Frames of the `websockets` library and of wsproto, compressed or not.
    """
    from wsproto.connection import Connection, ConnectionType
    from wsproto.extensions import PerMessageDeflate

    extension = PerMessageDeflate()
    extension.finalize("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    client = Connection(ConnectionType.CLIENT, [extension] if deflate else [])
    stream = b"".join(client.send(wsproto.events.BytesMessage(each)) for each in data)
    stream += b"".join(Frame(PeerOpcode.BINARY, each).serialize(mask=True) for each in data)

    assert feed(stream, deflate=deflate, cut=11)[0] == [(2, each) for each in [*data, *data]]
