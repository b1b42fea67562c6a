"""
The server's side of one RTMP connection, without a network: bytes in, events and bytes out
(RTMP 1.0, 5.4 and 7; Enhanced RTMP v2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.flv import FOURCCS
from rt_twisted.rtmp import amf
from rt_twisted.rtmp.chunks import MAX_COMMAND, ChunkReader, MessageType, RtmpMessage, write_message
from rt_twisted.rtmp.handshake import ServerHandshake

WINDOW = 2_500_000  # bytes that each side may send before the other acknowledges them
CHUNK = 65536  # bytes of the chunks that the server sends: ffmpeg then sends such, too
MAX_NAME = 1024  # characters of an application or a stream name
BAD_NAME = "NetStream.Publish.BadName"

_START = "NetStream.Publish.Start"
_COMMANDS = 3  # the chunk stream of commands
_STATUS = 5  # and the one of the status of a message stream
_PING_REQUEST, _PING_RESPONSE = b"\0\6", b"\0\7"
_MEDIA = frozenset(map(int, (MessageType.AUDIO, MessageType.VIDEO, MessageType.AGGREGATE)))


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """
    The client asks to publish. Answer by `accept` or `refuse`.

    Args:
        name: application and stream name, joined by a slash; each without its query.
        query: of both; may be empty.
        announced: by FCPublish, which precedes the request of some encoders. Answer by
            `accept_name` or `refuse`.
    """

    name: str
    query: str
    announced: bool = False


@dataclass(frozen=True, slots=True)
class PlayRequested:
    """
    The client asks to play. Answer by `refuse`.

    Args:
        name: as for `PublishRequested`.
    """

    name: str


@dataclass(frozen=True, slots=True)
class MetadataReceived:
    """
    What the encoder says about its stream (`onMetaData`).
    """

    values: Mapping[str, amf.Value]


@dataclass(frozen=True, slots=True)
class PublishEnded:
    """
    The client has ended its publication.
    """


# A message is audio, video, or several tags of both: its payload is as the body of an FLV tag.
SessionEvent = PublishRequested | PlayRequested | RtmpMessage | MetadataReceived | PublishEnded


class _State(Enum):
    HANDSHAKE = "handshake"
    OPEN = "open"  # the client sends commands
    REQUESTED = "requested"  # a request is not answered yet
    PUBLISHING = "publishing"
    REFUSED = "refused"


_PUBLISHING = _State.PUBLISHING  # attributes of an Enum class are slow to look up


class RtmpSession:
    """
    One connection of a client.

    Args:
        random: `handshake.SIZE` random bytes.
        write: called with the bytes that are to be sent.

    Attributes:
        about: what the client has said when it connected: `app`, `tcUrl`, `flashVer`...
    """

    def __init__(self, random: bytes, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._handshake = ServerHandshake(random)
        self._chunks = ChunkReader()
        self._state = _State.HANDSHAKE
        self.about: Mapping[str, amf.Value] = {}
        self._stream = 0  # the message stream of the request or the publication
        self._last_stream = 0
        self._window = WINDOW
        self._received = self._acknowledged = 0  # bytes

    @property
    def begun(self) -> bool:
        """
        Whether the handshake is complete.
        """
        return self._state is not _State.HANDSHAKE

    def feed(self, data: bytes) -> Iterator[SessionEvent]:
        """
        Read the next bytes.

        Yields:
            What follows of them. A request must be answered before the next event is taken.

        Raises:
            RemoteProtocolError: the client broke the protocol; the session cannot be used again.
        """
        self._received += len(data)
        if self._handshake.rest is None:
            reply = self._handshake.feed(data)
            if reply:
                self._write(reply)
            if self._handshake.rest is None:
                return
            self._state = _State.OPEN
            data = self._handshake.rest
        if self._received - self._acknowledged >= self._window:
            self._acknowledged = self._received
            self._control(MessageType.ACKNOWLEDGEMENT, (self._received % 2**32).to_bytes(4))
        for message in self._chunks.feed(data):
            if message.type in _MEDIA:
                if self._state is _PUBLISHING:
                    yield message
            elif self._state is not _State.REFUSED:
                yield from self._read(message)

    def accept(self, max_message: int) -> None:
        """
        Let the client publish.

        Args:
            max_message: bytes of its messages from now on.
        """
        self._state = _State.PUBLISHING
        self._chunks.max_message = max_message
        self._control(MessageType.USER_CONTROL, b"\0\0" + self._stream.to_bytes(4))
        self._send_status("status", _START, "the stream is published")

    def accept_name(self) -> None:
        """
        Confirm a stream name that the client has announced.
        """
        self._state = _State.OPEN
        info = {"level": "status", "code": _START, "description": "the name is free"}
        self._send(_COMMANDS, 0, "onFCPublish", 0, None, info)

    def refuse(self, code: str, reason: str) -> None:
        """
        Refuse a request, or end the publication. Nothing is read any more.

        Args:
            code: such as BAD_NAME.
            reason: a sentence.
        """
        self._state = _State.REFUSED
        self._send_status("error", code, reason)

    def close(self) -> None:
        """
        Send nothing more: the connection is lost.
        """
        self._write = _send_nothing

    def _read(self, message: RtmpMessage) -> Iterator[SessionEvent]:
        type, payload = message.type, message.payload
        if type == MessageType.COMMAND:
            yield from self._read_command(amf.decode(payload), message.stream)
        elif type == MessageType.COMMAND_AMF3:  # the rest is AMF0 in practice
            yield from self._read_command(amf.decode(payload[1:]), message.stream)
        elif type in (MessageType.DATA, MessageType.DATA_AMF3):
            yield from self._read_data(payload[type == MessageType.DATA_AMF3 :])
        elif type == MessageType.WINDOW_SIZE:
            self._window = int.from_bytes(payload[:4]) or WINDOW
        elif type == MessageType.USER_CONTROL and payload[:2] == _PING_REQUEST:
            self._control(MessageType.USER_CONTROL, _PING_RESPONSE + payload[2:6])

    def _read_data(self, payload: bytes) -> Iterator[SessionEvent]:
        if len(payload) > MAX_COMMAND or self._state is not _State.PUBLISHING:
            return
        values = amf.decode(payload)
        if values and values[0] == "@setDataFrame":
            del values[0]
        if len(values) > 1 and values[0] == "onMetaData":
            yield MetadataReceived(amf.mapping(values[1]))

    def _read_command(self, values: list[amf.Value], stream: int) -> Iterator[SessionEvent]:
        name = amf.text(values[0]) if values else ""
        transaction = amf.number(values[1]) if len(values) > 1 else 0.0
        arguments = values[2:]
        if name != "connect" and not self.about:
            raise RemoteProtocolError("RTMP: the first command is not connect")
        match name:
            case "connect":
                self._connect(transaction, arguments)
            case "createStream":
                self._last_stream += 1
                self._confirm(transaction, float(self._last_stream))
            case "releaseStream" | "getStreamLength" | "_checkbw":
                self._confirm(transaction)
            case "publish" | "FCPublish" | "play" | "play2":
                yield from self._request(name, transaction, arguments, stream)
            case "FCUnpublish" | "deleteStream" | "closeStream":
                if name == "FCUnpublish":
                    info = {"level": "status", "code": "NetStream.Unpublish.Success"}
                    self._send(_COMMANDS, 0, "onFCUnpublish", 0, None, info)
                if self._state is _State.PUBLISHING:
                    self._state = _State.OPEN
                    self._chunks.max_message = MAX_COMMAND
                    yield PublishEnded()
            case _ if transaction:
                info = {"level": "error", "code": "NetConnection.Call.Failed"}
                self._send(_COMMANDS, 0, "_error", transaction, None, info)

    def _request(
        self, name: str, transaction: float, arguments: Sequence[amf.Value], stream: int
    ) -> Iterator[SessionEvent]:
        if self._state is not _State.OPEN:
            raise RemoteProtocolError("RTMP: a connection has one stream")
        requested = amf.text(arguments[1]) if len(arguments) > 1 else ""
        app = amf.text(self.about.get("app"))
        if len(requested) > MAX_NAME or len(app) > MAX_NAME:
            raise RemoteProtocolError(f"RTMP: a name is longer than {MAX_NAME} characters")
        paths, queries = zip(_split(app), _split(requested), strict=True)
        path, query = "/".join(filter(None, paths)), "&".join(filter(None, queries))
        self._state = _State.REQUESTED
        self._stream = stream
        if name == "FCPublish":
            if transaction:
                self._confirm(transaction)
            yield PublishRequested(path, query, announced=True)
        elif name == "publish":
            yield PublishRequested(path, query)
        else:
            yield PlayRequested(path)

    def _connect(self, transaction: float, arguments: Sequence[amf.Value]) -> None:
        if self.about:
            raise RemoteProtocolError("RTMP: the client connects twice")
        about = dict(amf.mapping(arguments[0])) if arguments else {}
        self.about = {"app": "", **about}
        self._control(MessageType.WINDOW_SIZE, WINDOW.to_bytes(4))
        self._control(MessageType.PEER_BANDWIDTH, WINDOW.to_bytes(4) + b"\x02")
        self._control(MessageType.SET_CHUNK_SIZE, CHUNK.to_bytes(4))
        properties: dict[str, amf.Value] = {"fmsVer": "FMS/3,5,7,7009", "capabilities": 31.0}
        info: dict[str, amf.Value] = {
            "level": "status",
            "code": "NetConnection.Connect.Success",
            "description": "connected",
            "objectEncoding": amf.number(about.get("objectEncoding")),
        }
        if "fourCcList" in about:
            info["fourCcList"] = FOURCCS
        self._send(_COMMANDS, 0, "_result", transaction, properties, info)

    def _confirm(self, transaction: float, *values: amf.Value) -> None:
        self._send(_COMMANDS, 0, "_result", transaction, None, *values)

    def _send_status(self, level: str, code: str, description: str) -> None:
        info = {"level": level, "code": code, "description": description}
        self._send(_STATUS, self._stream, "onStatus", 0, None, info)

    def _send(self, id: int, stream: int, name: str, *values: amf.Value) -> None:
        payload = amf.encode(name, *values)
        self._write(write_message(RtmpMessage(MessageType.COMMAND, stream, 0, payload), CHUNK, id))

    def _control(self, type: MessageType, payload: bytes) -> None:
        self._write(write_message(RtmpMessage(type, 0, 0, payload), CHUNK))


def _split(name: str) -> tuple[str, str]:
    """
    Return a name without its query and without slashes around it, and its query.
    """
    path, _, query = name.partition("?")
    return path.strip("/"), query


def _send_nothing(data: bytes) -> None:
    """
    Discard *data*, as the connection is lost.
    """
