"""
HTTP/2 on the h2 library (RFC 9113): a connection, and who is to send next.

twisted.web has a connection on the same library. Its sending loop turns without
end while a client's window is closed, and a client that grants large windows
but reads nothing makes it queue without bound: here everything that waits for
a reader waits in its `Subscriber`, which has bounds and a policy.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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

from rt_twisted.http.h2_stream import Http2Stream
from rt_twisted.http.request import HttpLimits
from rt_twisted.net.transports import hand_over

if TYPE_CHECKING:
    from rt_twisted.http.server import HttpServer

STREAMS = 100  # at once on a connection; RFC 9113, 6.5.2, advises against fewer
WINDOW = 65535  # bytes of a body that a client may send before somebody wants them
CONNECTION_WINDOW = 1 << 20  # of all bodies of a connection together
TABLE = 4096  # bytes of headers that each side remembers of the other
FRAME = 16384  # bytes of a frame of the client's
FORGOTTEN = 1000  # streams that were closed and may still be heard of

# Streams that a client opens and resets cost us work and it nothing
# (CVE-2023-44487): it may do so in one burst, then so often a second.
RESETS = 200
RESETS_PER_SECOND = 20.0
UNREAD = 65536  # bytes of answers to its control frames that a client leaves unread

BATCH = 65536  # bytes that the transport is given at a time
TURN = 1 << 18  # bytes for one connection before others have their turn
LINGER = 5.0  # seconds for the last bytes of a connection

_CALM = h2.errors.ErrorCodes.ENHANCE_YOUR_CALM


class _Wire(h2.connection.H2Connection):
    # Public constants of the library; its own are 16 MiB, and 65,536 streams.
    DEFAULT_MAX_INBOUND_FRAME_SIZE = FRAME
    MAX_CLOSED_STREAMS = FORGOTTEN

    def _receive_goaway_frame(self, frame: Any) -> Any:
        # Not in an interface. Without an error it says that no more will be asked, and
        # what was asked is waited for (RFC 9113, 6.8); the library would break it off.
        if frame.error_code == h2.errors.ErrorCodes.NO_ERROR:
            return [], [_NoMore()]
        return super()._receive_goaway_frame(frame)


class _NoMore(h2.events.Event):
    """
    The client opens no more streams.
    """


def _wire(limits: HttpLimits) -> _Wire:
    wire = _Wire(h2.config.H2Configuration(client_side=False, header_encoding=None))
    # Above ours, which answer with a status of their own (the standard counts
    # 32 bytes more for each header).
    size = 2 * (limits.line + limits.header_bytes) + 64 * limits.headers
    codes = h2.settings.SettingCodes
    wire.local_settings = h2.settings.Settings(
        client=False,
        initial_values={
            codes.MAX_CONCURRENT_STREAMS: STREAMS,
            codes.MAX_HEADER_LIST_SIZE: size,
            codes.INITIAL_WINDOW_SIZE: WINDOW,
            codes.HEADER_TABLE_SIZE: TABLE,
            codes.MAX_FRAME_SIZE: FRAME,
        },
    )
    wire.decoder.max_header_list_size = size
    return wire


@implementer(IProtocol, IPushProducer)
class Http2Connection:
    """
    A client's connection.

    Args:
        front: the port.
        transport: handed over, its handshake done.
        peer: the client's address.
    """

    __slots__ = (
        "_closing",
        "_ending",
        "_idle_since",
        "_idle_until",
        "_paused",
        "_ready",
        "_resets",
        "_resets_at",
        "_scheduled",
        "_unread",
        "peer",
        "server",
        "streams",
        "timed",
        "transport",
        "wire",
    )

    def __init__(self, server: HttpServer, transport: Any, peer: IAddress) -> None:
        now = server.clock.seconds()
        self.server = server
        self.transport = transport
        self.peer = peer
        self.wire = _wire(server.limits)
        self.streams: dict[int, Http2Stream] = {}
        self.timed: set[Http2Stream] = set()  # that have a deadline
        self._ready: dict[Http2Stream, None] = {}  # in order: have something to send
        self._scheduled: Any = None  # the call of _flush
        self._paused = False  # the transport has enough
        self._unread = 0  # control bytes written meanwhile
        self._ending = False  # no more streams
        self._closing = False  # nothing at all
        self._resets = float(RESETS)  # tokens left
        self._resets_at = now
        self._idle_since = now
        self._idle_until = now + server.limits.head_seconds
        hand_over(transport, self)
        server.connections.add(self)
        transport.registerProducer(self, True)
        self.wire.initiate_connection()
        self.wire.increment_flow_control_window(CONNECTION_WINDOW - 65535)
        self.transmit()

    @property
    def deadline(self) -> float:
        """
        When somebody will have been too slow.
        """
        if self.streams and not self._closing:
            return min((stream.deadline for stream in self.timed), default=math.inf)
        return self._idle_until

    @property
    def idle_since(self) -> float | None:
        """
        Since when no request is being answered; None while one is, and when it
        closes anyway.
        """
        return None if self._closing or self.streams else self._idle_since

    # What Twisted calls.

    def makeConnection(self, transport: Any) -> None:
        """
        Not called: the connection was made before it was handed over.
        """

    def connectionMade(self) -> None:
        """
        Not called either.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Act on what the client says, in order.
        """
        if self._closing:
            return
        try:
            events = self.wire.receive_data(data)
        except h2.exceptions.ProtocolError:
            self._close(None)  # the library has written a GOAWAY
            return
        if any(type(event) in _ENDS for event in events):
            events = self._ends_first(events)
        for event in events:
            act = _ACTS.get(type(event))
            if act is not None and not self._closing:
                act(self, event)
        self.transmit()

    def _ends_first(self, events: list[h2.events.Event]) -> list[h2.events.Event]:
        """
        What is left to act on where a stream, or all, came to their end by the same
        bytes: nothing more can be sent there, so nobody is to begin.
        """
        ends = [event for event in events if type(event) in _ENDS]
        broken = {getattr(event, "stream_id", None) for event in ends}
        for event in events:
            if type(event) is h2.events.RequestReceived and event.stream_id in broken:
                self._spend_reset()
            elif type(event) not in _ENDS:
                ends.append(event)
        return ends

    def connectionLost(self, reason: Failure) -> None:
        """
        The client is gone, and with it all its streams.
        """
        self.server.connections.discard(self)
        self._closing = True
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        self._ready.clear()
        self._lose_all(reason)

    def pauseProducing(self) -> None:
        """
        The transport has enough.
        """
        self._paused = True

    def resumeProducing(self) -> None:
        """
        The transport has sent what it had.
        """
        self._paused = False
        self._unread = 0
        self.schedule()

    def stopProducing(self) -> None:
        """
        connectionLost follows.
        """

    # What the client says.

    def _requested(self, event: h2.events.RequestReceived) -> None:
        assert event.stream_id is not None and event.headers is not None
        stream = Http2Stream(self, event.stream_id)
        self.streams[stream.number] = stream
        if self._ending:
            self.reset(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
            return
        stream.begin(event.headers, event.stream_ended is not None)

    def _body(self, event: h2.events.DataReceived) -> None:
        assert event.stream_id is not None and event.data is not None
        stream = self.streams.get(event.stream_id)
        size = event.flow_controlled_length or 0
        if stream is None or not stream.body(event.data, size):
            self.acknowledge(event.stream_id, size)

    def _whole(self, event: h2.events.StreamEnded) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            stream.body_end()

    def _was_reset(self, event: h2.events.StreamReset) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is None:
            return
        self.forget(stream)
        stream.lost(Failure(ConnectionDone()))
        self._spend_reset()

    def _spend_reset(self) -> None:
        now = self.server.clock.seconds()
        earned = max(0.0, now - self._resets_at) * RESETS_PER_SECOND
        self._resets = min(float(RESETS), self._resets + earned) - 1
        self._resets_at = now
        if self._resets < 0:
            self._close(_CALM)

    def _window(self, event: h2.events.WindowUpdated) -> None:
        if event.stream_id:
            stream = self.streams.get(event.stream_id)
            if stream is not None:
                stream.window_moved()
            return
        self._retry_all()

    def _settings(self, event: h2.events.RemoteSettingsChanged) -> None:
        # What it allows us to remember is not what we want to.
        if self.wire.encoder.header_table_size > TABLE:
            self.wire.encoder.header_table_size = TABLE
        self._retry_all()

    def _retry_all(self) -> None:
        for stream in self.streams.values():
            stream.window_moved()

    def _no_more(self, event: _NoMore) -> None:
        self.finish()

    def _goodbye(self, event: h2.events.ConnectionTerminated) -> None:
        self._close(None)

    # Sending.

    def wants(self, stream: Http2Stream) -> None:
        """
        *stream* has something to send.
        """
        self._ready[stream] = None
        self.schedule()

    def schedule(self) -> None:
        """
        Send what there is, once a turn.
        """
        if self._scheduled is None and not self._closing:
            self._scheduled = self.server.clock.callLater(0, self._flush)

    @property
    def full(self) -> bool:
        """
        Whether the transport has enough.
        """
        return self._paused

    def _flush(self) -> None:
        self._scheduled = None
        ready, turn, batch = self._ready, 0, 0
        while ready and not self._paused and turn < TURN:
            stream = next(iter(ready))
            del ready[stream]
            size = stream.send()
            turn += size + 1
            batch += size
            if batch >= BATCH:
                batch = 0
                self.transmit()
        self.transmit()
        if ready and not self._paused:
            self.schedule()

    def transmit(self) -> None:
        """
        Give the transport what the library has written.
        """
        data = self.wire.data_to_send()
        if not data:
            return
        if self._paused:
            self._unread += len(data)
            if self._unread > UNREAD:
                self.transport.abortConnection()
                return
        self.transport.write(data)

    def acknowledge(self, number: int, size: int) -> None:
        """
        The client may send *size* more bytes of bodies.
        """
        if size and not self._closing:
            self.wire.acknowledge_received_data(size, number)
            self.schedule()

    # Ending.

    def forget(self, stream: Http2Stream) -> None:
        """
        *stream* is closed, on both sides.
        """
        self.streams.pop(stream.number, None)
        self.timed.discard(stream)
        self._ready.pop(stream, None)
        self.acknowledge(stream.number, stream.take_unacknowledged())
        if not self.streams:
            self._idle_since = self.server.clock.seconds()
            self._idle_until = self._idle_since + self.server.limits.idle_seconds
            if self._ending:
                self._close(h2.errors.ErrorCodes.NO_ERROR)

    def reset(self, stream: Http2Stream, code: h2.errors.ErrorCodes) -> None:
        """
        Break *stream* off.
        """
        if not self._closing and stream.number in self.streams:
            self.wire.reset_stream(stream.number, code)
            self.schedule()
        self.forget(stream)

    def finish(self) -> None:
        """
        Close when what runs is answered; accept nothing new.
        """
        self._ending = True
        if not self.streams:
            self._close(h2.errors.ErrorCodes.NO_ERROR)

    def too_slow(self) -> None:
        """
        The deadline has passed.
        """
        if self._closing:
            self.transport.abortConnection()
        elif not self.streams:
            self._close(h2.errors.ErrorCodes.NO_ERROR)
        else:
            now = self.server.clock.seconds()
            for stream in tuple(self.timed):
                if stream.deadline < now:
                    stream.too_slow()

    def _close(self, code: h2.errors.ErrorCodes | None) -> None:
        """
        Args:
            code: for a GOAWAY; None if one was said.
        """
        if self._closing:
            return
        if code is not None:
            self.wire.close_connection(code)
        self.transmit()
        self._closing = True
        self._idle_until = self.server.clock.seconds() + LINGER
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
            stream.lost(reason)


_ENDS = (h2.events.StreamReset, h2.events.ConnectionTerminated)
_ACTS: dict[type[Any], Any] = {
    h2.events.RequestReceived: Http2Connection._requested,
    h2.events.DataReceived: Http2Connection._body,
    h2.events.StreamEnded: Http2Connection._whole,
    h2.events.StreamReset: Http2Connection._was_reset,
    h2.events.WindowUpdated: Http2Connection._window,
    h2.events.RemoteSettingsChanged: Http2Connection._settings,
    h2.events.ConnectionTerminated: Http2Connection._goodbye,
    _NoMore: Http2Connection._no_more,
}
