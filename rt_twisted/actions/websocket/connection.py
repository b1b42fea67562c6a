"""
One websocket, between its client, its application and the hub.

Messages of the hub and of the application leave in one order, through the direct
write of `Subscriber`. While output is buffered for a client, nothing is read from it
(back-pressure).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.actions.websocket.closing import CloseHandshake, CloseState
from rt_twisted.actions.websocket.context import WebSocketContext
from rt_twisted.actions.websocket.receiver import MessageReceiver
from rt_twisted.codecs.websocket import (
    CloseCode,
    Opcode,
    WebSocketHandshake,
    close_frame,
    data_frame,
    frame,
)
from rt_twisted.codecs.websocket_inbound import WebSocketEvent, parse_close
from rt_twisted.http.interfaces import StreamHandle
from rt_twisted.hub.limits import BacklogLimits
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, Position, PublishResult
from rt_twisted.net.inbound_memory import Reservation
from rt_twisted.net.transports import replace_protocol

if TYPE_CHECKING:
    from twisted.python.failure import Failure

OVERHEAD = 120  # bytes that a queued message takes beside its payload
IN_FLIGHT = 32  # publishes of one client that the broker has not confirmed
SLICE = 0.008  # seconds for one client's messages, then other connections are served
_log = Logger()
_MESSAGES = (1, 2)  # Opcode.TEXT and BINARY
_BINARY, _CLOSE, _PING = 2, 8, 9  # plain numbers: access to an enum's members is slower


class WebSocketObserver(Protocol):
    """
    Is notified of the end of websockets.
    """

    def on_closing(self, websocket: WebSocket, closing: CloseHandshake) -> None:
        """
        Abort *closing*, which has just begun, unless it ends in time.
        """

    def on_closed(self, websocket: WebSocket) -> None:
        """
        Release what belongs to *websocket*: its connection is lost. Called once.
        """


@implementer(IProtocol)
class WebSocket:
    """
    A websocket after its opening handshake. Created by `WebSocketEndpoint.open`.

    It is the connection's Twisted protocol, and the observer of its subscriber: it
    passes the subscriber's notifications on to the hub.

    Attributes:
        subscriber: for `Hub.add_channels` and `Hub.remove_channels`.
        handshake: the negotiated subprotocol and compression.
        bucket: written by the endpoint only: when its timeouts are checked.
        last_input: second of `WebSocketContext` in which the client last sent something.
    """

    __slots__ = (
        "_app",
        "_closing",
        "_context",
        "_is_behind",
        "_is_joined",
        "_observer",
        "_pauses",
        "_pending",
        "_receiver",
        "_reserved",
        "_unconfirmed",
        "bucket",
        "handshake",
        "last_input",
        "subscriber",
    )

    def __init__(
        self,
        context: WebSocketContext,
        observer: WebSocketObserver,
        handshake: WebSocketHandshake,
        opened: StreamHandle,
        format: IFormat,
        backlog_limits: BacklogLimits,
        address: str,
    ) -> None:
        self.handshake = handshake
        self.last_input = context.second
        self.bucket = 0
        self._context = context
        self._observer = observer
        self._receiver = MessageReceiver(context, handshake.deflate is not None)
        self._app: Any = None
        self._closing: CloseHandshake | None = None  # None while the websocket is open
        self._pending: deque[WebSocketEvent] | None = None  # received while reading is paused
        self._reserved: Reservation | None = None  # memory of incomplete and pending messages
        self._pauses = 0  # calls of `pause_reading` without their `resume_reading`
        self._is_behind = False  # output is buffered, which is one of these calls
        self._unconfirmed = 0  # publishes that the broker has not confirmed
        self._is_joined = True  # the hub counts the subscriber
        self.subscriber = Subscriber(opened.transport, format, self, backlog_limits, address)
        replace_protocol(opened.transport, self)

    # For applications.

    @property
    def open(self) -> bool:
        """
        Whether the closing handshake has not begun and the connection is not lost.
        """
        return self._closing is None and not self.subscriber.closed

    def send(self, data: bytes, binary: bool = False) -> None:
        """
        Send a message, compressed if that was negotiated and makes it smaller.

        Does nothing once the websocket is closing.

        Args:
            data: valid UTF-8 unless *binary*.
            binary: send a binary message, not a text message.
        """
        if self._closing is None:
            self.subscriber.write(data_frame(data, binary, self.handshake.deflate))

    def write(self, frames: bytes) -> None:
        """
        Send whole frames, such as `codecs.websocket.data_frame` returns.

        The frames of one message can be encoded once for many websockets.
        """
        if self._closing is None:
            self.subscriber.write(frames)

    def ping(self, payload: bytes = b"") -> None:
        """
        Send a ping with up to 125 bytes. The hub's heartbeats contain pings already.
        """
        self.write(frame(Opcode.PING, payload))

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """
        Send a close frame behind all queued frames, and wait for the client's.

        Messages that the client sends in the meantime are discarded. A second call
        does nothing.

        Raises:
            ValueError: *code* must not be sent (RFC 6455, 7.4).
        """
        frame = close_frame(code, reason)
        if self.open:
            self._close(CloseState.CLOSING, frame, DisconnectReason.ENDED, (int(code), reason))

    def publish(self, drafts: Sequence[Draft]) -> PublishResult | Deferred[PublishResult]:
        """
        Publish messages of this client, as `Hub.publish`.

        While IN_FLIGHT publishes are unconfirmed, nothing is read from the client.

        Returns:
            the result itself if the broker has it at once, as brokers in this process
            mostly do: a callback would cost as much as the rest of this method.
        """
        published = self._context.publish(drafts)
        if published.called and isinstance(published.result, PublishResult):
            return published.result
        self._unconfirmed += 1
        if self._unconfirmed == IN_FLIGHT:
            self.pause_reading()
        return published.addBoth(self._on_confirmed)

    def consume_rate(self, frames: int) -> None:
        """
        Count an expensive message of the client as *frames* more (`websocket-rate`).
        """
        self._receiver.consume_rate(frames)

    def pause_reading(self) -> None:
        """
        Stop reading from the client until `resume_reading`.

        Pauses nest: each call needs one `resume_reading`.
        """
        self._pauses += 1
        if self._pauses == 1 and self.open:
            self.subscriber.transport.pauseProducing()

    def resume_reading(self) -> None:
        """
        Undo one `pause_reading`. Pending messages are delivered in the next reactor turn.
        """
        self._pauses -= 1
        if not self._pauses and self.open:
            # The client could not be read in the meantime: its timeouts start again.
            self.last_input = self._context.second
            self._receiver.restart_timer()
            if self._pending is None and not self._receiver.unparsed:
                self.subscriber.transport.resumeProducing()
            else:
                # Not within this call, which may come from the subscriber's write.
                self._context.clock.callLater(0, self._continue_input)

    # What Twisted calls.

    def makeConnection(self, transport: Any) -> None:
        pass  # never called: an existing connection was taken over

    def connectionMade(self) -> None:
        pass  # never called, likewise

    def dataReceived(self, data: bytes) -> None:
        self.last_input = self._context.second
        if self._closing is not None and self._closing.state is not CloseState.CLOSING:
            return
        events, failure = self._receiver.receive(data)
        if self._pending is not None:
            self._pending.extend(events)
        elif events:
            self._deliver(events)
        if failure is not None:
            self._fail(*failure)
        elif self._receiver.unparsed:
            self._yield_to_reactor()
        if self._pending is not None or self._receiver.buffered or self._reserved is not None:
            self._update_reservation()

    def connectionLost(self, reason: Failure) -> None:
        self.subscriber.connectionLost(reason)
        self._observer.on_closed(self)
        self._discard_input()
        closing = self._closing
        if self._app is None or closing is None:
            return
        try:
            self._app.closed(*closing.status)
        except Exception:
            _log.failure("a websocket application failed in closed()")

    # What the subscriber calls.

    def seconds(self) -> float:
        now: float = self._context.clock.seconds()
        return now

    def position(self) -> Position:
        position: Position = self._context.hub.position()
        return position

    def fell_behind(self, subscriber: Subscriber) -> None:
        if self._is_joined:
            self._context.hub.fell_behind(subscriber)
        if not self._is_behind:  # TLS may report it twice
            self._is_behind = True
            self.pause_reading()  # back-pressure

    def caught_up(self, subscriber: Subscriber) -> None:
        self._context.hub.caught_up(subscriber)
        self._is_behind = False
        self.resume_reading()
        if self._closing is not None and not subscriber.closed:
            self._closing.advance()

    def skipped(self, subscriber: Subscriber) -> None:
        self._context.hub.skipped(subscriber)

    def parked(self, subscriber: Subscriber) -> None:
        self._context.hub.parked(subscriber)

    def leave(self, subscriber: Subscriber, cause: DisconnectReason) -> None:
        if self._closing is None:
            code = CloseCode.GOING_AWAY if cause is DisconnectReason.SHUTDOWN else CloseCode.LOST
            status = (int(code), "")
            self._closing = CloseHandshake(subscriber, CloseState.IGNORING, b"", cause, status)
        self._leave_hub(cause)

    # What `InboundMemory` calls.

    def pause_input(self) -> None:
        self.pause_reading()

    def resume_input(self) -> None:
        self.resume_reading()

    def drop_input(self) -> None:
        self._reserved = None
        self._fail(CloseCode.TRY_LATER, "too many unfinished messages")

    # What `WebSocketEndpoint` calls.

    @property
    def seconds_left(self) -> float:
        """
        Seconds, at least one, until the client has sent nothing for too long.
        """
        context = self._context
        # While reading is paused, the answer to a ping would not be read: the time has not begun.
        passed = 0 if self._pauses else context.second - self.last_input
        return max(1, context.silence + 1 - passed)

    def check_timeouts(self) -> bool:
        """
        Disconnect a client that has sent nothing, or no whole message, for too long.

        Returns:
            Whether the websocket is open afterwards.
        """
        context = self._context
        if not self._pauses:
            if context.second - self.last_input > context.silence:
                self._fail(CloseCode.INTERNAL_ERROR, "no answer to a ping", DisconnectReason.SILENT)
            elif self._receiver.is_slow:
                self._fail(CloseCode.POLICY, "a message took too long")
        return self.open

    def start(self, app: Any, rest: bytes) -> None:
        """
        Start the application, after the subscriber has joined the hub.

        Args:
            app: provides `IWebSocketApp`.
            rest: bytes that the client sent behind its request.
        """
        self._app = app
        try:
            app.opened(self)
        except Exception:
            self._on_app_failed()
        if rest:
            self.dataReceived(rest)

    def _on_app_failed(self) -> None:
        _log.failure("a websocket application failed; its websocket is closed with 1011")
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _deliver(self, events: Sequence[WebSocketEvent]) -> None:
        app = self._app
        until = self.seconds() + SLICE if len(events) > 1 else math.inf
        for index, (opcode, payload) in enumerate(events):
            if index and self.seconds() > until and self._closing is None:
                self._yield_to_reactor()
            if self._pauses:
                self._pending = deque(events[index:])
                return
            if opcode == _CLOSE:
                self._on_close_frame(payload)
                return
            if self._closing is not None:
                continue
            if opcode in _MESSAGES:
                self._context.metrics.websocket_messages += 1
                try:
                    app.message(payload, opcode == _BINARY)
                except Exception:
                    self._on_app_failed()
            elif opcode == _PING:
                self.subscriber.write(frame(Opcode.PONG, payload))

    def _continue_input(self) -> None:
        """
        Deliver pending messages, parse what is left, and read on.
        """
        if self._pauses or not self.open:
            return
        pending, self._pending = self._pending or (), None
        self._deliver(tuple(pending))
        if self._receiver.unparsed and not self._pauses and self.open:
            self.dataReceived(b"")
        self._update_reservation()
        if not self._pauses and self.open:
            self.subscriber.transport.resumeProducing()

    def _yield_to_reactor(self) -> None:
        """
        Continue with this client's input in the next reactor turn.
        """
        if self._closing is not None:
            self._closing.on_answered()  # its close frame is not searched in so much input
        else:
            self.pause_reading()
            self._context.clock.callLater(0, self.resume_reading)

    def _on_close_frame(self, payload: bytes) -> None:
        if self._closing is not None:
            self._closing.on_answered()
        else:
            last = frame(Opcode.CLOSE, payload)
            reason = DisconnectReason.CLIENT
            self._close(CloseState.ANSWERED, last, reason, parse_close(payload))

    def _fail(
        self, code: int, text: str, reason: DisconnectReason = DisconnectReason.BROKEN
    ) -> None:
        """
        Close because of the client's fault, and ignore its input from now on (7.1.7).
        """
        if self._closing is not None:
            self._closing.on_answered()
            self._discard_input()
        elif self.open:
            self._close(CloseState.IGNORING, close_frame(code, text), reason, (int(code), text))

    def _close(
        self, state: CloseState, last: bytes, reason: DisconnectReason, status: tuple[int, str]
    ) -> None:
        """
        Leave the hub, and send the close frame *last* behind all queued frames.
        """
        closing = self._closing = CloseHandshake(self.subscriber, state, last, reason, status)
        self._leave_hub(reason)
        self._observer.on_closing(self, closing)
        pending, self._pending = self._pending, None
        if self._receiver.unparsed:
            closing.state = CloseState.IGNORING if state is CloseState.CLOSING else state
        elif pending and pending[-1][0] == _CLOSE:
            closing.state = CloseState.ANSWERED
        if closing.state is not CloseState.CLOSING:
            self._discard_input()
        if self._pauses:
            self.subscriber.transport.resumeProducing()
        if not self.subscriber.behind:
            closing.advance()

    def _discard_input(self) -> None:
        self._receiver.discard()
        self._pending = None
        self._update_reservation()

    def _update_reservation(self) -> None:
        """
        Reserve memory for incomplete messages, and for pending ones while reading is paused.
        """
        size = self._receiver.buffered
        if self._pending:
            size += sum([len(payload) + OVERHEAD for _, payload in self._pending])
        if self._reserved is not None:
            if size:
                self._reserved.resize(size)
            else:
                self._reserved.close()
                self._reserved = None
        elif size:
            self._reserved = self._context.inbound.open(self)
            self._reserved.grow(size)

    def _on_confirmed(self, result: Any) -> Any:
        self._unconfirmed -= 1
        if self._unconfirmed == IN_FLIGHT - 1:
            self.resume_reading()
        return result

    def _leave_hub(self, reason: DisconnectReason) -> None:
        if self._is_joined:
            self._is_joined = False
            self._context.hub.caught_up(self.subscriber)
            self._context.hub.leave(self.subscriber, reason)
