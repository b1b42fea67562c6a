"""
Tests of Socket.IO packets, and of messages as events.
"""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
import socketio.packet
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from rt_twisted.codecs.engineio_framing import Poll4, Socket4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import (
    MAX_ATTACHMENTS,
    MAX_DEPTH,
    MAX_NAMESPACE,
    RESERVED,
    Decoder,
    SocketIOPacket,
    SocketIOPacketType,
    encode,
)
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay
from tests.fakes import started

MAX_BYTES = 1000

TABLE: list[tuple[list[bytes], SocketIOPacket]] = [
    # the protocol document's examples
    ([b"0"], SocketIOPacket(SocketIOPacketType.CONNECT)),
    (
        [b'0/admin,{"token":"123"}'],
        SocketIOPacket(SocketIOPacketType.CONNECT, "/admin", {"token": "123"}),
    ),
    (
        [b'0{"sid":"oSO0OpakMV_3jnilAAAA"}'],
        SocketIOPacket(SocketIOPacketType.CONNECT, "/", {"sid": "oSO0OpakMV_3jnilAAAA"}),
    ),
    ([b"1/admin,"], SocketIOPacket(SocketIOPacketType.DISCONNECT, "/admin")),
    ([b'2["foo"]'], SocketIOPacket(SocketIOPacketType.EVENT, "/", ["foo"])),
    ([b'2/admin,["bar"]'], SocketIOPacket(SocketIOPacketType.EVENT, "/admin", ["bar"])),
    ([b'212["foo"]'], SocketIOPacket(SocketIOPacketType.EVENT, "/", ["foo"], 12)),
    ([b'3/admin,13["bar"]'], SocketIOPacket(SocketIOPacketType.ACK, "/admin", ["bar"], 13)),
    ([b"30[]"], SocketIOPacket(SocketIOPacketType.ACK, "/", [], 0)),
    (
        [b'4{"message":"Not authorized"}'],
        SocketIOPacket(SocketIOPacketType.CONNECT_ERROR, "/", {"message": "Not authorized"}),
    ),
    ([b'4"no"'], SocketIOPacket(SocketIOPacketType.CONNECT_ERROR, "/", "no")),
    (
        [b'51-["baz",{"_placeholder":true,"num":0}]', b"\x01\x02\x03\x04"],
        SocketIOPacket(SocketIOPacketType.EVENT, "/", ["baz", b"\x01\x02\x03\x04"]),
    ),
    (
        [
            b'52-/admin,["baz",{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}]}]',
            b"1",
            b"",
        ],
        SocketIOPacket(SocketIOPacketType.EVENT, "/admin", ["baz", b"1", {"a": [b""]}]),
    ),
    (
        [b'61-15["bar",{"_placeholder":true,"num":0}]', b"\x01"],
        SocketIOPacket(SocketIOPacketType.ACK, "/", ["bar", b"\x01"], 15),
    ),
    (['2["é€😀\u2028"]'.encode()], SocketIOPacket(SocketIOPacketType.EVENT, "/", ["é€😀\u2028"])),
    ([b'2["a\\u001e\\u0000"]'], SocketIOPacket(SocketIOPacketType.EVENT, "/", ["a\x1e\0"])),
]

WRONG: list[list[str | bytes]] = [
    [""],
    ["abc"],
    ["7"],
    ["9[]"],
    ['٢["a"]'],
    ["2"],
    ["2[]"],
    ["2{}"],
    ["2[1]"],
    ['2["connect"]'],
    ['2["a"'],
    ['2["a"]x'],
    ['2["a",NaN]'],
    ['2["a",Infinity]'],
    ['2["a","\n"]'],
    ["2" + "[" * 100_000],
    ['2["a",' + "[" * MAX_DEPTH + "]" * MAX_DEPTH + "]"],
    ['2["a",' + "1" * 5000 + "]"],
    ['20123456789012345678["a"]'],
    ['299999999999999999["a"]'],
    ["0[]"],
    ['0"a"'],
    ["05{}"],
    ["1[]"],
    ["3[]"],
    ['30{"a":1}'],
    ["4"],
    ["0/" + "x" * MAX_NAMESPACE + ","],
    ['5["a"]'],
    ['50-["a"]'],
    [f'5{MAX_ATTACHMENTS + 1}-["a"]'],
    ['21-["a"]'],
    ['51-["a"]', '2["b"]'],
    ['51-["a",{"_placeholder":true,"num":1}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":-1}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":true}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":"0"}]', b"x"],
    ['51-["a",{"_placeholder":true}]', b"x"],
    ['51-["a",{"_placeholder":true,"num":0}]', b"x" * (MAX_BYTES + 1)],
    ['52-["a"]', b"x" * MAX_BYTES, b"x"],
    [b"bytes"],
]


def decoded(frames: list[str | bytes]) -> SocketIOPacket | None:
    """
    Return what a new decoder makes of *frames*: only the last one completes a packet.
    """
    decoder = Decoder(MAX_BYTES)
    *before, last = frames
    for frame in before:
        assert decoder.feed(frame) is None
    return decoder.feed(last)


@pytest.mark.parametrize(("frames", "packet"), TABLE)
def test_packets_round_trip(frames: list[bytes], packet: SocketIOPacket) -> None:
    """
    A packet is encoded as these frames, and these frames are decoded as the packet.
    """
    text, *attachments = frames

    assert encode(packet) == frames
    assert decoded([text.decode(), *attachments]) == packet


@pytest.mark.parametrize("frames", WRONG, ids=lambda frames: repr(frames[0][:30]))
def test_malformed_packets_are_refused(frames: list[str | bytes]) -> None:
    """
    No other exception than RemoteProtocolError is raised.
    """
    with pytest.raises(RemoteProtocolError):
        decoded(frames)


def test_a_namespace_may_be_the_end_of_a_packet() -> None:
    """
    A namespace at the end of a packet needs no comma; revision 4 may append a query.
    """
    assert decoded(["0/admin"]) == SocketIOPacket(SocketIOPacketType.CONNECT, "/admin")
    assert decoded(["0/admin?token=1"]) == SocketIOPacket(
        SocketIOPacketType.CONNECT, "/admin?token=1"
    )


def test_a_decoder_decodes_one_packet_after_another() -> None:
    """
    A packet with attachments is followed by the next packet.
    """
    decoder = Decoder(MAX_BYTES)
    for _ in range(2):
        assert decoder.feed('51-["a",{"_placeholder":true,"num":0}]') is None
        assert decoder.feed(b"x" * MAX_BYTES) == SocketIOPacket(
            SocketIOPacketType.EVENT, "/", ["a", b"x" * MAX_BYTES]
        )
        assert decoder.feed('2["b"]') == SocketIOPacket(SocketIOPacketType.EVENT, "/", ["b"])


def test_json_is_parsed_when_the_attachments_are_complete() -> None:
    """
    Attachments may never come: the text takes a twentieth of the memory of the objects.
    """
    text = '51-["a",' + "[]," * 20_000 + '{"_placeholder":true,"num":0}]'
    decoder = Decoder(MAX_BYTES)
    tracemalloc.start()
    try:
        assert decoder.feed(text) is None
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert used < 2 * len(text)
    whole = decoder.feed(b"x")
    assert whole is not None
    assert (len(whole.data), whole.data[-1]) == (20_002, b"x")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text().filter(lambda name: name != "_placeholder"), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(
    name=st.text().filter(lambda name: name not in RESERVED),
    arguments=st.lists(values, max_size=3),
    namespace=st.sampled_from(["/", "/admin", "/ä b"]),
    id=st.none() | st.integers(0, 2**53),
)
def test_any_event_round_trips(
    name: str, arguments: list[Any], namespace: str, id: int | None
) -> None:
    """
    Its data is anything that JSON can express, with bytes anywhere in it.
    """
    packet = SocketIOPacket(SocketIOPacketType.EVENT, namespace, [name, *arguments], id)
    text, *attachments = encode(packet)

    assert decoded([text.decode(), *attachments]) == packet


@given(arguments=st.lists(values, max_size=3), id=st.none() | st.integers(0, 1000))
def test_packets_agree_with_python_socketio(arguments: list[Any], id: int | None) -> None:
    """
    python-socketio decodes what we encode, and the other way round.
    """
    ours = SocketIOPacket(SocketIOPacketType.EVENT, "/a", ["event", *arguments], id)
    text, *attachments = encode(ours)
    theirs = socketio.packet.Packet(encoded_packet=text.decode())
    for attachment in attachments:
        theirs.add_attachment(attachment)
    assert (theirs.namespace, theirs.data, theirs.id) == (ours.namespace, ours.data, ours.id)

    written = socketio.packet.Packet(2, ["event", *arguments], "/a", id).encode()
    frames = written if isinstance(written, list) else [written]
    assert decoded(frames) == ours


@given(frames=st.lists(st.text(max_size=30) | st.binary(max_size=30), min_size=1))
def test_any_frames_are_decoded_or_refused(frames: list[str | bytes]) -> None:
    """
    No other exception than RemoteProtocolError is raised.
    """
    decoder = Decoder(MAX_BYTES)
    try:
        for frame in frames:
            decoder.feed(frame)
    except RemoteProtocolError:
        pass


def test_data_that_json_cannot_express_is_an_error() -> None:
    """
    The error is a TypeError or a ValueError, as the caller's data is wrong.
    """
    endless: list[Any] = []
    endless.append(endless)
    for wrong, error in ((object(), TypeError), (float("nan"), ValueError), (endless, ValueError)):
        with pytest.raises(error):
            encode(SocketIOPacket(SocketIOPacketType.EVENT, "/", ["a", wrong]))


def message(data: bytes, event: str | None = None, offset: int = 7) -> Message:
    """
    Return a published message.
    """
    return Message("news", data, Position("e", offset), event)


AS_EVENTS: list[tuple[Message, bytes]] = [
    (message(b"hello"), b'42["message","hello","e.7"]\x1e'),
    (message("é€😀".encode()), '42["message","é€😀","e.7"]\x1e'.encode()),
    (message(b""), b'42["message","","e.7"]\x1e'),
    (message(b'say "hi"\n\x1e\x00'), b'42["message","say \\"hi\\"\\n\\u001e\\u0000","e.7"]\x1e'),
    (message(b'{"a": [1,  2.50]}'), b'42["message",{"a": [1,  2.50]},"e.7"]\x1e'),
    (message(b"\n [1]\n"), b'42["message",\n [1]\n,"e.7"]\x1e'),
    (message(b'{"a": NaN}'), b'42["message","{\\"a\\": NaN}","e.7"]\x1e'),
    (message(b'{"a":'), b'42["message","{\\"a\\":","e.7"]\x1e'),
    (message(b"123"), b'42["message","123","e.7"]\x1e'),
    (message(b"true", "said"), b'42["said","true","e.7"]\x1e'),
    (message(b"x", 'a"b'), b'42["a\\"b","x","e.7"]\x1e'),
    (message(b"x", "connect"), b'42["message","x","e.7"]\x1e'),
    (message(b"x", "position"), b'42["message","x","e.7"]\x1e'),
    (message(b"x", "gap"), b'42["message","x","e.7"]\x1e'),
    (
        message(b"\xff\x00"),
        b'451-["message",{"_placeholder":true,"num":0},"e.7"]\x1eb/wA=\x1e',
    ),
]


@pytest.mark.parametrize(("published", "frames"), AS_EVENTS)
def test_messages_are_encoded_as_events(published: Message, frames: bytes) -> None:
    """
    JSON objects and arrays are sent as they were published, other text as a string, other
    data as an attachment; the position follows.
    """
    assert SocketIOEvents(Poll4()).encode(published) == frames


def test_events_name_their_namespace() -> None:
    """
    Positions can be left out.
    """
    format = SocketIOEvents(Poll4(), "/admin", positions=False)

    assert format.encode(message(b"x")) == b'42/admin,["message","x"]\x1e'
    assert format.encode(message(b"\xff")).startswith(b'451-/admin,["message",{')
    assert format.cursor(Position("e", 1)) == b""


@given(data=st.binary(max_size=200))
def test_any_message_becomes_a_packet(data: bytes) -> None:
    """
    The event has the data as it was published.
    """
    packets = Poll4().packets(Poll4().body(SocketIOEvents(Poll4()).encode(message(data))))
    found = decoded([packet.data for packet in packets])

    assert found is not None
    name, value, position = found.data
    assert (name, position) == ("message", "e.7")
    if isinstance(value, bytes):
        assert value == data
    elif isinstance(value, str):
        assert value.encode() == data
    else:
        assert value == json.loads(data)


def test_a_subscriber_first_gets_the_welcome_and_the_replay() -> None:
    """
    The welcome depends on whether messages are missing; then come a gap, if there is one, the
    missed messages, and the position.
    """
    format = SocketIOEvents(Poll4(), welcome=b"new\x1e", recovered_welcome=b"again\x1e")
    seven, nine = message(b"x"), Position("e", 9)

    assert verifyObject(IFormat, format)
    assert started(format, Replay((seven,), True, seven.position)) == (
        b'again\x1e42["message","x","e.7"]\x1e'
    )
    assert started(format, Replay((seven,), False, nine)) == (
        b'new\x1e42["gap",{"position":"e.9"}]\x1e42["message","x","e.7"]\x1e'
        b'42["position","e.9"]\x1e'
    )
    assert started(SocketIOEvents(Poll4(), quiet=True), Replay((), True, nine)) == b""


def test_formats_with_other_welcomes_share_encodings() -> None:
    """
    They are equal, and hash alike.
    """
    plain = SocketIOEvents(Socket4())
    alike = SocketIOEvents(Socket4(), welcome=b"new", recovered_welcome=b"again", quiet=True)

    assert plain == alike
    assert hash(plain) == hash(alike)
    assert plain != SocketIOEvents(Poll4())
    assert plain != SocketIOEvents(Socket4(), "/admin")


def test_a_session_ends_with_a_close_frame() -> None:
    """
    A poll has to fail instead.
    """
    assert SocketIOEvents(Poll4()).end(2000) == b""
    assert SocketIOEvents(Socket4()).end(2000) == b"\x88\x02\x03\xe9"


def test_attachments_that_are_too_large_have_status_413() -> None:
    """
    The status tells the client that the size was the reason.
    """
    decoder = Decoder(10)
    decoder.feed('51-["a",{"_placeholder":true,"num":0}]')
    with pytest.raises(RemoteProtocolError) as caught:
        decoder.feed(bytes(11))

    assert caught.value.status == 413
