"""
Frames of websocket clients, made by hand or by hypothesis.
"""

from __future__ import annotations

import zlib
from typing import Any

import wsproto
import wsproto.events
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
)
from websockets.protocol import Protocol, Side

from rt_twisted.codecs.websocket_inbound import FrameParser

LIMIT = 100_000
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = bytes.fromhex("37fa213d")
LONG = b"x" * 256
HUGE = b"y" * 65536
GREEK = "κόσμε".encode()  # 11 bytes, as in Autobahn 6.4


def masked(opcode: int, payload: bytes, fin: bool = True, rsv: int = 0) -> bytes:
    """
    Encode a client's frame by hand (RFC 6455, 5.2).
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


def compress(data: bytes) -> bytes:
    press = zlib.compressobj(wbits=-15)
    return (press.compress(data) + press.flush(zlib.Z_SYNC_FLUSH))[:-4]


def feed(data: bytes, *, deflate: bool = False, limit: int = LIMIT, cut: int = 0) -> Any:
    """
    Parse *data* with a new parser, whole or in pieces of *cut* bytes.
    """
    parser = FrameParser(limit, deflate)
    events = []
    for at in range(0, len(data), cut or max(1, len(data))):
        events += parser.feed(data[at : at + (cut or len(data))])
        if parser.failure:
            break
    return events, parser.failure, parser.idle


PAYLOADS = st.one_of(
    st.sampled_from([b"", b"x", b"\x03\xe8", b"x" * 125, b"x" * 126, b"x" * 2000, GREEK]),
    st.binary(max_size=130),
)
FRAMES = st.builds(
    lambda opcode, payload, fin, rsv, small: masked(
        opcode, compress(payload) if small else payload, fin, 4 if small else rsv
    ),
    st.sampled_from([0, 0, 1, 1, 2, 2, 8, 9, 10, 3]),
    PAYLOADS,
    st.sampled_from([True, True, False]),
    st.sampled_from([0, 0, 0, 0, 0, 0, 4, 1]),
    st.sampled_from([False, False, True]),
)


def other_clients() -> list[Any]:
    """
    Create two clients of other libraries; each returns the messages in a server's bytes.
    """

    def theirs(data: bytes, deflate: bool) -> list[bytes]:
        client = Protocol(Side.CLIENT, max_size=None)
        if deflate:
            factory = ClientPerMessageDeflateFactory(True, True)
            answer = [("server_no_context_takeover", None), ("client_no_context_takeover", None)]
            client.extensions = [factory.process_response_params(answer, [])]
        client.receive_data(data)
        assert client.parser_exc is None
        library_events: Any = client.events_received()
        return [bytes(event.data) for event in library_events]

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
