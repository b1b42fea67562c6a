"""
The chunk stream of RTMP: messages in chunks, as they arrive (Real-Time Messaging Protocol 1.0,
5.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from rt_twisted.codecs.errors import RemoteProtocolError

DEFAULT_CHUNK = 128  # bytes of a chunk until the sender sets another size
MAX_COMMAND = 64 * 1024  # bytes of a message before the client may publish
MAX_CHUNK_STREAMS = 16
SPARE_CHUNKS = 256  # of one read, besides one for each SMALL_CHUNK bytes
SMALL_CHUNK = 8  # bytes with the header
MAX_TIMESTAMP = 0xFFFFFF  # of a header; larger ones have four more bytes
TIMES = 2**32  # timestamps count modulo this

_RUN = 8  # chunks of one message that are looked for at first, then twice as many each time
_ABORT = 2  # the last of the types that are about chunks
_CONTROL_STREAM = 2  # the chunk stream of protocol control messages


class MessageType(IntEnum):
    """
    The types of messages that are known by name (5.4, 6 and 7.1).
    """

    SET_CHUNK_SIZE = 1
    ABORT = 2
    ACKNOWLEDGEMENT = 3
    USER_CONTROL = 4
    WINDOW_SIZE = 5
    PEER_BANDWIDTH = 6
    AUDIO = 8
    VIDEO = 9
    DATA_AMF3 = 15
    COMMAND_AMF3 = 17
    DATA = 18
    COMMAND = 20
    AGGREGATE = 22


@dataclass(slots=True, unsafe_hash=True)
class RtmpMessage:
    """
    One message of the stream of chunks.

    Args:
        type: see `MessageType`; other numbers are possible.
        stream: the message stream; 0 for the connection itself.
        timestamp: milliseconds modulo TIMES.
        payload: its bytes.
    """

    type: Final[int]
    stream: Final[int]
    timestamp: Final[int]
    payload: Final[bytes]


class _ChunkStream:
    """
    What the headers of a chunk stream leave out, as the last one said it.
    """

    __slots__ = ("delta", "extended", "length", "payload", "stream", "timestamp", "type")

    def __init__(self) -> None:
        self.timestamp = 0
        self.delta = 0
        self.extended = b""  # the four bytes of the last extended timestamp
        self.length = 0
        self.type = 0
        self.stream = 0
        self.payload: bytearray | None = None  # of a message that is not complete


class ChunkReader:
    """
    Joins the chunks of a connection to messages, in time linear in its length.

    Attributes:
        max_message: bytes of a message, and of all that are not complete together.
    """

    def __init__(self) -> None:
        self.max_message = MAX_COMMAND
        self._buffer = bytearray()
        self._chunk = DEFAULT_CHUNK
        self._streams: dict[int, _ChunkStream] = {}
        self._pending = 0  # bytes of messages that are not complete

    def feed(self, data: bytes) -> list[RtmpMessage]:
        """
        Read the next bytes.

        Returns:
            The messages that are complete. Those about chunks have been applied, and are
            left out.

        Raises:
            RemoteProtocolError: a header that continues nothing, a chunk size of 0, a message
                over `max_message`, more than MAX_CHUNK_STREAMS, or too many small chunks
                of messages that alternate. The reader cannot be used again.
        """
        rest = self._buffer
        # Most reads begin with a chunk: they are not copied.
        buffer: bytes | bytearray = data
        if rest:
            rest += data
            buffer = rest
        found: list[RtmpMessage] = []
        position, available = 0, len(buffer)
        most = SPARE_CHUNKS + available // SMALL_CHUNK
        while position < available:
            end = self._read_chunk(buffer, position, found)
            if end is None:
                break
            position = end
            most -= 1
            if most < 0:
                raise RemoteProtocolError("RTMP: too many small chunks")
            if found and found[-1].type <= _ABORT:
                self._apply(found.pop())
        if buffer is rest:
            del rest[:position]
        elif position < available:
            rest += memoryview(data)[position:]
        return found

    def _read_chunk(
        self, buffer: bytes | bytearray, position: int, found: list[RtmpMessage]
    ) -> int | None:
        """
        Read the chunk of *buffer* at *position*, before its end, and those that follow it of
        the same message.

        Returns:
            where they end; None if it has not arrived as a whole.
        """
        available = len(buffer)
        first = buffer[position]
        position += 1
        form, id = first >> 6, first & 63
        if id < 2:
            if position + id >= available:
                return None
            id = 64 + (
                buffer[position] if id == 0 else buffer[position] + 256 * buffer[position + 1]
            )
            position += 1 + (first & 1)
        stream = self._streams.get(id)
        if stream is None:
            if form > 1 or len(self._streams) >= MAX_CHUNK_STREAMS:
                raise RemoteProtocolError(
                    f"RTMP: a chunk that continues nothing, or over {MAX_CHUNK_STREAMS} streams"
                )
            stream = _ChunkStream()
        if form < 3:
            header = _read_header(buffer, position, form, stream)
            if header is None:
                return None
            position, time, extended, length, type, number = header
        else:
            repeated = _repeats(buffer, position, stream.extended)
            if repeated is None:
                return None
            position += 4 * repeated
            time, extended, length = stream.delta, stream.extended, stream.length
            type, number = stream.type, stream.stream
        payload = stream.payload
        if payload is not None and form < 3:
            raise RemoteProtocolError("RTMP: a message begins before the last one has ended")
        received = len(payload) if payload is not None else 0
        if length > self.max_message:
            raise RemoteProtocolError(f"RTMP: a message has over {self.max_message} bytes")
        end = position + min(self._chunk, length - received)
        if end > available:
            return None
        # Nothing of the stream has changed up to here: the chunk is read again from its start.
        if payload is None:
            self._begin(id, stream, form, time, extended)
            stream.length, stream.type, stream.stream = length, type, number
        if end - position == length:
            found.append(RtmpMessage(type, number, stream.timestamp, bytes(buffer[position:end])))
            return end
        if payload is None:
            payload = stream.payload = bytearray()
        before = len(payload)
        payload += memoryview(buffer)[position:end]
        if end < available and id < 64:
            again = bytes((0xC0 | id,)) + stream.extended
            end = _read_run(buffer, end, again, self._chunk, length, payload)
        self._pending += len(payload) - before
        if self._pending > 2 * self.max_message:
            raise RemoteProtocolError("RTMP: too many messages are not complete")
        if len(payload) == length:
            stream.payload = None
            self._pending -= length
            found.append(RtmpMessage(type, number, stream.timestamp, bytes(payload)))
        return end

    def _begin(self, id: int, stream: _ChunkStream, form: int, time: int, extended: bytes) -> None:
        """
        Apply the time of a header that begins a message.
        """
        self._streams[id] = stream
        stream.extended = extended
        if form == 0:
            stream.timestamp = time
            # A message without a header repeats the timestamp as its step (5.3.1.2.4). No
            # step is as long as an extended timestamp: librtmp then means the same time.
            stream.delta = 0 if extended else time
        else:
            stream.delta = time
            stream.timestamp = (stream.timestamp + time) % TIMES

    def _apply(self, message: RtmpMessage) -> None:
        if len(message.payload) < 4:
            raise RemoteProtocolError("RTMP: a message about chunks is truncated")
        value = int.from_bytes(message.payload[:4])
        if message.type == MessageType.ABORT:
            stream = self._streams.get(value)
            if stream is not None and stream.payload is not None:
                self._pending -= len(stream.payload)
                stream.payload = None
            return
        if message.type != MessageType.SET_CHUNK_SIZE or not 0 < value < 2**31:
            raise RemoteProtocolError("RTMP: the size of chunks is invalid")
        self._chunk = value


def _read_run(
    buffer: bytes | bytearray,
    position: int,
    header: bytes,
    chunk: int,
    length: int,
    payload: bytearray,
) -> int:
    """
    Append to *payload* the chunks at *position* that all begin with *header*, up to *length*.

    They are found by comparing every so many bytes, so that chunks of one byte cost little.

    Returns:
        where they end.
    """
    stride = len(header) + chunk
    most = _RUN
    while True:
        missing = length - len(payload)
        count = min(most, -(-missing // chunk), -(-(len(buffer) - position) // stride))
        run = buffer[position : position + min(count * stride, missing + count * len(header))]
        for index, byte in enumerate(header):
            column = run[index::stride]
            count = min(count, len(column) - len(column.lstrip(bytes((byte,)))))
        # The last chunk may be shorter, if the message ends with it.
        size = min(count * chunk, missing)
        end = position + size + count * len(header)
        if end > len(buffer):
            count -= 1
            size = count * chunk
            end = position + size + count * len(header)
        if not count:
            return position
        run = bytearray(run[: end - position])
        for index in range(len(header)):
            del run[:: stride - index]
        payload += run
        position = end
        if count < most:
            return position
        most *= 2


def _read_header(
    buffer: bytes | bytearray, position: int, form: int, stream: _ChunkStream
) -> tuple[int, int, bytes, int, int, int] | None:
    """
    Read the message header of *form* 0, 1 or 2.

    Returns:
        where it ends, its timestamp or step, the extended timestamp if it has one, and length,
        type and stream of the message; None if it has not arrived.
    """
    end = position + (11, 7, 3)[form]
    if end > len(buffer):
        return None
    time = int.from_bytes(buffer[position : position + 3])
    length, type, number = stream.length, stream.type, stream.stream
    if form < 2:
        length = int.from_bytes(buffer[position + 3 : position + 6])
        type = buffer[position + 6]
    if form == 0:
        number = int.from_bytes(buffer[position + 7 : end], "little")
    if time < MAX_TIMESTAMP:
        return end, time, b"", length, type, number
    extended = bytes(buffer[end : end + 4])
    if len(extended) < 4:
        return None
    return end + 4, int.from_bytes(extended), extended, length, type, number


def _repeats(buffer: bytes | bytearray, position: int, extended: bytes) -> bool | None:
    """
    Return whether a chunk without a header repeats the *extended* timestamp of the last one.

    ffmpeg and OBS repeat it, older versions of librtmp do not. None if more bytes are needed.
    """
    if not extended:
        return False
    following = buffer[position : position + 4]
    if following == extended:
        return True
    return None if extended.startswith(following) else False


def write_message(message: RtmpMessage, chunk: int, id: int = _CONTROL_STREAM) -> bytes:
    """
    Return *message* in chunks.

    Args:
        message: its timestamp is at most MAX_TIMESTAMP - 1.
        chunk: bytes of a chunk.
        id: of the chunk stream, 2 to 63.
    """
    payload = message.payload
    parts = [
        bytes((id,)),
        message.timestamp.to_bytes(3),
        len(payload).to_bytes(3),
        bytes((message.type,)),
        message.stream.to_bytes(4, "little"),
        payload[:chunk],
    ]
    for start in range(chunk, len(payload), chunk):
        parts += (bytes((0xC0 | id,)), payload[start : start + chunk])
    return b"".join(parts)
