"""
HTTP/2 on the h2 library (RFC 9113): one connection, whose streams are multiplexed.

twisted.web has a connection on the same library. Its sending loop runs without
end while a client's window is closed, and a client that grants large windows
but reads nothing makes it queue without bound. Here everything that waits for
a subscriber waits in its `Subscriber`, which has bounds and a policy.
"""

from __future__ import annotations

import math
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, IProtocol, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.http.context import ConnectionState, HttpContext
from rt_twisted.http.h2_stream import Http2Stream
from rt_twisted.http.request import HttpLimits
from rt_twisted.net.transports import replace_protocol

MAX_STREAMS = 100  # at once on a connection; RFC 9113, 6.5.2, advises against fewer
WINDOW = 65535  # bytes of a body that a client may send before an action reads them
CONNECTION_WINDOW = 1 << 20  # of all bodies of a connection together
HEADER_TABLE = 4096  # bytes of headers that each side remembers of the other
MAX_FRAME = 16384  # bytes of a frame from the client
MAX_CLOSED_STREAMS = 1000  # that are remembered, as frames for them may still arrive

# Streams that a client opens and resets cost work here and nothing there
# (CVE-2023-44487): it may do so in one burst, then so often a second.
MAX_RESETS = 200
RESETS_PER_SECOND = 20.0
MAX_UNREAD = 65536  # bytes of responses to its control frames that a client leaves unread

BATCH = 65536  # bytes that the transport is given at a time
MAX_FLUSH = 1 << 18  # bytes sent on one connection before the reactor runs others
LINGER = 5.0  # seconds for the last bytes of a connection

_CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM

# Attributes of an Enum class are slow to look up.
_OPEN, _FINISHING, _CLOSING = ConnectionState


class _H2Connection(h2.connection.H2Connection):
    # Public constants of the library; its own are 16 MiB, and 65,536 streams.
    DEFAULT_MAX_INBOUND_FRAME_SIZE = MAX_FRAME
    MAX_CLOSED_STREAMS = MAX_CLOSED_STREAMS

    def _receive_goaway_frame(self, frame: Any) -> Any:
        # A private method. Without an error the client opens no more streams and waits for
        # those that it has (RFC 9113, 6.8); the library would close the connection.
        if frame.error_code == h2.errors.ErrorCodes.NO_ERROR:
            return [], [_NoMoreStreams()]
        return super()._receive_goaway_frame(frame)


class _NoMoreStreams(h2.events.Event):
    """
    The client opens no more streams.
    """


def make_h2(limits: HttpLimits) -> _H2Connection:
    """
    Return the library's side of a connection.
    """
    wire = _H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    # Above ours, for which the response has a status (the standard counts 32 bytes
    # more for each header).
    size = 2 * (limits.line + limits.header_bytes) + 64 * limits.headers
    codes = h2.settings.SettingCodes
    wire.local_settings = h2.settings.Settings(
        client=False,
        initial_values={
            codes.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
            codes.MAX_HEADER_LIST_SIZE: size,
            codes.INITIAL_WINDOW_SIZE: WINDOW,
            codes.HEADER_TABLE_SIZE: HEADER_TABLE,
            codes.MAX_FRAME_SIZE: MAX_FRAME,
        },
    )
    wire.decoder.max_header_list_size = size
    return wire


@implementer(IProtocol, IPushProducer)
class Http2Connection:
    """
    A client's connection.

    Args:
        context: of the server.
        transport: its TLS handshake is done.
        peer: the client's address.

    Attributes:
        wire: the library's side of the connection.
        streams: by number.
        timed: streams that have a deadline.
    """

    __slots__ = (
        "_idle_since",
        "_idle_until",
        "_paused",
        "_ready",
        "_resets",
        "_resets_at",
        "_scheduled",
        "_state",
        "_unread",
        "context",
        "peer",
        "streams",
        "timed",
        "transport",
        "wire",
    )

    def __init__(self, context: HttpContext, transport: Any, peer: IAddress) -> None:
        now = context.clock.seconds()
        self.context = context
        self.transport = transport
        self.peer = peer
        self.wire: h2.connection.H2Connection = make_h2(context.limits)
        self.streams: dict[int, Http2Stream] = {}
        self.timed: set[Http2Stream] = set()
        self._ready: dict[Http2Stream, None] = {}  # have something to send, in this order
        self._scheduled: Any = None  # the call of _flush
        self._paused = False  # the transport has enough
        self._unread = 0  # control bytes written meanwhile
        self._state = _OPEN
        self._resets = float(MAX_RESETS)  # tokens left
        self._resets_at = now
        self._idle_since = now
        self._idle_until = now + context.limits.head_seconds
        replace_protocol(transport, self)
        context.connections.add(self)
        transport.registerProducer(self, True)
        self.wire.initiate_connection()
        self.wire.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self.transmit()

    @property
    def deadline(self) -> float:
        """
        When `on_deadline` has to be called; infinity for never.
        """
        if self.streams:
            return min((stream.deadline for stream in self.timed), default=math.inf)
        return self._idle_until

    @property
    def idle_since(self) -> float | None:
        """
        Since when no request is being answered; None while one is, and when the
        connection is closing.
        """
        return None if self._state is _CLOSING or self.streams else self._idle_since

    # Called by Twisted.

    def makeConnection(self, transport: Any) -> None:
        """
        Do nothing: the connection was made before it was handed over.
        """

    def connectionMade(self) -> None:
        """
        Do nothing: the connection was made before it was handed over.
        """

    def dataReceived(self, data: bytes) -> None:
        if self._state is _CLOSING:
            return
        try:
            events = self.wire.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._close(None)  # the library has encoded a GOAWAY
            return
        if any(type(event) in _TERMINAL_EVENTS for event in events):
            events = self._process_ends_first(events)
        for event in events:
            process = _PROCESS.get(type(event))
            if process is not None and self._state is not _CLOSING:
                process(self, event)
        self.transmit()

    def _process_ends_first(self, events: list[h2.events.Event]) -> list[h2.events.Event]:
        """
        Return the events to process if the same bytes end a stream or the connection.

        Nothing more can be sent there, so the requests of such streams do not begin.
        """
        ends = [event for event in events if type(event) in _TERMINAL_EVENTS]
        broken = {getattr(event, "stream_id", None) for event in ends}
        for event in events:
            if type(event) is h2.events.RequestReceived and event.stream_id in broken:
                self._count_reset()
            elif type(event) not in _TERMINAL_EVENTS:
                ends.append(event)
        return ends

    def connectionLost(self, reason: Failure) -> None:
        self.context.connections.discard(self)
        self._state = _CLOSING
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._ready.clear()
        self._lose_all(reason)

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._unread = 0
        self.schedule()

    def stopProducing(self) -> None:
        """
        Do nothing: connectionLost follows.
        """

    # Events of the library.

    def _on_request(self, event: h2.events.RequestReceived) -> None:
        assert event.stream_id is not None and event.headers is not None
        stream = Http2Stream(self, event.stream_id)
        self.streams[stream.number] = stream
        if self._state is _FINISHING:
            self.reset(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        stream.begin(event.headers, event.stream_ended is not None)

    def _on_data(self, event: h2.events.DataReceived) -> None:
        assert event.stream_id is not None and event.data is not None
        stream = self.streams.get(event.stream_id)
        size = event.flow_controlled_length or 0
        if stream is None or not stream.feed_body(event.data, size):
            self.acknowledge(event.stream_id, size)

    def _on_stream_ended(self, event: h2.events.StreamEnded) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            stream.end_body()

    def _on_reset(self, event: h2.events.StreamReset) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return
        self.forget(stream)
        stream.connection_lost(Failure(ConnectionDone()))
        self._count_reset()

    def _count_reset(self) -> None:
        now = self.context.clock.seconds()
        earned = max(0.0, now - self._resets_at) * RESETS_PER_SECOND
        self._resets = min(float(MAX_RESETS), self._resets + earned) - 1
        self._resets_at = now
        if self._resets < 0:
            self._close(_CALM)

    def _on_window_update(self, event: h2.events.WindowUpdated) -> None:
        if event.stream_id:
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.on_window_update()
            return
        self._retry_all()

    def _on_settings(self, event: h2.events.RemoteSettingsChanged) -> None:
        # The client may allow a larger table than we want to keep.
        if self.wire.encoder.header_table_size > HEADER_TABLE:
            self.wire.encoder.header_table_size = HEADER_TABLE
        self._retry_all()

    def _retry_all(self) -> None:
        for stream in self.streams.values():
            stream.on_window_update()

    def _on_no_more_streams(self, event: _NoMoreStreams) -> None:
        self.close_gracefully()

    def _on_terminated(self, event: h2.events.ConnectionTerminated) -> None:
        self._close(None)

    # Sending.

    def has_output(self, stream: Http2Stream) -> None:
        """
        Send soon what *stream* has queued.
        """
        self._ready[stream] = None
        self.schedule()

    def schedule(self) -> None:
        """
        Send in the next reactor iteration what there is.
        """
        if self._scheduled is None and self._state is not _CLOSING:
            self._scheduled = self.context.clock.callLater(0, self._flush)

    @property
    def full(self) -> bool:
        """
        Whether the transport has enough to send.
        """
        return self._paused

    def _flush(self) -> None:
        self._scheduled = None
        ready, flushed, batch = self._ready, 0, 0
        while ready and not self._paused and flushed < MAX_FLUSH:
            stream = next(iter(ready))
            del ready[stream]
            size = stream.send()
            flushed += size + 1
            batch += size
            if batch >= BATCH:
                batch = 0
                self.transmit()
        self.transmit()
        if ready and not self._paused:
            self.schedule()

    def transmit(self) -> None:
        """
        Give the transport what the library has encoded.
        """
        data = self.wire.data_to_send()
        if not data:
            return
        if self._paused:
            self._unread += len(data)
            if self._unread > MAX_UNREAD:
                self.transport.abortConnection()
                return
        self.transport.write(data)

    def acknowledge(self, number: int, size: int) -> None:
        """
        Let the client send *size* more bytes of bodies.
        """
        if size and self._state is not _CLOSING:
            self.wire.acknowledge_received_data(size, number)
            self.schedule()

    # Ending.

    def forget(self, stream: Http2Stream) -> None:
        """
        Forget *stream*, which is closed on both sides.
        """
        self.streams.pop(stream.number, None)
        self.timed.discard(stream)
        self._ready.pop(stream, None)
        self.acknowledge(stream.number, stream.release_unacknowledged())
        if not self.streams:
            self._idle_since = self.context.clock.seconds()
            self._idle_until = self._idle_since + self.context.limits.idle_seconds
            if self._state is _FINISHING:
                self._close(h2.errors.ErrorCodes.NO_ERROR)

    def reset(self, stream: Http2Stream, code: h2.errors.ErrorCodes) -> None:
        """
        Send RST_STREAM, and forget *stream*.
        """
        if self._state is not _CLOSING and stream.number in self.streams:
            self.wire.reset_stream(stream.number, code)
            self.schedule()
        self.forget(stream)

    def close_gracefully(self) -> None:
        """
        Close when all requests are answered; refuse new ones.
        """
        if self._state is _OPEN:
            self._state = _FINISHING
        if not self.streams:
            self._close(h2.errors.ErrorCodes.NO_ERROR)

    def on_deadline(self) -> None:
        """
        Close or refuse what takes too long.
        """
        if self._state is _CLOSING:
            self.transport.abortConnection()
        elif not self.streams:
            self._close(h2.errors.ErrorCodes.NO_ERROR)
        else:
            now = self.context.clock.seconds()
            for stream in tuple(self.timed):
                if stream.deadline < now:
                    stream.on_deadline()

    def _close(self, code: h2.errors.ErrorCodes | None) -> None:
        """
        Close, with all streams.

        Args:
            code: for a GOAWAY; None if one is encoded already.
        """
        if self._state is _CLOSING:
            return
        if code is not None:
            self.wire.close_connection(code)
        self.transmit()
        self._state = _CLOSING
        self._idle_until = self.context.clock.seconds() + LINGER
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._ready.clear()
        self.transport.unregisterProducer()
        self.transport.loseConnection()
        self._lose_all(Failure(ConnectionDone()))

    def _lose_all(self, reason: Failure) -> None:
        streams = tuple(self.streams.values())
        self.streams.clear()
        self.timed.clear()
        for stream in streams:
            stream.connection_lost(reason)


_TERMINAL_EVENTS = (h2.events.StreamReset, h2.events.ConnectionTerminated)
_PROCESS: dict[type[Any], Any] = {
    h2.events.RequestReceived: Http2Connection._on_request,
    h2.events.DataReceived: Http2Connection._on_data,
    h2.events.StreamEnded: Http2Connection._on_stream_ended,
    h2.events.StreamReset: Http2Connection._on_reset,
    h2.events.WindowUpdated: Http2Connection._on_window_update,
    h2.events.RemoteSettingsChanged: Http2Connection._on_settings,
    h2.events.ConnectionTerminated: Http2Connection._on_terminated,
    _NoMoreStreams: Http2Connection._on_no_more_streams,
}
