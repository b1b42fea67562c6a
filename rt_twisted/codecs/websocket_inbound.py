"""
What websocket clients send: frames in, whole messages out (RFC 6455, 5).

The reading itself is done by the `websockets` library's sans-I/O core: limits,
reserved bits, masks, control frames, close codes, and the defence against
messages that grow when they are inflated. Joining fragments and checking text
is done here.

Between two messages a parser has nothing to remember. So connections have none:
they borrow one when bytes come, and keep it only while a message is incomplete.
"""

from __future__ import annotations

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode as TheirOpcode
from websockets.protocol import OPEN, Protocol, Side
from websockets.streams import StreamReader

from rt_twisted.codecs.websocket import Code, is_text

SPARE = 64  # parsers kept for the next bytes
PIECE = 4096  # bytes to be fed at a time: 680 frames at most
SHRUNK = 1024  # likewise where they may be compressed: a MiB at most, inflated
_BETWEEN = StreamReader.at_eof.__code__  # where the core waits for a frame's first byte
_CONT, _TEXT, _BINARY = TheirOpcode.CONT, TheirOpcode.TEXT, TheirOpcode.BINARY

Said = tuple[int, bytes]
"""
An opcode and its payload: a whole message, or a control frame.
"""


class Parser:
    """
    Reads one connection's bytes.

    Args:
        limit: bytes of a message, however many frames it has and however it is
            compressed.
        deflate: compression was agreed on.

    Attributes:
        idle: whether it stands between two messages, and could serve any connection.
        frames: in the bytes fed last.
        bytes: of those frames, inflated.
        failure: code and reason with which the connection has to be closed.
    """

    __slots__ = ("_kind", "_limit", "_message", "_protocol", "bytes", "failure", "frames", "idle")

    def __init__(self, limit: int, deflate: bool) -> None:
        self._limit = limit
        # The core bounds frames as they come, too: what cannot be compressed
        # is a little larger when it is.
        most = limit + (limit >> 6) + 1024 if deflate else limit
        self._protocol = Protocol(Side.SERVER, state=OPEN, max_size=most)
        if deflate:
            self._protocol.extensions = [PerMessageDeflate(True, True, 15, 15)]
        self._kind = 0
        self._message: bytearray | None = None  # of a message in fragments, so far
        self.idle = True
        self.frames = 0
        self.bytes = 0
        self.failure: tuple[int, str] | None = None

    def feed(self, data: bytes) -> list[Said]:
        """
        Take the next bytes, however they are cut; linear in their number.

        Returns:
            what they completed, in order. Nothing comes after a CLOSE, whose
            payload is right. If `failure` is set afterwards, the connection has
            to be closed with that code and reason.
        """
        protocol = self._protocol
        protocol.receive_data(data)
        events = protocol.events_received()
        self.frames = len(events)
        self.idle = False
        said: list[Said] = []
        size = 0
        for event in events:
            opcode: int = event.opcode  # type: ignore[union-attr]  # no handshakes here
            payload = event.data  # type: ignore[union-attr]
            size += len(payload)
            if opcode is _TEXT or opcode is _BINARY:
                if not event.fin:  # type: ignore[union-attr]
                    self._kind = opcode
                    self._message = bytearray(payload)
                    continue
            elif opcode is _CONT:
                assert self._message is not None
                self._message += payload
                if not event.fin:  # type: ignore[union-attr]
                    continue
                opcode, payload = self._kind, bytes(self._message)
                self._message = None
            else:
                said.append((opcode, payload))  # type: ignore[arg-type]
                continue
            if len(payload) > self._limit:
                self.failure = (Code.TOO_BIG, f"a message has up to {self._limit} bytes")
                return said
            if opcode is _TEXT and not is_text(payload):  # type: ignore[arg-type]
                self.failure = (Code.NOT_TEXT, "a text message is not UTF-8")
                return said
            said.append((opcode, payload))  # type: ignore[arg-type]
        self.bytes = size
        # An empty buffer would not do: a header is out of it before its payload comes.
        # After a close the core discards what comes, and waits at the same place.
        waiting = getattr(protocol.parser, "gi_yieldfrom", None)
        self.idle = (
            protocol.state is OPEN
            and self._message is None
            and getattr(waiting, "gi_code", None) is _BETWEEN
        )
        if protocol.writes:  # the core's own answers; ours are made elsewhere
            protocol.data_to_send()
            if protocol.parser_exc is not None:
                sent = protocol.close_sent
                assert sent is not None
                self.failure = (sent.code, sent.reason)
                protocol.parser_exc = None  # its traceback holds all that was inflated
        return said


class Inbound:
    """
    Lends parsers to all connections of one kind.

    Args:
        limit: bytes of a message.
        deflate: compression was agreed on.

    Attributes:
        piece: bytes a parser should be fed at a time, so that what comes of
            them is no more than others can wait for.
    """

    def __init__(self, limit: int, deflate: bool) -> None:
        self._limit = limit
        self._deflate = deflate
        self.piece = SHRUNK if deflate else PIECE
        self._spare: list[Parser] = []

    def borrow(self) -> Parser:
        """
        A parser that stands before the first byte of a message.
        """
        return self._spare.pop() if self._spare else Parser(self._limit, self._deflate)

    def give_back(self, parser: Parser) -> None:
        """
        Take back one that is `idle`.
        """
        if len(self._spare) < SPARE:
            self._spare.append(parser)


def close_of(payload: bytes) -> tuple[int, str]:
    """
    Code and reason of a close frame that a parser has let pass.
    """
    if not payload:
        return Code.NO_CODE, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()
