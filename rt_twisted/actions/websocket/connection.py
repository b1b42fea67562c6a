"""
One websocket, between its client, its application and the hub.

Messages of the hub and of the application leave in one order, through the direct
write of `Subscriber`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rt_twisted.access.grants import ANYONE, Grant
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
from rt_twisted.http.stream_handle import StreamHandle
from rt_twisted.hub.duplex import CloseHandshake, CloseState, DuplexSubscriber
from rt_twisted.hub.limits import BacklogLimits
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, PublishResult
from rt_twisted.net.inbound_memory import Reservation

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


class WebSocket:
    """
    A websocket after its opening handshake. Created by `WebSocketEndpoint.open`.

    Attributes:
        handshake: the negotiated subprotocol and compression.
        grant: of the client; `rt_twisted.api.ANYONE` where none is needed.
        bucket: written by the endpoint only: when its timeouts are checked.
        last_input: second of `WebSocketContext` in which the client last sent something.
    """

    __slots__ = (
        "_app",
        "_context",
        "_duplex",
        "_observer",
        "_pending",
        "_receiver",
        "_reserved",
        "_status",
        "_unconfirmed",
        "bucket",
        "grant",
        "handshake",
        "last_input",
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
        grant: Grant = ANYONE,
    ) -> None:
        self.handshake = handshake
        self.grant = grant
        self.last_input = context.second
        self.bucket = 0
        self._context = context
        self._observer = observer
        self._receiver = MessageReceiver(context, handshake.deflate is not None)
        self._app: Any = None
        self._status: tuple[int, str] | None = None  # for `IWebSocketApp.closed`
        self._pending: deque[WebSocketEvent] | None = None  # received while reading is paused
        self._reserved: Reservation | None = None  # memory of incomplete and pending messages
        self._unconfirmed = 0  # publishes that the broker has not confirmed
        self._duplex = DuplexSubscriber(
            context.hub, self, opened.transport, format, backlog_limits, address
        )

    # For applications.

    @property
    def subscriber(self) -> Subscriber:
        """
        The subscriber, for `Hub.add_channels` and `Hub.remove_channels`.
        """
        return self._duplex.subscriber

    @property
    def open(self) -> bool:
        """
        Whether the closing handshake has not begun and the connection is not lost.
        """
        return self._duplex.open

    def send(self, data: bytes, binary: bool = False) -> None:
        """
        Send a message, compressed if that was negotiated and makes it smaller.

        Does nothing once the websocket is closing.

        Args:
            data: valid UTF-8 unless *binary*.
            binary: send a binary message, not a text message.
        """
        if self._duplex.closing is None:
            self._duplex.subscriber.write(data_frame(data, binary, self.handshake.deflate))

    def write(self, frames: bytes) -> None:
        """
        Send whole frames, such as `codecs.websocket.data_frame` returns.

        The frames of one message can be encoded once for many websockets.
        """
        if self._duplex.closing is None:
            self._duplex.subscriber.write(frames)

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
        self.end(code, reason, DisconnectReason.ENDED)

    def expire(self) -> None:
        """
        Close with 1008, as the grant of the client has expired.
        """
        self.end(CloseCode.POLICY, "the grant has expired", DisconnectReason.EXPIRED)

    def end(self, code: int, reason: str, counted: DisconnectReason) -> None:
        """
        Close as `close` does, and count it as *counted*.
        """
        if self.open:
            last = close_frame(code, reason)
            self._close(CloseState.CLOSING, last, counted, (int(code), reason))

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
        self._duplex.pause_reading()

    def resume_reading(self) -> None:
        """
        Undo one `pause_reading`. Pending messages are delivered in the next reactor turn.
        """
        self._duplex.resume_reading()

    def watch_backlog(self, drained: Callable[[], object]) -> None:
        """
        Have *drained* called each time that `Subscriber.behind` ends: all output is sent.
        """
        self._duplex.drained = drained

    # What `DuplexSubscriber` calls.

    def on_resumed(self) -> None:
        # The client could not be read in the meantime: its timeouts start again.
        self.last_input = self._context.second
        self._receiver.restart_timer()
        if self._receiver.unparsed:
            self._context.inflating.wait(self._continue_input)
        elif self._pending is None:
            self.subscriber.transport.resumeProducing()
        else:
            # Not within this call, which may come from the subscriber's write.
            self._context.clock.callLater(0, self._continue_input)

    def on_input(self, data: bytes) -> None:
        self.last_input = self._context.second
        closing = self._duplex.closing
        if closing is not None and closing.state is not CloseState.CLOSING:
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

    def on_closing(self, closing: CloseHandshake) -> None:
        self._observer.on_closing(self, closing)

    def on_lost(self) -> None:
        self._observer.on_closed(self)
        self._discard_input()
        closing = self._duplex.closing
        app, self._app = self._app, None
        if app is None or closing is None:
            return
        shutdown = closing.reason is DisconnectReason.SHUTDOWN
        code = CloseCode.GOING_AWAY if shutdown else CloseCode.LOST
        try:
            app.closed(*(self._status or (int(code), "")))
        except Exception:
            _log.failure("a websocket application failed in closed()")

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
        passed = 0 if self._duplex.pauses else context.second - self.last_input
        return max(1, context.silence + 1 - passed)

    def check_timeouts(self) -> bool:
        """
        Disconnect a client that has sent nothing, or no whole message, for too long.

        Returns:
            Whether the websocket is open afterwards.
        """
        context = self._context
        if not self._duplex.pauses:
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
            self.on_input(rest)

    def _on_app_failed(self) -> None:
        _log.failure("a websocket application failed; its websocket is closed with 1011")
        self.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _deliver(self, events: Sequence[WebSocketEvent]) -> None:
        app, duplex = self._app, self._duplex
        until = duplex.seconds() + SLICE if len(events) > 1 else math.inf
        for index, (opcode, payload) in enumerate(events):
            if index and duplex.seconds() > until and duplex.closing is None:
                self._yield_to_reactor()
            if duplex.pauses:
                self._pending = deque(events[index:])
                return
            if opcode == _CLOSE:
                self._on_close_frame(payload)
                return
            if duplex.closing is not None:
                continue
            if opcode in _MESSAGES:
                self._context.metrics.websocket_messages += 1
                try:
                    app.message(payload, opcode == _BINARY)
                except Exception:
                    self._on_app_failed()
            elif opcode == _PING:
                duplex.subscriber.write(frame(Opcode.PONG, payload))

    def _continue_input(self) -> None:
        """
        Deliver pending messages, parse what is left, and read on.
        """
        if self._duplex.pauses or not self.open:
            return
        pending, self._pending = self._pending or (), None
        self._deliver(tuple(pending))
        if self._receiver.unparsed and not self._duplex.pauses and self.open:
            self.on_input(b"")
        self._update_reservation()
        if not self._duplex.pauses and self.open:
            self.subscriber.transport.resumeProducing()

    def _yield_to_reactor(self) -> None:
        """
        Continue with this client's input in the next reactor turn.
        """
        closing = self._duplex.closing
        if closing is not None:
            closing.on_answered()  # its close frame is not searched in so much input
        else:
            self.pause_reading()
            self._context.clock.callLater(0, self.resume_reading)

    def _on_close_frame(self, payload: bytes) -> None:
        closing = self._duplex.closing
        if closing is not None:
            closing.on_answered()
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
        closing = self._duplex.closing
        if closing is not None:
            closing.on_answered()
            self._discard_input()
        elif self.open:
            self._close(CloseState.IGNORING, close_frame(code, text), reason, (int(code), text))

    def _close(
        self, state: CloseState, last: bytes, reason: DisconnectReason, status: tuple[int, str]
    ) -> None:
        """
        Leave the hub, and send the close frame *last* behind all queued frames.
        """
        self._status = status
        pending, self._pending = self._pending, None
        if self._receiver.unparsed:
            state = CloseState.IGNORING if state is CloseState.CLOSING else state
        elif pending and pending[-1][0] == _CLOSE:
            state = CloseState.ANSWERED
        if state is not CloseState.CLOSING:
            self._discard_input()
        self._duplex.close(state, last, reason)

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
