"""
The format of Socket.IO: messages as events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zope.interface import implementer

from rt_twisted.codecs.engineio import EngineIOPacketType as EngineKind
from rt_twisted.codecs.engineio import encode_text
from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import (
    RESERVED,
    SocketIOPacket,
    SocketIOPacketType,
    dump,
    encode,
    encode_head,
    load,
)
from rt_twisted.model.interfaces import IExpiringFormat, IFormat
from rt_twisted.model.message import EXPIRE, GAP, POSITION, Mark, Message, Position, Replay

MESSAGE = "message"  # the event of a message without a type

UNSUBSCRIBED = "unsubscribed"  # the event of a client that has lost channels

# Event types that messages cannot have.
_RESERVED_TYPES = RESERVED | {EXPIRE, GAP, POSITION, UNSUBSCRIBED}

_PLACEHOLDER = b'{"_placeholder":true,"num":0}'


@implementer(IExpiringFormat)
@dataclass(frozen=True, slots=True)
class SocketIOEvents:
    """
    A message as an event: its event type or `message`, its data and its position.

    A JSON object or array is sent as it was published, other UTF-8 text as a string, other
    data as bytes. The position is a string and the last argument: clients with connection
    state recovery look for it there.

    Formats that differ only in the frames sent first are equal: they share encodings.

    Args:
        framing: how packets become bytes.
        namespace: of the events.
        positions: whether events have their position; without it clients cannot resume.
        welcome: whole frames, sent first to a subscriber that joins.
        recovered_welcome: replaces the welcome if no message is missing.
        quiet: send only the welcome to a subscriber that joins: no replay, no cursor.
    """

    framing: Framing
    namespace: str = "/"
    positions: bool = True
    welcome: bytes = field(default=b"", compare=False)
    recovered_welcome: bytes = field(default=b"", compare=False)
    quiet: bool = field(default=False, compare=False)

    content_type = ""  # sessions write their own responses
    heartbeat = b""  # sessions have pings

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        if self.quiet:
            return [self.welcome]
        items: list[bytes | Message] = [self.recovered_welcome if replay.complete else self.welcome]
        if not replay.complete:
            items.append(self.gap(replay.position))
        items.extend(replay.messages)
        last = replay.messages[-1] if replay.messages else None
        if last is None or last.mark is not Mark.NONE or last.position != replay.position:
            items.append(self.cursor(replay.position))
        return items

    def encode(self, message: Message) -> bytes:
        if message.mark is not Mark.NONE:
            return b""
        event = message.event
        if event is None or event in _RESERVED_TYPES:
            event = MESSAGE
        position = b""
        if self.positions:
            position = b',"%s"' % str(message.position).encode()
        data = _as_json(message.data)
        kind, attachments = SocketIOPacketType.EVENT, 0
        if data is None:
            kind, attachments, data = SocketIOPacketType.BINARY_EVENT, 1, _PLACEHOLDER
        head = encode_head(kind, self.namespace, None, attachments)
        framing = self.framing
        frame = framing.text(b"4%s[%s,%s%s]" % (head, dump(event), data, position))
        return frame + framing.binary(message.data) if attachments else frame

    def cursor(self, position: Position) -> bytes:
        # Clients with recovery store the last argument of any event.
        return self._event(POSITION, str(position)) if self.positions else b""

    def gap(self, position: Position) -> bytes:
        # The position is in an object, so that clients do not store it: one that is
        # disconnected right after a gap gets the gap again.
        return self._event(GAP, {"position": str(position)})

    def expire(self, seconds: int, position: Position | None) -> bytes:
        return self._event(EXPIRE, {"seconds": seconds})

    def end(self, retry: int) -> bytes:
        return self.framing.end()

    def _event(self, event: str, data: object) -> bytes:
        return encode_packet(
            SocketIOPacket(SocketIOPacketType.EVENT, self.namespace, [event, data]), self.framing
        )


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class ResumedSocketIOEvents:
    """
    The messages of channels up to a position, for a client that has received all after it.

    Args:
        events: encodes the messages.
        until: the position.
    """

    events: SocketIOEvents
    until: Position

    content_type = ""
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        events, until = self.events, self.until
        gap = [] if replay.complete else [events.gap(replay.position)]
        earlier = [message for message in replay.messages if self._covers(message.position)]
        return [*gap, *earlier, events.cursor(until)]

    def encode(self, message: Message) -> bytes:
        encoded: bytes = self.events.encode(message) if self._covers(message.position) else b""
        return encoded

    def _covers(self, position: Position) -> bool:
        until = self.until
        return position.epoch == until.epoch and position.offset <= until.offset

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""


def encode_packet(packet: SocketIOPacket, framing: Framing) -> bytes:
    """
    Return the frames of *packet*.

    Raises:
        TypeError: JSON cannot express its data.
        ValueError: its data has NaN or infinity, or is nested too deeply.
    """
    return frame_packet(encode(packet), framing)


def frame_packet(pieces: list[bytes], framing: Framing) -> bytes:
    """
    Return the frames of a packet that `codecs.socketio.encode` has encoded.
    """
    text, *attachments = pieces
    frame = framing.text(encode_text(EngineKind.MESSAGE, text))
    return frame + b"".join(map(framing.binary, attachments)) if attachments else frame


def _as_json(data: bytes) -> bytes | None:
    """
    Return *data* as a JSON value; None if it is not UTF-8.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    if text.lstrip(" \t\r\n")[:1] in ("{", "["):
        try:
            load(text)
        except RemoteProtocolError:
            pass
        else:
            return data
    return dump(text)
