"""
The websocket codec: handshake, frames, parser, formats.
"""

from __future__ import annotations

import json
import zlib
from base64 import urlsafe_b64encode
from threading import Thread
from typing import Any

import pytest
import wsproto
import wsproto.events
from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
)
from websockets.frames import Frame
from websockets.frames import Opcode as TheirOpcode
from websockets.http11 import Response
from websockets.protocol import Protocol, Side
from websockets.uri import parse_uri
from zope.interface.verify import verifyObject

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import (
    PING,
    CloseCode,
    DeflateParameters,
    Opcode,
    WebSocketHandshake,
    accept_key,
    close_frame,
    data_frame,
    frame,
    negotiate,
    offered_key,
)
from rt_twisted.codecs.websocket_commands import (
    KeyCommand,
    PingCommand,
    PublishCommand,
    SubscribeCommand,
    UnsubscribeCommand,
    read_command,
    read_frame,
    read_id,
)
from rt_twisted.codecs.websocket_inbound import FrameParser, parse_close
from rt_twisted.formats.websocket import JsonFrames, RawFrames
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay
from tests.fakes import started

LIMIT = 100_000
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = bytes.fromhex("37fa213d")


def masked(opcode: int, payload: bytes, fin: bool = True, rsv: int = 0) -> bytes:
    """
    A client's frame, made by hand (RFC 6455, 5.2).
    """
    size = len(payload)
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    body = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    return head + MASK + body


def pressed(data: bytes) -> bytes:
    press = zlib.compressobj(wbits=-15)
    return (press.compress(data) + press.flush(zlib.Z_SYNC_FLUSH))[:-4]


def feed(data: bytes, *, deflate: bool = False, limit: int = LIMIT, cut: int = 0) -> Any:
    """
    What a fresh parser makes of *data*, whole or in pieces of *cut* bytes.
    """
    parser = FrameParser(limit, deflate)
    said = []
    for at in range(0, len(data), cut or max(1, len(data))):
        said += parser.feed(data[at : at + (cut or len(data))])
        if parser.failure:
            break
    return said, parser.failure, parser.idle


HEL, LO = masked(Opcode.TEXT, b"Hel", fin=False), masked(Opcode.CONTINUATION, b"lo")
LONG = b"x" * 256
HUGE = b"y" * 65536
# RFC 6455, 5.7, as clients send them; RFC 7692, 7.2.3.
SAID = [
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
COMPRESSED = [
    (masked(1, bytes.fromhex("f248cdc9c90700"), rsv=4), [(1, b"Hello")]),
    (
        masked(1, bytes.fromhex("f248cd"), fin=False, rsv=4) + masked(0, bytes.fromhex("c9c90700")),
        [(1, b"Hello")],
    ),
    (masked(1, b"\x00\x05\x00\xfa\xffHello\x00", rsv=4), [(1, b"Hello")]),  # no compression
    (masked(1, bytes.fromhex("f348cdc9c9070000"), rsv=4), [(1, b"Hello")]),  # BFINAL
    (masked(1, bytes.fromhex("f248050000 00ffffcac9c90700"), rsv=4), [(1, b"Hello")]),  # two blocks
    (masked(2, pressed(HUGE), rsv=4), [(2, HUGE)]),
    (masked(1, b"plain"), [(1, b"plain")]),
]


@pytest.mark.parametrize("cut", [0, 1, 2, 7])
@pytest.mark.parametrize(("data", "said"), SAID)
def test_what_clients_say(data: bytes, said: list[Any], cut: int) -> None:
    """
    The RFC's examples and more, however they are cut; afterwards the parser has
    nothing to remember, but for a close.
    """
    found, failure, idle = feed(data, cut=cut)

    assert found == said
    assert failure is None
    assert idle is (said[-1][0] != Opcode.CLOSE)


@pytest.mark.parametrize("cut", [0, 1, 3])
@pytest.mark.parametrize(("data", "said"), COMPRESSED)
def test_what_clients_say_compressed(data: bytes, said: list[Any], cut: int) -> None:
    """
    RFC 7692's examples, and messages without compression in between.
    """
    found, failure, idle = feed(data, deflate=True, cut=cut)

    assert (found, failure, idle) == (said, None, True)


SURROGATE = b"\xed\xa0\x80"
BOMB = pressed(bytes(50_000_000))
WRONG = [
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
WRONG_COMPRESSED = [
    (masked(2, BOMB, rsv=4), 1009),
    (masked(2, pressed(bytes(LIMIT + 1)), rsv=4), 1009),
    (masked(2, BOMB[:1000], fin=False, rsv=4) + masked(0, BOMB[1000:]), 1009),
    (masked(2, b"\xff\xff\xff", rsv=4), 1002),
    (masked(2, b"", fin=False, rsv=4) + masked(0, b"", rsv=4), 1002),
    (masked(9, b"", rsv=4), 1002),
    (masked(1, pressed(b"\xff"), rsv=4), 1007),
]


@pytest.mark.parametrize("cut", [0, 1000])
@pytest.mark.parametrize(
    ("data", "code", "deflate"),
    [*((*each, False) for each in WRONG), *((*each, True) for each in WRONG_COMPRESSED)],
)
def test_what_clients_must_not_say(data: bytes, code: int, deflate: bool, cut: int) -> None:
    """
    Each mistake has its code; nothing behind it is understood, and the parser
    goes to nobody else.
    """
    found, failure, idle = feed(masked(1, b"before") + data, deflate=deflate, cut=cut)

    assert found[:1] == [(1, b"before")]
    assert len(found) == 1
    assert failure is not None
    assert failure[0] == code
    assert len(failure[1].encode()) <= 123
    assert not idle


def test_a_limit_is_exact() -> None:
    """
    A message of so many bytes passes, plain, in pieces and compressed.
    """
    data = bytes(LIMIT)
    halves = masked(2, data[: LIMIT // 2], fin=False) + masked(0, data[LIMIT // 2 :])
    whole = [(2, data)]

    assert feed(masked(2, data)) == (whole, None, True)
    assert feed(halves) == (whole, None, True)
    assert feed(masked(2, pressed(data), rsv=4), deflate=True) == (whole, None, True)


def test_a_bomb_is_not_inflated() -> None:
    """
    A message that would grow to 50 MB costs no more than the limit.
    """
    import tracemalloc

    data = masked(2, BOMB, rsv=4)
    tracemalloc.start()
    feed(data, deflate=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 4 * LIMIT + 4 * len(data)


def test_many_small_fragments_are_cheap() -> None:
    """
    A message in 20,000 pieces is joined in time linear in its bytes, and empty
    pieces take no room.
    """
    pieces = masked(2, b"", fin=False) + masked(0, b"x", fin=False) * 20_000
    pieces += masked(0, b"", fin=False) * 20_000 + masked(0, b"")

    found, failure, idle = feed(pieces)

    assert found == [(2, b"x" * 20_000)]
    assert (failure, idle) == (None, True)


@given(st.binary(max_size=300), st.booleans(), st.integers(1, 50))
def test_garbage(data: bytes, deflate: bool, cut: int) -> None:
    """
    Whatever comes, the answer is messages or a code that may be sent.
    """
    _, failure, _ = feed(data, deflate=deflate, limit=100, cut=cut)

    if failure is not None:
        assert close_frame(*failure)


@given(st.data())
def test_nearly_right(data: st.DataObject) -> None:
    """
    A right stream with a byte changed, or cut off, never gets further than a code.
    """
    frames = data.draw(st.lists(st.sampled_from([each for each, _ in SAID[:4] + SAID[8:]])))
    stream = bytearray(b"".join(frames) or b"\x81\x80")
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(stream)))

    _, failure, _ = feed(bytes(stream[:end]), limit=1000)

    if failure is not None:
        assert close_frame(*failure)


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_parser_is_not_idle_in_the_middle(size: int, deflate: bool) -> None:
    """
    Wherever a frame is cut, between its header and its payload too.
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
def test_a_closed_parser_is_never_idle(end: bytes, more: list[bytes], deflate: bool) -> None:
    """
    A parser that has read a close frame or a protocol error serves no other
    connection, however many bytes follow.
    """
    parser = FrameParser(LIMIT, deflate)
    parser.feed(end)
    for data in more:
        assert not parser.idle
        assert parser.feed(data) == []
    assert not parser.idle


def offer(key: bytes) -> str:
    """
    *key* as a subprotocol.
    """
    return "key." + urlsafe_b64encode(key).decode().rstrip("=")


def steps(data: bytes, deflate: bool = False) -> int:
    """
    How many bytes of *data*, one by one, a parser reads before it fails.
    """
    parser = FrameParser(LIMIT, deflate)
    for at in range(len(data)):
        parser.feed(data[at : at + 1])
        if parser.failure:
            assert parser.failure[0] == 1007
            return at + 1
    raise AssertionError("no failure")


GREEK = "κόσμε".encode()  # 11 bytes, as in Autobahn 6.4


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
def test_text_fails_at_the_first_bad_byte(bad: bytes, read: int) -> None:
    """
    Invalid UTF-8 is refused as soon as it can be known, within a frame, across
    fragments, and whatever would come later.
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


def test_text_fails_at_the_first_bad_byte_compressed() -> None:
    """
    As soon as the inflated bytes are there, and not at the end of the message.
    """
    press = zlib.compressobj(wbits=-15)
    first = press.compress(GREEK + b"\xed\xa0") + press.flush(zlib.Z_SYNC_FLUSH)
    rest = press.compress(b"edited") + press.flush(zlib.Z_SYNC_FLUSH)
    data = masked(1, first, fin=False, rsv=4) + masked(0, rest[:-4])

    assert steps(data, deflate=True) <= 6 + len(first)


@pytest.mark.parametrize("deflate", [False, True])
def test_a_close_within_a_fragmented_message(deflate: bool) -> None:
    """
    A control frame may stand between fragments, a close too (RFC 6455, 5.4): its
    own code is answered, and the message is forgotten.
    """
    said, failure, idle = feed(HEL + masked(8, b"\x03\xe8") + LO, deflate=deflate, cut=3)

    assert said == [(8, b"\x03\xe8")]
    assert failure is None
    assert not idle


def test_a_length_is_refused_before_the_payload_comes() -> None:
    """
    A header that announces too much is enough, also for the sum of fragments.
    """
    half = masked(2, bytes(LIMIT // 2), fin=False)
    head = b"\x80\xff" + (LIMIT // 2 + 1).to_bytes(8, "big")

    _, failure, _ = feed(half + head)

    assert failure is not None
    assert failure[0] == 1009


def test_memory_that_is_held() -> None:
    """
    An incomplete message counts with the bytes that are there, inflated, and
    with the state of zlib; a complete one does not.
    """
    parser = FrameParser(LIMIT, True)
    parser.feed(masked(2, b"x" * 1000, fin=False)[:-1])
    assert parser.buffered == 999
    parser.feed(masked(2, b"x" * 1000, fin=False)[-1:] + masked(0, b"")[:3])
    assert parser.buffered == 1000
    parser.feed(masked(0, b"")[3:])
    assert (parser.buffered, parser.idle) == (0, True)
    data = pressed(bytes(50_000))
    parser.feed(masked(2, data, rsv=4)[:-1])
    assert parser.buffered > 80_000
    parser.feed(masked(2, data, rsv=4)[-1:])
    assert (parser.buffered, parser.idle) == (0, True)
    parser.feed(masked(2, b"x" * 1000, fin=False) + masked(3, b""))
    assert (parser.buffered, parser.closed) == (0, True)


def test_nothing_behind_a_final_block_is_kept() -> None:
    """
    Bytes behind a final deflate block are ignored, at a cost linear in their number.
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


def library(data: bytes, deflate: bool, limit: int, cut: int) -> tuple[list[Any], int]:
    """
    What the `websockets` library makes of the same bytes: frames joined to messages,
    and the code it fails with; 0 for none.
    """
    protocol = Protocol(Side.SERVER, max_size=limit)
    if deflate:
        protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
    said: list[Any] = []
    kind, message = 0, b""
    for at in range(0, len(data), cut):
        protocol.receive_data(data[at : at + cut])
        events: Any = protocol.events_received()
        for event in events:
            if event.opcode >= 8:
                said.append((int(event.opcode), bytes(event.data)))
                continue
            kind = event.opcode or kind
            message += bytes(event.data)
            if event.fin:
                said.append((int(kind), message))
                message = b""
        if protocol.parser_exc is not None:
            assert protocol.close_sent is not None
            return said, int(protocol.close_sent.code)
        if protocol.close_rcvd is not None:
            break
    return said, 0


PAYLOADS = st.one_of(
    st.sampled_from([b"", b"x", b"\x03\xe8", b"x" * 125, b"x" * 126, b"x" * 2000, GREEK]),
    st.binary(max_size=130),
)
FRAMES = st.builds(
    lambda opcode, payload, fin, rsv, small: masked(
        opcode, pressed(payload) if small else payload, fin, 4 if small else rsv
    ),
    st.sampled_from([0, 0, 1, 1, 2, 2, 8, 9, 10, 3]),
    PAYLOADS,
    st.sampled_from([True, True, False]),
    st.sampled_from([0, 0, 0, 0, 0, 0, 4, 1]),
    st.sampled_from([False, False, True]),
)


@given(
    st.lists(FRAMES | st.binary(max_size=20), max_size=8).map(b"".join),
    st.booleans(),
    st.sampled_from([1, 3, 100, 10_000]),
)
def test_another_library_reads_the_same(data: bytes, deflate: bool, cut: int) -> None:
    """
    Whatever comes, the messages are those of the `websockets` library, and both
    fail, or neither; but that it checks no text, reads a payload before it refuses
    its header, and refuses a close within a message.
    """
    found, failure, _ = feed(data, deflate=deflate, limit=1000, cut=cut)
    theirs, code = library(data, deflate, 1000, cut)

    if code == 1002 and found[-1:] and found[-1][0] == 8:  # a close within a message
        assert found[:-1] == theirs
    elif failure is not None and failure[0] == 1007:
        assert found == theirs[: len(found)]
    elif failure is not None and not code:  # known from the header alone
        assert found == theirs
        assert library(data + bytes(1 << 14), deflate, 1000, 1000)[1]
    else:
        assert (found, bool(failure)) == (theirs, bool(code))


# Frames out.


def test_examples_of_the_rfc() -> None:
    """
    RFC 6455, 5.7, byte by byte.
    """
    assert data_frame(b"Hello", False) == bytes.fromhex("810548656c6c6f")
    assert frame(Opcode.PING, b"Hello") == bytes.fromhex("890548656c6c6f")
    assert frame(Opcode.PONG, b"Hello") == bytes.fromhex("8a0548656c6c6f")
    assert data_frame(LONG, True) == bytes.fromhex("827e0100") + LONG
    assert data_frame(HUGE, True) == bytes.fromhex("827f0000000000010000") + HUGE
    assert data_frame(b"x" * 125, True)[:2] == bytes.fromhex("827d")
    assert data_frame(b"x" * 126, True)[:4] == bytes.fromhex("827e007e")
    assert data_frame(b"x" * 65535, True)[:4] == bytes.fromhex("827effff")
    assert close_frame(1000) == bytes.fromhex("880203e8")
    assert close_frame(1005) == bytes.fromhex("8800")
    assert frame(Opcode.PING, b"") == PING == bytes.fromhex("8900")


def test_a_reason_is_cut_to_what_fits() -> None:
    """
    Between two characters.
    """
    data = close_frame(4000, "€" * 100)

    assert data[1] == 2 + 123
    assert parse_close(data[2:]) == (4000, "€" * 41)


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 1016, 2999, 5000])
def test_codes_that_may_not_be_sent(code: int) -> None:
    """
    Our own mistake shows at once, and not at the client.
    """
    with pytest.raises(ValueError, match=f"^{code} is not a code to close with$"):
        close_frame(code)


def peers() -> list[Any]:
    """
    Two libraries of others that read what a server sends: a list of messages.
    """

    def theirs(data: bytes, deflate: bool) -> list[bytes]:
        client = Protocol(Side.CLIENT, max_size=None)
        if deflate:
            factory = ClientPerMessageDeflateFactory(True, True)
            answer = [("server_no_context_takeover", None), ("client_no_context_takeover", None)]
            client.extensions = [factory.process_response_params(answer, [])]
        client.receive_data(data)
        assert client.parser_exc is None
        events: Any = client.events_received()
        return [bytes(event.data) for event in events]

    def wsproto_s(data: bytes, deflate: bool) -> list[bytes]:
        from wsproto.connection import Connection, ConnectionType
        from wsproto.extensions import PerMessageDeflate

        extensions: list[Any] = []
        if deflate:
            extension = PerMessageDeflate()
            extension.finalize(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
            )
            extensions = [extension]
        client = Connection(ConnectionType.CLIENT, extensions)
        client.receive_data(data)
        messages, pieces = [], b""
        for event in client.events():
            assert isinstance(event, wsproto.events.Message), event
            piece = event.data
            pieces += piece.encode() if isinstance(piece, str) else bytes(piece)
            if event.message_finished:
                messages.append(pieces)
                pieces = b""
        return messages

    return [theirs, wsproto_s]


@pytest.mark.parametrize("read", peers())
@pytest.mark.parametrize("deflate", [None, DeflateParameters(10), DeflateParameters(1, 9)])
@given(data=st.lists(st.binary(max_size=300) | st.text(max_size=100).map(str.encode), max_size=5))
def test_others_read_what_we_send(
    read: Any, deflate: DeflateParameters | None, data: list[bytes]
) -> None:
    """
    Every message as published, compressed or not, of any size.
    """
    frames = [RawFrames(deflate).encode(message(each)) for each in [*data, b"abc" * 30_000]]

    assert read(b"".join(frames), deflate is not None) == [*data, b"abc" * 30_000]


@given(st.lists(st.binary(max_size=200), max_size=5), st.booleans())
def test_we_read_what_others_send(data: list[bytes], deflate: bool) -> None:
    """
    From the `websockets` library and from wsproto, compressed or not.
    """
    from wsproto.connection import Connection, ConnectionType
    from wsproto.extensions import PerMessageDeflate

    extension = PerMessageDeflate()
    extension.finalize("permessage-deflate; server_no_context_takeover; client_no_context_takeover")
    client = Connection(ConnectionType.CLIENT, [extension] if deflate else [])
    stream = b"".join(client.send(wsproto.events.BytesMessage(each)) for each in data)
    stream += b"".join(Frame(TheirOpcode.BINARY, each).serialize(mask=True) for each in data)

    assert feed(stream, deflate=deflate, cut=11)[0] == [(2, each) for each in [*data, *data]]


def test_small_messages_and_noise_stay_as_they_are() -> None:
    """
    Compression that does not pay is left out: the first bit after FIN is not set.
    """
    import random

    noise = random.Random(1).randbytes(2000)

    assert data_frame(b"x" * 511, False, DeflateParameters(512))[0] == 0x81
    assert data_frame(b"x" * 512, False, DeflateParameters(512))[0] == 0xC1
    assert data_frame(noise, True, DeflateParameters(512)) == data_frame(noise, True)


# The handshake.


def asked(**more: str | None) -> Any:
    headers: dict[str, str | None] = {
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": KEY,
    }
    headers.update({name.replace("_", "-"): value for name, value in more.items()})
    return headers.get


def test_the_key_of_the_rfc() -> None:
    """
    RFC 6455, 1.3.
    """
    assert accept_key(KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in negotiate(asked()).headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"upgrade": None}, 426),
        ({"upgrade": "h2c"}, 426),
        ({"connection": None}, 400),
        ({"connection": "keep-alive"}, 400),
        ({"sec_websocket_version": None}, 400),
        ({"sec_websocket_version": "8"}, 426),
        ({"sec_websocket_version": "13, 13"}, 426),
        ({"sec_websocket_key": None}, 400),
        ({"sec_websocket_key": "short"}, 400),
        ({"sec_websocket_key": KEY + ", " + KEY}, 400),
        ({"sec_websocket_key": "é"}, 400),
        ({"sec_websocket_extensions": "a b"}, 400),
    ],
)
def test_handshakes_that_are_none(headers: dict[str, str | None], status: int) -> None:
    """
    426 says how to ask, 400 what is wrong (RFC 6455, 4.2.1 and 4.4).
    """
    with pytest.raises(RemoteProtocolError) as refused:
        negotiate(asked(**headers), (), 512)

    assert refused.value.status == status


def test_headers_may_be_written_in_many_ways() -> None:
    """
    Firefox sends a list in Connection, and case means nothing.
    """
    agreement = negotiate(asked(connection="keep-alive, upgrade", upgrade="foo, WebSocket"))

    assert agreement == WebSocketHandshake(KEY)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [(None, ""), ("", ""), ("mqtt", "mqtt"), ("x, wamp,mqtt", "wamp"), ("x", "")],
)
def test_the_client_s_first_subprotocol_that_is_spoken(wanted: str | None, chosen: str) -> None:
    """
    Without one in common none is named, and the client decides what it makes of that.
    """
    agreement = negotiate(asked(sec_websocket_protocol=wanted), ("mqtt", "wamp"))

    assert agreement.subprotocol == chosen
    assert (("Sec-WebSocket-Protocol", chosen) in agreement.headers) is bool(chosen)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("realtime", "realtime"),
        ("a, b", "a"),
        (f"realtime, {offer(b'secret')}", "realtime"),
        (f"{offer(b'secret')},mqtt", "mqtt"),
        ("a b, c", "c"),
        (", ,x", "x"),
        ("a;b", ""),
    ],
)
def test_any_subprotocol_will_do_where_none_is_set(wanted: str, chosen: str) -> None:
    """
    A browser closes a websocket if none of what it offered is chosen, so the first is; a
    key never is, nor what is no token.
    """
    assert negotiate(asked(sec_websocket_protocol=wanted)).subprotocol == chosen


@pytest.mark.parametrize("key", [b"x", b"secret", "a ключ, ü".encode(), bytes(range(256))])
def test_a_key_among_the_subprotocols(key: bytes) -> None:
    """
    Any bytes, in base64url without padding.
    """
    assert offered_key(f"realtime, {offer(key)}") == key
    assert offered_key(f"{offer(key)},realtime") == key


@pytest.mark.parametrize("wanted", [None, "", "realtime", "keys, a.key.b", "x-key.YQ"])
def test_subprotocols_without_a_key(wanted: str | None) -> None:
    """
    Only an entry that begins with the mark is one.
    """
    assert offered_key(wanted) is None


@pytest.mark.parametrize(
    "wanted", [offer(b"secret"), "a, key.", "a, key.=", "a, key.YQ==", "a, key.a", "a, key.a+b/"]
)
def test_malformed_keys_among_the_subprotocols(wanted: str) -> None:
    """
    Also a key that stands alone: there is nothing that the response could choose.
    """
    with pytest.raises(RemoteProtocolError) as caught:
        negotiate(asked(sec_websocket_protocol=wanted))

    assert caught.value.status == 400
    assert "secret" not in caught.value.reason


@pytest.mark.parametrize(
    ("offer", "window_bits", "answer"),
    [
        ("permessage-deflate", 15, ""),
        ("permessage-deflate; client_max_window_bits", 15, ""),
        ("permessage-deflate; server_max_window_bits=10", 10, "; server_max_window_bits=10"),
        ("x-webkit-deflate-frame, permessage-deflate", 15, ""),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", 15, ""),
        ("permessage-deflate; odd", None, None),
        ("permessage-deflate; server_max_window_bits=8", None, None),
        ("permessage-deflate; server_max_window_bits=16", None, None),
        ("bbf-usp-protocol", None, None),
    ],
)
def test_compression_without_memory(
    offer: str, window_bits: int | None, answer: str | None
) -> None:
    """
    Neither side keeps what it compressed with; what cannot be met is left out.
    """
    agreement = negotiate(asked(sec_websocket_extensions=offer), (), 512)

    if window_bits is None:
        assert (agreement.deflate, agreement.extension) == (None, "")
        return
    assert agreement.deflate == DeflateParameters(512, window_bits)
    taken = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    assert agreement.extension == f"{taken}{answer}"


def test_compression_can_be_off() -> None:
    """
    By the setting; malformed offers then do not matter.
    """
    assert negotiate(asked(sec_websocket_extensions="permessage-deflate"), (), 0).deflate is None


def test_the_websockets_client_takes_our_answer() -> None:
    """
    Its own checks of key, subprotocol and extension pass.
    """
    client = ClientProtocol(
        parse_uri("ws://a/"),
        extensions=[ClientPerMessageDeflateFactory()],
        subprotocols=["mqtt"],  # type: ignore[list-item]  # a NewType of str
    )
    request = client.connect()
    headers = {name.lower(): value for name, value in request.headers.raw_items()}
    agreement = negotiate(headers.get, ("mqtt",), 512)
    client.send_request(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in agreement.headers)

    client.receive_data(f"HTTP/1.1 101 Switching Protocols\r\n{lines}\r\n".encode())

    (response,) = client.events_received()
    assert isinstance(response, Response)
    assert client.handshake_exc is None
    assert client.subprotocol == "mqtt"
    assert len(client.extensions) == 1


# Formats.


def message(data: bytes, event: str | None = None, offset: int = 7) -> Message:
    return Message("news", data, Position("e", offset), event)


def read(data: bytes, deflate: bool = False) -> list[Any]:
    """
    What a client of *data* is told: a JSON value, bytes, or an opcode's name.
    """
    client = Protocol(Side.CLIENT)
    client.receive_data(data)
    assert client.parser_exc is None
    found: list[Any] = []
    events: Any = client.events_received()
    for event in events:
        if event.opcode is TheirOpcode.TEXT:
            found.append(json.loads(event.data))
        elif event.opcode is TheirOpcode.BINARY:
            found.append(bytes(event.data))
        else:
            found.append(event.opcode.name)
    return found


@pytest.mark.parametrize("kind", [RawFrames, JsonFrames])
def test_formats(kind: Any) -> None:
    """
    They are formats as any other; compressing and other readers do not share.
    """
    verifyObject(IFormat, kind())
    assert kind() == kind()
    assert kind(DeflateParameters()) == kind(DeflateParameters())
    assert kind(DeflateParameters()) != kind()
    assert len({kind(DeflateParameters()), kind(DeflateParameters(512, 15)), kind()}) == 2
    assert read(kind().heartbeat) == ["PING"]
    assert kind().end(2500) == close_frame(1001, "retry=2500")
    assert kind().end(0) == close_frame(1001)


def test_what_is_text_goes_as_text() -> None:
    """
    Raw: the kind of a frame is that of its bytes, or binary if the route says so.
    """
    text, data = message("ü".encode()), message(b"\xff")

    assert [RawFrames().encode(each)[0] for each in (text, data)] == [0x81, 0x82]
    assert [RawFrames(binary=True).encode(each)[0] for each in (text, data)] == [0x82, 0x82]


def test_raw_frames_are_messages_and_nothing_else() -> None:
    """
    No position, no gap.
    """
    format = RawFrames()
    replay = Replay((message(b"1"), message(b"2")), False, Position("e", 9))

    assert read(started(format, replay)) == [1, 2]
    assert format.gap(Position("e", 9)) == b""
    assert read(format.cursor(Position("e", 9))) == ["PING"]


def test_json_frames_say_what_they_are() -> None:
    """
    The gap first, then what was missed, then the position.
    """
    format = JsonFrames()
    missed = (message("ü".encode(), "greeting", 7), message(b"\xff", None, 8))

    assert read(started(format, Replay(missed, False, Position("e", 9)))) == [
        {"type": "gap", "position": "e.9"},
        {
            "type": "message",
            "channel": "news",
            "position": "e.7",
            "event": "greeting",
            "data": "ü",
        },
        {"type": "message", "channel": "news", "position": "e.8", "base64": "/w=="},
        {"type": "position", "position": "e.9"},
    ]
    assert read(format.cursor(Position("e", 9))) == [
        {"type": "position", "position": "e.9"},
        "PING",
    ]


# Commands.


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"type":"subscribe","channels":["a","b"]}', SubscribeCommand(["a", "b"])),
        ('{"type":"subscribe","channels":"a","since":"e.7"}', SubscribeCommand(["a"], "e.7")),
        ('{"type":"subscribe","channels":"a","history":3}', SubscribeCommand(["a"], "", 3)),
        ('{"type":"unsubscribe","channels":"a","id":1}', UnsubscribeCommand(["a"])),
        ('{"type":"key","key":"s"}', KeyCommand(b"s")),
        ('{"type":"ping","id":"x"}', PingCommand()),
    ],
)
def test_commands(text: str, command: object) -> None:
    """
    One object a frame.
    """
    assert read_command(read_frame(text.encode())) == command


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('"message":"ü"', "ü".encode()),
        ('"message":{"a":[1, 2]}', b'{"a":[1, 2]}'),
        ('"message":1.10', b"1.10"),
        ('"base64":"/w=="', b"\xff"),
    ],
)
def test_publishing(text: str, data: bytes) -> None:
    """
    The fields of POST /publish, and base64 for bytes.
    """
    command = read_command(
        read_frame(
            f'{{"type":"publish","id":1,"channel":"a",{text},"event":"x",'
            '"idempotency_key":"i","key":"s"}'.encode()
        )
    )

    assert isinstance(command, PublishCommand)
    submission = command.submission
    assert (list(submission.channels), submission.message) == (["a"], data)
    assert (submission.event, submission.idempotency_key, submission.key) == ("x", "i", b"s")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "1",
        "{}",
        '{"type":"dance"}',
        '{"type":["subscribe"]}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","channels":[]}',
        '{"type":"subscribe","channels":[1]}',
        '{"type":"subscribe","channels":"a","since":1}',
        '{"type":"subscribe","channels":"a","history":-1}',
        '{"type":"subscribe","channels":"a","history":true}',
        '{"type":"subscribe","channels":"a","colour":1}',
        '{"type":"publish","channel":"a","message":"a","base64":""}',
        '{"type":"publish","channel":"a","base64":"?"}',
        '{"type":"publish","channel":"a","base64":1}',
        '{"type":"publish","channel":1,"message":"a"}',
        '{"type":"publish","channel":"a","message":"a","event":"gap"}',
        '{"type":"publish","channel":"a","message":"\\ud800"}',
        '{"type":"ping","id":1.5}',
        '{"type":"ping","id":true}',
        '{"type":"ping","id":9007199254740992}',
        '{"type":"ping","id":"' + "x" * 65 + '"}',
        "[" * 5000,
        "1" * 5000,
    ],
)
def test_what_is_no_command(text: str) -> None:
    """
    One sentence for the client, and nothing else escapes.
    """

    def obey() -> None:
        value = read_frame(text.encode())
        read_id(value)
        read_command(value)

    with pytest.raises(RemoteProtocolError):
        obey()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(
    "type id channels channel since history key message base64 event idempotency_key".split()
)
TYPES = st.sampled_from("subscribe unsubscribe publish key ping".split())


@given(st.dictionaries(NAMES, JSON), TYPES)
def test_any_object_is_a_command_or_a_mistake(value: dict[str, Any], kind: str) -> None:
    """
    Whatever its fields are.
    """
    try:
        number = read_id(value)
        frame = read_frame(json.dumps({**value, "type": kind}).encode())
        command = read_command(frame)
    except RemoteProtocolError as error:
        assert error.status == 400
        return
    assert number is None or type(number) in (str, int)
    assert command is not None


def test_no_depth_is_between_reading_and_writing() -> None:
    """
    What is nested so deep that it can be read but not written again is refused too.
    """
    problems: list[str] = []

    def probe() -> None:  # a fresh stack: all depths on it are tried
        for depth in range(800, 1100):
            nested = "[" * depth + "]" * depth
            text = f'{{"type":"publish","channel":"a","message":{nested}}}'
            try:
                read_command(read_frame(text.encode()))
            except RemoteProtocolError:
                continue
            except BaseException as error:
                problems.append(f"{depth}: {error!r}")

    thread = Thread(target=probe)
    thread.start()
    thread.join()

    assert problems == []


def test_codes_have_the_numbers_of_the_rfc() -> None:
    """
    RFC 6455, 7.4.1.
    """
    assert (CloseCode.GOING_AWAY, CloseCode.NOT_TEXT, CloseCode.POLICY, CloseCode.TOO_BIG) == (
        1001,
        1007,
        1008,
        1009,
    )
