"""
One websocket: what its client says goes to a conversation, what the
conversation and the hub say goes to the client.

Frames out take the direct way of `Subscriber`, those of broadcasts and those of
the conversation alike, in one order. Who does not read is not read: while bytes
wait for a client, nothing more is taken from it.
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
from rt_twisted.codecs.websocket_inbound import Said, close_of
from rt_twisted.http.interfaces import StreamHandle
from rt_twisted.hub.limits import BacklogLimits
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, Position, PublishResult
from rt_twisted.net.inbound_memory import Reservation
from rt_twisted.net.transports import hand_over

if TYPE_CHECKING:
    from twisted.python.failure import Failure

OVERHEAD = 120  # bytes of a message that waits, beside its payload
IN_FLIGHT = 32  # publishes of one client that the broker has not answered
SLICE = 0.008  # seconds one client's messages may hold the reactor
_log = Logger()
_MESSAGES = (1, 2)  # Opcode.TEXT and BINARY
_BINARY, _CLOSE, _PING = 2, 8, 9  # plain numbers: members of an enum take a look-up


class WebSocketObserver(Protocol):
    """
    Is notified when a websocket ends.
    """

    def on_closing(self, websocket: WebSocket, handshake: CloseHandshake) -> None:
        """
        *websocket* has begun its closing handshake, which has to be aborted in time.
        """

    def on_closed(self, websocket: WebSocket) -> None:
        """
        The connection of *websocket* is lost; called once.
        """


@implementer(IProtocol)
class WebSocket:
    """
    A connection after its opening handshake. `Websockets.open` makes it.

    To Twisted it is the connection's protocol; to its reader it is the audience,
    between it and the hub.

    Attributes:
        reader: its end of the hub: for `hub.add`, `hub.remove`, `reader.format`.
        agreement: what the handshake came to: subprotocol, compression.
    """

    __slots__ = (
        "_behind",
        "_context",
        "_conversation",
        "_flying",
        "_holds",
        "_intake",
        "_joined",
        "_observer",
        "_parting",
        "_pending",
        "_reserved",
        "agreement",
        "bucket",
        "heard",
        "subscriber",
    )

    def __init__(
        self,
        context: WebSocketContext,
        observer: WebSocketObserver,
        bucket: int,
        agreement: WebSocketHandshake,
        opened: StreamHandle,
        format: IFormat,
        backlog_limits: BacklogLimits,
        address: str,
    ) -> None:
        self.agreement = agreement
        self.heard = context.second  # when it last said something
        self.bucket = bucket
        self._context = context
        self._observer = observer
        self._intake = MessageReceiver(context, agreement.deflate is not None)
        self._conversation: Any = None
        self._parting: CloseHandshake | None = None  # while it is open
        self._pending: deque[Said] | None = None  # said, while it is held
        self._reserved: Reservation | None = None  # for what is incomplete, or waits
        self._holds = 0  # reasons not to listen
        self._behind = False  # which is one
        self._flying = 0  # publishes that the broker has not answered
        self._joined = True  # the hub counts it
        self.subscriber = Subscriber(opened.transport, format, self, backlog_limits, address)
        hand_over(opened.transport, self)

    # For the conversation.

    @property
    def open(self) -> bool:
        """
        Whether what is sent may still arrive.
        """
        return self._parting is None and not self.subscriber.closed

    def send(self, data: bytes, binary: bool = False) -> None:
        """
        Send a message, compressed if that was agreed on and worth it. After the
        end it goes nowhere.

        Args:
            data: valid UTF-8 unless *binary*.
            binary: else text.
        """
        if self._parting is None:
            self.subscriber.write(data_frame(data, binary, self.agreement.deflate))

    def write(self, frames: bytes) -> None:
        """
        Send whole frames, such as `codecs.websocket.data_frame` makes, once for
        many.
        """
        if self._parting is None:
            self.subscriber.write(frames)

    def ping(self, payload: bytes = b"") -> None:
        """
        Send a ping of up to 125 bytes. The hub's heartbeats ping already.
        """
        self.write(frame(Opcode.PING, payload))

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """
        Say goodbye behind everything that was sent, wait for the client's
        answer, and hang up. Nothing it says meanwhile is heard. A second call
        changes nothing.

        Raises:
            ValueError: *code* is none that may be sent (RFC 6455, 7.4).
        """
        last = close_frame(code, reason)
        if self.open:
            self._part(CloseState.CLOSING, last, DisconnectReason.ENDED, (int(code), reason))

    def publish(self, drafts: Sequence[Draft]) -> PublishResult | Deferred[PublishResult]:
        """
        As `Hub.publish`, in the client's name: while the broker owes it
        `IN_FLIGHT` answers, nothing more is taken from it.

        Returns:
            the result itself where the broker has it at once, as most do that
            are in this process: callbacks cost as much as the rest.
        """
        published: Deferred[PublishResult] = self._context.hub.publish(drafts)
        if published.called and isinstance(published.result, PublishResult):
            return published.result
        self._flying += 1
        if self._flying == IN_FLIGHT:
            self.hold()
        return published.addBoth(self._landed)

    def consume_rate(self, frames: int) -> None:
        """
        Count a message of the client's as so many frames more (`websocket-rate`).
        """
        self._intake.consume_rate(frames)

    def hold(self) -> None:
        """
        Listen no more until `release`; for who cannot take more messages now.
        Each call needs one `release`.
        """
        self._holds += 1
        if self._holds == 1 and self.open:
            self.subscriber.transport.pauseProducing()

    def release(self) -> None:
        """
        Take one `hold` back.
        """
        self._holds -= 1
        if not self._holds and self.open:
            # What it could not have said meanwhile is not held against it.
            self.heard = self._context.second
            self._intake.excuse()
            if self._pending is None and not self._intake.rest:
                self.subscriber.transport.resumeProducing()
            else:
                # Not within the call that told us: it may be the reader's own.
                self._context.clock.callLater(0, self._go_on)

    # What Twisted calls.

    def makeConnection(self, transport: Any) -> None:
        """
        Not called: the connection was made before it was taken over.
        """

    def connectionMade(self) -> None:
        """
        Not called either.
        """

    def dataReceived(self, data: bytes) -> None:
        """
        Whole messages go to the conversation, what is incomplete waits.
        """
        self.heard = self._context.second
        if self._parting is not None and self._parting.step is not CloseState.CLOSING:
            return
        said, failure = self._intake.take(data)
        if self._pending is not None:
            self._pending.extend(said)
        elif said:
            self._deliver(said)
        if failure is not None:
            self._fail(*failure)
        elif self._intake.rest:
            self._breathe()
        if self._pending is not None or self._intake.held or self._reserved is not None:
            self._reserve()

    def connectionLost(self, reason: Failure) -> None:
        """
        It is over.
        """
        self.subscriber.connectionLost(reason)
        self._observer.on_closed(self)
        self._intake.end()
        self._pending = None
        self._reserve()
        parting = self._parting
        if self._conversation is None or parting is None:
            return
        try:
            self._conversation.closed(*parting.end)
        except Exception:
            _log.failure("while telling a conversation that it is over")

    # What the reader calls.

    def seconds(self) -> float:
        """
        See `Audience`.
        """
        now: float = self._context.clock.seconds()
        return now

    def position(self) -> Position:
        """
        See `Audience`.
        """
        position: Position = self._context.hub.position()
        return position

    def fell_behind(self, subscriber: Subscriber) -> None:
        """
        Who does not read is not read.
        """
        if self._joined:
            self._context.hub.fell_behind(subscriber)
        if not self._behind:  # it may be said twice
            self._behind = True
            self.hold()

    def caught_up(self, subscriber: Subscriber) -> None:
        """
        What was sent is sent.
        """
        self._context.hub.caught_up(subscriber)
        self._behind = False
        self.release()
        if self._parting is not None and not subscriber.closed:
            self._parting.go_on()

    def skipped(self, subscriber: Subscriber) -> None:
        """
        See `Audience`.
        """
        self._context.hub.skipped(subscriber)

    def leave(self, subscriber: Subscriber, cause: DisconnectReason) -> None:
        """
        Nothing can be written any more.
        """
        if self._parting is None:
            code = CloseCode.GOING_AWAY if cause is DisconnectReason.SHUTDOWN else CloseCode.LOST
            self._parting = CloseHandshake(subscriber, CloseState.DEAF, b"", cause, (int(code), ""))
        self._leave_hub(cause)

    # What `InboundMemory` calls.

    def pause_input(self) -> None:
        """
        See `IncompleteInput`.
        """
        self.hold()

    def resume_input(self) -> None:
        """
        See `IncompleteInput`.
        """
        self.release()

    def drop_input(self) -> None:
        """
        See `IncompleteInput`.
        """
        self._reserved = None
        self._fail(CloseCode.TRY_LATER, "too many unfinished messages")

    # What `Websockets` calls.

    def look(self) -> None:
        """
        Is it silent, or has it been saying one message for too long?
        """
        if self._holds:
            return  # its answer to a ping would not be heard
        context = self._context
        if context.second - self.heard > context.silence:
            self._fail(CloseCode.INTERNAL_ERROR, "no answer to a ping", DisconnectReason.SILENT)
        elif self._intake.is_slow:
            self._fail(CloseCode.POLICY, "a message took too long")

    def begin(self, conversation: Any, rest: bytes) -> None:
        """
        The hub has been joined; *rest* is what the client has said already.
        """
        self._conversation = conversation
        try:
            conversation.opened(self)
        except Exception:
            _log.failure("in a websocket's conversation")
            self.close(CloseCode.INTERNAL_ERROR, "internal error")
        if rest:
            self.dataReceived(rest)

    # Within.

    def _deliver(self, said: Sequence[Said]) -> None:
        conversation = self._conversation
        until = self.seconds() + SLICE if len(said) > 1 else math.inf
        for index, (opcode, payload) in enumerate(said):
            if index and self.seconds() > until and self._parting is None:
                self._breathe()
            if self._holds:
                self._pending = deque(said[index:])
                return
            if opcode == _CLOSE:
                self._hear_close(payload)
                return
            if self._parting is not None:
                continue
            if opcode in _MESSAGES:
                self._context.metrics.websocket_messages += 1
                try:
                    conversation.message(payload, opcode == _BINARY)
                except Exception:
                    _log.failure("in a websocket's conversation")
                    self.close(CloseCode.INTERNAL_ERROR, "internal error")
            elif opcode == _PING:
                self.subscriber.write(frame(Opcode.PONG, payload))

    def _go_on(self) -> None:
        if self._holds or not self.open:
            return
        pending, self._pending = self._pending or (), None
        self._deliver(tuple(pending))
        if self._intake.rest and not self._holds and self.open:
            self.dataReceived(b"")
        self._reserve()
        if not self._holds and self.open:
            self.subscriber.transport.resumeProducing()

    def _breathe(self) -> None:
        """
        Let others have their turn before what this client has said besides.
        """
        if self._parting is not None:
            self._parting.answered()  # its close frame is not looked for in all that
        else:
            self.hold()
            self._context.clock.callLater(0, self.release)

    def _hear_close(self, payload: bytes) -> None:
        if self._parting is not None:
            self._parting.answered()
        else:
            last = frame(Opcode.CLOSE, payload)
            self._part(CloseState.ANSWERED, last, DisconnectReason.CLIENT, close_of(payload))

    def _fail(
        self, code: int, reason: str, cause: DisconnectReason = DisconnectReason.BROKEN
    ) -> None:
        """
        The client is not understood, or not tolerated, any further (7.1.7).
        """
        if self._parting is not None:
            self._parting.answered()
            self._discard()
        elif self.open:
            self._part(CloseState.DEAF, close_frame(code, reason), cause, (int(code), reason))

    def _part(
        self, step: CloseState, last: bytes, cause: DisconnectReason, end: tuple[int, str]
    ) -> None:
        """
        The hub tells nothing any more; *last* is said behind what it told.
        """
        parting = self._parting = CloseHandshake(self.subscriber, step, last, cause, end)
        self._leave_hub(cause)
        self._observer.on_closing(self, parting)
        pending, self._pending = self._pending, None
        if self._intake.rest:
            parting.step = CloseState.DEAF if step is CloseState.CLOSING else step
        elif pending and pending[-1][0] == _CLOSE:
            parting.step = CloseState.ANSWERED
        if parting.step is not CloseState.CLOSING:
            self._discard()
        if self._holds:
            self.subscriber.transport.resumeProducing()
        if not self.subscriber.behind:
            parting.go_on()

    def _discard(self) -> None:
        """
        Keep nothing of what the client has sent.
        """
        self._intake.end()
        self._pending = None
        self._reserve()

    def _reserve(self) -> None:
        """
        Count what is incomplete, and what waits while nothing is read.
        """
        size = self._intake.held
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

    def _landed(self, result: Any) -> Any:
        self._flying -= 1
        if self._flying == IN_FLIGHT - 1:
            self.release()
        return result

    def _leave_hub(self, cause: DisconnectReason) -> None:
        if self._joined:
            self._joined = False
            self._context.hub.caught_up(self.subscriber)
            self._context.hub.leave(self.subscriber, cause)
