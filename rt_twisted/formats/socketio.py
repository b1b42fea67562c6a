"""
Messages as Socket.IO events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zope.interface import implementer

from rt_twisted.codecs.engineio import EngineIOPacketType as EngineKind
from rt_twisted.codecs.engineio import text_of
from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import (
    RESERVED,
    SocketIOPacket,
    SocketIOPacketType,
    dump,
    encode,
    head_of,
    load,
)
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import GAP, POSITION, Message, Position, Replay

MESSAGE = "message"  # the event of a message without a type

_NOT_TYPES = RESERVED | {GAP, POSITION}  # of messages: the client's and the server's own

_PLACEHOLDER = b'{"_placeholder":true,"num":0}'


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class SocketIOEvents:
    """
    A message is an event of its type, or `message`: its data, and its position.

    The data is a JSON object or array if it is one, as it was published; else
    a string if it is UTF-8; else bytes. The position is a string and comes
    last: that is where clients with connection state recovery look for it.

    Args:
        framing: how packets lie on the wire.
        namespace: of the events.
        positions: whether they are told; without them nobody can resume.
        welcome: frames for a reader that joins now, before everything else...
        welcome_back: ...and instead of them where nothing is missing. Readers
            that differ in these alone share everything that follows.
        quiet: it is told nothing but the welcome when it joins, as it has heard
            all before, or hears nothing yet.
    """

    framing: Framing
    namespace: str = "/"
    positions: bool = True
    welcome: bytes = field(default=b"", compare=False)
    welcome_back: bytes = field(default=b"", compare=False)
    quiet: bool = field(default=False, compare=False)

    content_type = ""  # sessions answer by themselves
    heartbeat = b""  # sessions have pings of their own

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        The welcome, a word about a gap, what was missed, and a cursor.
        """
        if self.quiet:
            return [self.welcome]
        items: list[bytes | Message] = [self.welcome_back if replay.complete else self.welcome]
        if not replay.complete:
            items.append(self.gap(replay.position))
        items.extend(replay.messages)
        if not replay.messages or replay.messages[-1].position != replay.position:
            items.append(self.cursor(replay.position))
        return items

    def encode(self, message: Message) -> bytes:
        """
        One event, with an attachment if its data is neither JSON nor text.
        """
        event = message.event
        if event is None or event in _NOT_TYPES:
            event = MESSAGE
        position = b""
        if self.positions:
            position = b',"%s"' % str(message.position).encode()
        data = _as_json(message.data)
        kind, attachments = SocketIOPacketType.EVENT, 0
        if data is None:
            kind, attachments, data = SocketIOPacketType.BINARY_EVENT, 1, _PLACEHOLDER
        head = head_of(kind, self.namespace, None, attachments)
        framing = self.framing
        frame = framing.text(b"4%s[%s,%s%s]" % (head, dump(event), data, position))
        return frame + framing.binary(message.data) if attachments else frame

    def cursor(self, position: Position) -> bytes:
        """
        An event `position`, which says nothing else: clients with recovery
        remember it by themselves.
        """
        return self._say(POSITION, str(position)) if self.positions else b""

    def gap(self, position: Position) -> bytes:
        """
        An event `gap`; it has an object with the position in it, not the
        position: who is cut off right after it hears of the same gap again.
        """
        return self._say(GAP, {"position": str(position)})

    def end(self, retry: int) -> bytes:
        """
        The end of the session; clients come back when their own settings say so.
        """
        return self.framing.end()

    def _say(self, event: str, data: object) -> bytes:
        return frames_of(
            SocketIOPacket(SocketIOPacketType.EVENT, self.namespace, [event, data]), self.framing
        )


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class ResumedSocketIOEvents:
    """
    What channels had up to a position, and nothing else: for who has heard them from
    there on.

    Args:
        events: how it looks.
        until: that position.
    """

    events: SocketIOEvents
    until: Position

    content_type = ""
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        A word about a gap, the messages, and the position.
        """
        events, until = self.events, self.until
        gap = [] if replay.complete else [events.gap(replay.position)]
        earlier = [message for message in replay.messages if self._covers(message.position)]
        return [*gap, *earlier, events.cursor(until)]

    def encode(self, message: Message) -> bytes:
        """
        One event of what came up to the position; nothing for what came later.
        """
        encoded: bytes = self.events.encode(message) if self._covers(message.position) else b""
        return encoded

    def _covers(self, position: Position) -> bool:
        until = self.until
        return position.epoch == until.epoch and position.offset <= until.offset

    def cursor(self, position: Position) -> bytes:
        """
        Nothing.
        """
        return b""

    def gap(self, position: Position) -> bytes:
        """
        Nothing.
        """
        return b""

    def end(self, retry: int) -> bytes:
        """
        Nothing.
        """
        return b""


def frames_of(packet: SocketIOPacket, framing: Framing) -> bytes:
    """
    *packet* on a wire.

    Raises:
        TypeError: its data has something that JSON cannot say.
        ValueError: NaN or infinity, or nested without end.
    """
    return framed(encode(packet), framing)


def framed(pieces: list[bytes], framing: Framing) -> bytes:
    """
    A packet that `codecs.socketio.encode` has encoded, on a wire.
    """
    text, *attachments = pieces
    frame = framing.text(text_of(EngineKind.MESSAGE, text))
    return frame + b"".join(map(framing.binary, attachments)) if attachments else frame


def _as_json(data: bytes) -> bytes | None:
    """
    *data* as a JSON value; None if it is not text.
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
