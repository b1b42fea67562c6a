"""
The cases of the Autobahn test suite as tables, against a daemon that echoes.

Categories 1 to 7, 9, 10, 12 and 13; 9, 12 and 13 with fewer and smaller messages. The
client is wsproto, which shares no code with the daemon. Frames that wsproto would not send
are made by hand.
"""

from __future__ import annotations

import json
import random
import re
import socket
import struct
from base64 import b64encode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from os import urandom
from typing import Any

import pytest
from wsproto.connection import Connection, ConnectionType
from wsproto.events import (
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate

from tests.real.conftest import PATIENCE, ROOT, Server, StartDaemon

TEXT, BINARY = 1, 2
KIB = 1024
CLOSE_CODE = 1000  # of the client, after valid input
Event = tuple[Any, ...]


def frame(
    opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, size: int | None = None
) -> bytes:
    """
    Encode a client's frame; *size* is a wrong length for its header.
    """
    length = len(payload) if size is None else size
    head = bytes([fin << 7 | rsv << 4 | opcode])
    if length < 126:
        head += bytes([0x80 | length])
    elif length < 65536:
        head += b"\xfe" + length.to_bytes(2, "big")
    else:
        head += b"\xff" + length.to_bytes(8, "big")
    mask = urandom(4)
    over = (mask * (len(payload) // 4 + 1))[: len(payload)]
    plain = int.from_bytes(payload, "big") ^ int.from_bytes(over, "big")
    return head + mask + plain.to_bytes(len(payload), "big")


def split(data: bytes, size: int) -> list[bytes]:
    """
    Split *data* in pieces of *size* bytes.
    """
    return [data[at : at + size] for at in range(0, len(data), size)]


def fragments(opcode: int, pieces: Iterable[bytes], last: bool = True) -> bytes:
    """
    Encode a message with one frame for each piece; without its end if not *last*.
    """
    pieces = list(pieces)
    return b"".join(
        frame(0 if at else opcode, piece, last and at == len(pieces) - 1)
        for at, piece in enumerate(pieces)
    )


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(8, struct.pack("!H", code) + reason)


@dataclass(frozen=True, slots=True)
class Case:
    """
    One case of a table.

    Args:
        name: Autobahn's number, and more if it has several cases.
        sent: the client's bytes.
        received: what the daemon sends before the end.
        code: with which the daemon closes; None if the client closes, after *received*.
        chop: bytes of each write; 0 for a single write.
    """

    name: str
    sent: bytes
    received: tuple[Event, ...] = ()
    code: int | None = None
    chop: int = 0


def echo(name: str, opcode: int, data: bytes, chop: int = 0, fragment: int = 0) -> Case:
    sent = fragments(opcode, split(data, fragment)) if fragment else frame(opcode, data)
    return Case(name, sent, ((opcode, data),), chop=chop)


def framing() -> Iterator[Case]:
    """
    Category 1: messages with headers of all lengths.
    """
    for kind, byte in ((TEXT, b"*"), (BINARY, b"\xfe")):
        for size in (0, 125, 126, 127, 128, 65535, 65536):
            yield echo(f"1.{kind} of {size}", kind, byte * size)
        yield echo(f"1.{kind}.8", kind, byte * 65536, chop=997)


def pings() -> Iterator[Case]:
    """
    Category 2: pings and pongs.
    """
    binary = bytes([0, 255, 254, 253, 252, 251, 0, 255])
    for at, payload in enumerate((b"", b"Hello, world!", binary, b"\xfe" * 125)):
        yield Case(f"2.{at + 1}", frame(9, payload), (("pong", payload),))
    yield Case("2.5", frame(9, b"\xfe" * 126), code=1002)
    yield Case("2.6", frame(9, b"\xfe" * 125), (("pong", b"\xfe" * 125),), chop=1)
    yield Case("2.7", frame(10))
    yield Case("2.8", frame(10, b"unsolicited pong payload"))
    yield Case("2.9", frame(10, b"unsolicited") + frame(9, b"ping"), (("pong", b"ping"),))
    ten = [b"payload-%d" % number for number in range(10)]
    for chop in (0, 1):
        sent = b"".join(frame(9, payload) for payload in ten)
        yield Case("2.10", sent, tuple(("pong", payload) for payload in ten), chop=chop)


def reserved() -> Iterator[Case]:
    """
    Categories 3 and 4: reserved bits and opcodes. Earlier frames are answered.
    """
    hello = frame(TEXT, b"Hello, world!")
    received = ((TEXT, b"Hello, world!"),)
    for chop in (0, 1):
        for rsv in (1, 2, 3, 5, 6, 7):
            wrong = frame(TEXT, b"Hello, world!", rsv=rsv)
            yield Case(f"3.{rsv} first", wrong, code=1002, chop=chop)
            yield Case(f"3.{rsv}", hello + wrong + frame(9), received, 1002, chop)
        yield Case("3.4", hello + frame(TEXT, b"x", rsv=4) + frame(9), received, 1002, chop)
        yield Case("3.5", frame(BINARY, b"\0\xff", rsv=5), code=1002, chop=chop)
        yield Case("3.6", frame(9, b"x", rsv=6), code=1002, chop=chop)
        yield Case("3.7", frame(8, rsv=7), code=1002, chop=chop)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            for payload in (b"", b"reserved opcode"):
                sent = frame(opcode, payload)
                yield Case(f"4 opcode {opcode}", sent, code=1002, chop=chop)
                yield Case(f"4 {opcode} behind", hello + sent + frame(9), received, 1002, chop)


def fragmented() -> Iterator[Case]:
    """
    Category 5: fragmented messages, and control frames between fragments.
    """
    parts = (b"fragment1", b"fragment2")
    whole = (TEXT, b"fragment1fragment2")
    first, second = frame(TEXT, parts[0], False), frame(0, parts[1])
    ping, pong = frame(9, b"ping payload"), ("pong", b"ping payload")
    for chop in (0, 1, 7):
        yield Case("5.1", frame(9, b"x", False) + frame(0, b"y"), code=1002, chop=chop)
        yield Case("5.2", frame(10, b"x", False) + frame(0, b"y"), code=1002, chop=chop)
        yield Case("5.3", first + second, (whole,), chop=chop)
        yield Case("5.6", first + ping + second, (pong, whole), chop=chop)
        lone = frame(0, b"non-continuation payload")
        yield Case("5.9", lone + frame(TEXT, b"Hello"), code=1002, chop=chop)
        lone = frame(0, b"non-continuation payload", False)
        yield Case("5.12", lone + frame(TEXT, b"Hello"), code=1002, chop=chop)
        sent = first + second + lone + frame(TEXT, b"Hello")
        yield Case("5.15", sent, (whole,), 1002, chop)
        sent = frame(0, b"1", False) + frame(TEXT, b"2", False) + frame(0, b"3")
        yield Case("5.16", sent * 2, code=1002, chop=chop)
        sent = frame(0, b"1") + frame(TEXT, b"2", False) + frame(0, b"3")
        yield Case("5.17", sent * 2, code=1002, chop=chop)
        yield Case("5.18", first + frame(TEXT, parts[1]), code=1002, chop=chop)
        five = [b"fragment%d" % number for number in range(1, 6)]
        sent = frame(TEXT, five[0], False) + frame(0, five[1], False) + frame(9, b"1")
        sent += frame(0, five[2], False) + frame(0, five[3], False) + frame(9, b"2")
        sent += frame(0, five[4])
        received = (("pong", b"1"), ("pong", b"2"), (TEXT, b"".join(five)))
        yield Case("5.19", sent, received, chop=chop)


VALID = [
    b"",
    "Hello-µ@ßöäüàá-UTF-8!!".encode(),
    "κόσμε".encode(),
    b"\0",
    b"\xc2\x80",
    b"\xe0\xa0\x80",
    b"\xf0\x90\x80\x80",
    b"\x7f",
    b"\xdf\xbf",
    b"\xef\xbf\xbf",
    b"\xf4\x8f\xbf\xbf",
    b"\xed\x9f\xbf",
    b"\xee\x80\x80",
    b"\xef\xbf\xbd",
    b"\xef\xbf\xbe",
    b"\xf0\x9f\xbf\xbe",
    b"\xf0\x9f\xbf\xbf",
]
INVALID = [
    b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    b"\xf8\x88\x80\x80\x80",
    b"\xfc\x84\x80\x80\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xfb\xbf\xbf\xbf\xbf",
    b"\xfd\xbf\xbf\xbf\xbf\xbf",
    b"\xf4\x90\x80\x80",
    *(b"\x80\xbf"[at % 2 :] * 3 for at in range(2)),
    bytes(range(0x80, 0xC0)),
    b" ".join(bytes([byte]) for byte in range(0xC0, 0x100)),
    b"\xe0\x80 ",
    b"\xf0\x80\x80 ",
    b"\xdf ",
    b"\xef\xbf ",
    b"\xfe",
    b"\xff",
    b"\xfe\xfe\xff\xff",
    b"\xc0\xaf",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xf8\x80\x80\x80\xaf",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xc0\x80",
    *(bytes([0xED, byte, 0x80]) for byte in (0xA0, 0xAD, 0xAE, 0xAF, 0xB0, 0xBE, 0xBF)),
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xed\xaf\xbf\xed\xbf\xbf",
]
INCOMPLETE = [b"\xc2", b"\xe1\xbd", b"\xf0\x90\x80", b"\xce\xba\xe1"]


def utf_8() -> Iterator[Case]:
    """
    Category 6: text; the first invalid byte closes, although the message goes on.
    """
    for at, text in enumerate(VALID):
        yield echo(f"6 valid {at}", TEXT, text)
        yield echo(f"6 valid {at} in octets", TEXT, text, 1, 1 if text else 0)
    for at, text in enumerate(INVALID):
        more = b"more" * 10
        for chop in (0, 1):
            yield Case(f"6 invalid {at}", frame(TEXT, text), code=1007, chop=chop)
            sent = frame(TEXT, text + more)[: -len(more)]
            yield Case(f"6.4 invalid {at}, truncate a frame", sent, code=1007, chop=chop)
        sent = fragments(TEXT, [b"before", *split(text, 1)], last=False)
        yield Case(f"6.4 invalid {at}, fragments", sent, code=1007)
    for text in INCOMPLETE:
        yield Case(f"6 incomplete {text!r}", frame(TEXT, text), code=1007)
        yield Case(f"6 incomplete {text!r}", fragments(TEXT, [text, b""]), code=1007)
    yield Case("6 binary", frame(BINARY, b"\xff"), ((BINARY, b"\xff"),))


def closes() -> Iterator[Case]:
    """
    Category 7: the closing handshake.
    """
    hello, received = frame(TEXT, b"Hello"), ((TEXT, b"Hello"),)
    ping = frame(9)
    yield Case("7.1.1", hello + close(1000), received, 1000)
    yield Case("7.1.2", close(1000) * 2, code=1000)
    yield Case("7.1.3", close(1000) + ping, code=1000)
    yield Case("7.1.4", close(1000) + hello, code=1000)
    sent = frame(TEXT, b"fragment1", False) + close(1000) + frame(0, b"fragment2")
    yield Case("7.1.5", sent, code=1000)
    large = b"BAsd7&jh23" * 26 * KIB
    received = ((TEXT, large),)
    yield Case("7.1.6", frame(TEXT, large) + close(1000) + ping, received, 1000)
    yield Case("7.1.6 much", close(1000) + bytes(9000), code=1000)
    yield Case("7.3.1", frame(8), code=1005)
    yield Case("7.3.2", frame(8, b"a"), code=1002)
    yield Case("7.3.3", close(1000), code=1000)
    yield Case("7.3.4", close(1000, b"Hello World!"), code=1000)
    yield Case("7.3.5", close(1000, b"*" * 123), code=1000)
    yield Case("7.3.6", close(1000, b"*" * 124), code=1002)
    yield Case("7.5.1", close(1000, INVALID[0]), code=1007)
    for code in (*range(1000, 1004), *range(1007, 1012), 3000, 3999, 4000, 4999):
        yield Case(f"7.7 {code}", close(code), code=code)
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield Case(f"7.9 {code}", close(code), code=1002)


def truncate(data: bytes, size: int) -> bytes:
    """
    Return the first *size* bytes, or a little less of text.
    """
    try:
        data.decode()
    except UnicodeDecodeError:
        return data[:size]
    return data[:size].decode(errors="ignore").encode()


def large() -> Iterator[Case]:
    """
    Categories 9 and 10: up to 1 MiB, in frames and writes of all sizes.
    """
    for kind, data in ((TEXT, "ü€".encode() * 210_000), (BINARY, urandom(KIB * KIB))):
        for size in (64 * KIB, 256 * KIB, KIB * KIB):
            yield echo(f"9.{kind} of {size}", kind, truncate(data, size))
        for size in (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB):
            yield echo(f"9.{kind + 2} by {size}", kind, truncate(data, 256 * KIB), 0, size)
        for chop in (64, 128, 256, 512, KIB, 2 * KIB):
            yield echo(f"9.{kind + 4} chopped by {chop}", kind, truncate(data, 64 * KIB), chop)
    yield echo("10.1.1", TEXT, b"*" * 65536, 0, 1300)


def too_large() -> Iterator[Case]:
    """
    Messages over the daemon's limit of 1 MiB are refused by their header.
    """
    head = frame(BINARY, b"", size=KIB * KIB + 1)
    yield Case("a frame", head, code=1009)
    half = frame(BINARY, bytes(KIB * KIB), False)
    yield Case("the sum of fragments", half + frame(0, b"", size=1), code=1009)
    yield Case("2 ** 62", b"\x82\xff" + (2**62).to_bytes(8, "big"), code=1009)


CATEGORIES = [framing, pings, reserved, fragmented, utf_8, closes, large, too_large]


class EchoClient:
    """
    A websocket to the daemon, parsed by wsproto.
    """

    def __init__(self, server: Server, offer: str = "") -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        key = b64encode(urandom(16)).decode()
        extension = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
        self.socket.sendall(
            f"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"{extension}\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = self.socket.recv(1)
            assert byte, head
            head += byte
        assert head.startswith(b"HTTP/1.1 101 "), head
        extensions: list[Any] = []
        if offer:
            found = re.search(rb"Sec-WebSocket-Extensions: (.*)\r\n", head)
            assert found is not None, head
            deflate = PerMessageDeflate(*_offered(offer))
            deflate.finalize(found[1].decode())
            extensions = [deflate]
        self.wire = Connection(ConnectionType.CLIENT, extensions)
        self._piece: bytearray = bytearray()

    def send(self, data: bytes, chop: int = 0) -> None:
        """
        Send *data*; errors are ignored, as the daemon may have closed already.
        """
        try:
            for piece in split(data, chop) if chop else [data]:
                self.socket.sendall(piece)
        except OSError:
            pass

    def events(self) -> Iterator[Event]:
        """
        Yield what the daemon sends until it disconnects; ("close", code) is the last.
        """
        while True:
            for event in self.wire.events():
                if isinstance(event, Message):
                    data = event.data
                    self._piece += data.encode() if isinstance(data, str) else bytes(data)
                    if event.message_finished:
                        kind = TEXT if isinstance(event, TextMessage) else BINARY
                        yield kind, bytes(self._piece)
                        self._piece.clear()
                elif isinstance(event, Pong):
                    yield "pong", bytes(event.payload)
                elif isinstance(event, CloseConnection):
                    yield "close", int(event.code)
                else:
                    assert isinstance(event, Ping), event  # a heartbeat
            try:
                data = self.socket.recv(1 << 18)
            except ConnectionResetError:
                data = b""
            if not data:
                return
            self.wire.receive_data(data)

    def hang_up(self) -> None:
        self.socket.close()


def _offered(offer: str) -> tuple[bool, int | None, bool, int | None]:
    client = re.search(r"client_max_window_bits=?(\d*)", offer)
    server = re.search(r"server_max_window_bits=(\d+)", offer)
    return (
        "client_no_context_takeover" in offer,
        int(client[1] or 15) if client else None,
        "server_no_context_takeover" in offer,
        int(server[1]) if server else None,
    )


def run_case(server: Server, case: Case) -> str:
    """
    Return what differs from *case*; "" for nothing.
    """
    client = EchoClient(server)
    try:
        client.send(case.sent, case.chop)
        received: list[Event] = []
        if case.code is None and not case.received:
            client.send(close(CLOSE_CODE))
        for event in client.events():
            received.append(event)
            if case.code is None and len(received) == len(case.received):
                client.send(close(CLOSE_CODE))
        expected = [*case.received, ("close", CLOSE_CODE if case.code is None else case.code)]
        return "" if received == expected else f"{case.name}: {received!r:.300}"
    except TimeoutError:
        return f"{case.name}: no answer"
    finally:
        client.hang_up()


@pytest.fixture
def server(daemon: StartDaemon) -> Server:
    """
    Start a daemon that echoes, without rate limits.
    """
    return daemon(
        "--route=^/echo$ websocket:app=echo.Echo",
        "--websocket-rate=0",
        "--websocket-bytes=0",
        environment={"PYTHONPATH": str(ROOT / "examples")},
    )


def test_cases_without_compression(server: Server) -> None:
    """
    Each case runs on a websocket of its own.
    """
    cases = [case for category in CATEGORIES for case in category()]

    assert len(cases) > 400
    assert [wrong for case in cases if (wrong := run_case(server, case))] == []


OFFERS = [
    "permessage-deflate",
    "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_no_context_takeover; client_max_window_bits",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; server_max_window_bits=9",
    "permessage-deflate; client_no_context_takeover; server_no_context_takeover; "
    "client_max_window_bits; server_max_window_bits=15",
]


def test_cases_with_compression(server: Server) -> None:
    """
    Categories 12 and 13: wsproto compresses messages of many sizes, whole and fragmented,
    and decompresses the echoes; for each of the OFFERS.
    """
    for offer in OFFERS:
        client = EchoClient(server, offer)
        received = client.events()
        for pieces in _messages():
            for at, piece in enumerate(pieces):
                client.send(client.wire.send(_event(piece, at == len(pieces) - 1)))
            whole = b"".join(p.encode() if isinstance(p, str) else p for p in pieces)
            kind = TEXT if isinstance(pieces[0], str) else BINARY
            assert next(received) == (kind, whole), offer
        client.send(client.wire.send(CloseConnection(1000, "bye")))
        assert list(received) == [("close", 1000)], offer
        client.hang_up()


def _messages() -> Iterator[list[Any]]:
    words = json.dumps([{"name": f"ü{at}", "value": at * 3.5} for at in range(8000)])
    chance = random.Random(1)
    for size in (0, 16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131_072):
        data: Any
        for data in (words[:size], words.encode()[:size], chance.randbytes(size)):
            yield [data]
            yield [data[at : at + 1000] for at in range(0, max(size, 1), 1000)]


def _event(piece: str | bytes, last: bool) -> Any:
    kind: Any = TextMessage if isinstance(piece, str) else BytesMessage
    return kind(piece, message_finished=last)


def test_broken_compression(server: Server) -> None:
    """
    Invalid deflate data, compressed text that is not UTF-8, and messages that grow too
    large close the websocket.
    """
    from zlib import Z_SYNC_FLUSH, compressobj

    def compress(data: bytes) -> bytes:
        compressor = compressobj(wbits=-15)
        return (compressor.compress(data) + compressor.flush(Z_SYNC_FLUSH))[:-4]

    rows = [
        (frame(BINARY, b"\xff\xff\xff", rsv=4), 1002),
        (frame(9, b"x", rsv=4), 1002),
        (frame(TEXT, compress(b"a"), False, rsv=4) + frame(0, b"", rsv=4), 1002),
        (frame(TEXT, compress(INVALID[0]), rsv=4), 1007),
        (frame(TEXT, compress(INVALID[0]) + bytes(9), False, rsv=4)[:-9], 1007),  # at once
        (frame(BINARY, compress(bytes(KIB * KIB + 1)), rsv=4), 1009),
        (frame(BINARY, compress(bytes(100 * KIB * KIB)), rsv=4), 1009),
    ]
    for sent, code in rows:
        client = EchoClient(server, OFFERS[0])
        client.send(sent)
        assert list(client.events()) == [("close", code)], sent[:20]
        client.hang_up()
