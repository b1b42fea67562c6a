"""
One websocket: what its client says goes to a conversation, what the
conversation and the hub say goes to the client.

Frames out take the direct way of `Subscriber`, those of broadcasts and those of
the conversation alike, in one order. Who does not read is not read: while bytes
wait for a client, nothing more is taken from it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IProtocol
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.codecs.websocket import (
    Agreement,
    Code,
    Opcode,
    close_frame,
    data_frame,
    frame,
)
from rt_twisted.codecs.websocket_inbound import Inbound, Parser, Said, close_of
from rt_twisted.interfaces import IFormat, Opened
from rt_twisted.message import Position
from rt_twisted.subscriber import Cause, Patience, Subscriber
from rt_twisted.wire import direct_send, hand_over, hang_up

if TYPE_CHECKING:
    from twisted.python.failure import Failure

    from rt_twisted.actions.websockets import Websockets

_log = Logger()
_MESSAGES = (1, 2)  # Opcode.TEXT and BINARY
_BINARY, _CLOSE, _PING = 2, 8, 9  # plain numbers: members of an enum take a look-up


class State(Enum):
    """
    How far a websocket is on its way to the end.
    """

    OPEN = "open"
    CLOSING = "closing"  # our close frame is said, or waits to be; theirs is awaited
    ANSWERED = "answered"  # theirs came first, ours is said or waits to be
    DEAF = "deaf"  # what they say has no meaning any more


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
        "_begun",
        "_behind",
        "_bytes",
        "_cause",
        "_conversation",
        "_end",
        "_frames",
        "_holds",
        "_hub",
        "_inbound",
        "_joined",
        "_last",
        "_parser",
        "_pending",
        "_second",
        "_shared",
        "_state",
        "agreement",
        "bucket",
        "heard",
        "reader",
    )

    def __init__(
        self,
        shared: Websockets,
        inbound: Inbound,
        agreement: Agreement,
        opened: Opened,
        format: IFormat,
        patience: Patience,
        address: str,
    ) -> None:
        self.agreement = agreement
        self.heard = shared.second  # when it last said something
        self.bucket = -1  # of `Websockets`
        self._shared = shared
        self._hub: Any = shared.house.hub
        self._inbound = inbound
        self._conversation: Any = None
        self._state = State.OPEN
        self._parser: Parser | None = None  # only within a message
        self._begun = 0  # when that message did
        self._pending: deque[Said] | None = None  # said, while it is held
        self._holds = 0  # reasons not to listen
        self._behind = False  # which is one
        self._joined = True  # the hub counts it
        self._last = b""  # the close frame, until it is written
        self._cause = Cause.CLIENT
        self._end: tuple[int, str] = (Code.LOST, "")
        self._second = 0  # that the next two belong to
        self._frames = 0
        self._bytes = 0
        self.reader = Subscriber(opened.transport, format, self, patience, address)
        hand_over(opened.transport, self)

    # For the conversation.

    @property
    def open(self) -> bool:
        """
        Whether what is sent may still arrive.
        """
        return self._state is State.OPEN and not self.reader.gone

    def send(self, data: bytes, binary: bool = False) -> None:
        """
        Send a message, compressed if that was agreed on and worth it. After the
        end it goes nowhere.

        Args:
            data: valid UTF-8 unless *binary*.
            binary: else text.
        """
        if self._state is State.OPEN:
            self.reader.write(data_frame(data, binary, self.agreement.deflate))

    def write(self, frames: bytes) -> None:
        """
        Send whole frames, such as `codecs.websocket.data_frame` makes, once for
        many.
        """
        if self._state is State.OPEN:
            self.reader.write(frames)

    def ping(self, payload: bytes = b"") -> None:
        """
        Send a ping of up to 125 bytes. The hub's heartbeats ping already.
        """
        self.write(frame(Opcode.PING, payload))

    def close(self, code: int = Code.NORMAL, reason: str = "") -> None:
        """
        Say goodbye behind everything that was sent, wait for the client's
        answer, and hang up. Nothing it says meanwhile is heard. A second call
        changes nothing.

        Raises:
            ValueError: *code* is none that may be sent (RFC 6455, 7.4).
        """
        last = close_frame(code, reason)
        if self.open:
            self._end = (int(code), reason)
            self._part(last, State.CLOSING, Cause.ENDED)

    def hold(self) -> None:
        """
        Listen no more until `release`; for who cannot take more messages now.
        Each call needs one `release`.
        """
        self._holds += 1
        if self._holds == 1 and self.open:
            self.reader.transport.pauseProducing()

    def release(self) -> None:
        """
        Take one `hold` back.
        """
        self._holds -= 1
        if not self._holds and self.open:
            # What it could not have said meanwhile is not held against it.
            self.heard = self._begun = self._shared.second
            if self._pending is None:
                self.reader.transport.resumeProducing()
            else:
                # Not within the call that told us: it may be the reader's own.
                self._shared.clock.callLater(0, self._go_on)

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
        shared = self._shared
        self.heard = shared.second
        state = self._state
        if state is not State.OPEN and state is not State.CLOSING:
            return
        parser = self._parser or self._inbound.borrow()
        said = parser.feed(data)
        failure = parser.failure
        if shared.limited and failure is None and not self._within_rate(parser, len(data)):
            said, failure = [], (int(Code.POLICY), "too much at once")
        if failure is None and parser.idle:
            self._inbound.give_back(parser)
            self._parser = None
        else:
            if self._parser is None or any(opcode in _MESSAGES for opcode, _ in said):
                self._begun = shared.second
            self._parser = parser
        if self._pending is not None:
            self._pending.extend(said)
        elif said:
            self._deliver(said)
        if failure is not None:
            self._fail(*failure)

    def connectionLost(self, reason: Failure) -> None:
        """
        It is over.
        """
        self.reader.connectionLost(reason)
        self._shared.forget(self)
        self._parser = self._pending = None
        if self._conversation is None:
            return
        try:
            self._conversation.closed(*self._end)
        except Exception:
            _log.failure("while telling a conversation that it is over")

    # What the reader calls.

    def seconds(self) -> float:
        """
        See `Audience`.
        """
        now: float = self._shared.clock.seconds()
        return now

    def position(self) -> Position:
        """
        See `Audience`.
        """
        position: Position = self._hub.position()
        return position

    def fell_behind(self, reader: Subscriber) -> None:
        """
        Who does not read is not read.
        """
        if self._joined:
            self._hub.fell_behind(reader)
        if not self._behind:  # it may be said twice
            self._behind = True
            self.hold()

    def caught_up(self, reader: Subscriber) -> None:
        """
        What was sent is sent.
        """
        self._hub.caught_up(reader)
        self._behind = False
        self.release()
        if self._state is not State.OPEN and not reader.gone:
            self._say_last()

    def skipped(self, reader: Subscriber) -> None:
        """
        See `Audience`.
        """
        self._hub.skipped(reader)

    def leave(self, reader: Subscriber, cause: Cause) -> None:
        """
        Nothing can be written any more.
        """
        if cause is Cause.SHUTDOWN:
            self._end = (int(Code.GOING_AWAY), "")
        if self._state is State.OPEN:
            self._state = State.DEAF
        self._leave_hub(cause)

    # What `Websockets` calls.

    @property
    def held(self) -> bool:
        """
        Whether it is not being listened to.
        """
        return self._holds > 0

    def is_slow(self) -> bool:
        """
        Whether it has been saying one message for too long, which waits here.
        """
        spent = self._shared.second - self._begun
        return self._parser is not None and spent > self._shared.limits.message_seconds

    def fell_slow(self) -> None:
        """
        It will have to say that message faster.
        """
        self._fail(Code.POLICY, "a message took too long")

    def fell_silent(self) -> None:
        """
        It has not even answered a ping.
        """
        self._fail(Code.INTERNAL_ERROR, "no answer to a ping", Cause.SILENT)

    def fell_quiet(self) -> None:
        """
        It has not sent anything for a second, while it is being closed.
        """
        # TLS cannot close one half: now nothing is taken away any more.
        if self._state is State.DEAF and self.reader.gone:
            hang_up(self.reader.transport)

    def took_too_long(self) -> None:
        """
        The time for the closing handshake is up.
        """
        self.reader.let_go(self._cause)
        self.reader.transport.abortConnection()

    def begin(self, conversation: Any, rest: bytes) -> None:
        """
        The hub has been joined; *rest* is what the client has said already.
        """
        self._conversation = conversation
        try:
            conversation.opened(self)
        except Exception:
            _log.failure("in a websocket's conversation")
            self.close(Code.INTERNAL_ERROR, "internal error")
        if rest:
            self.dataReceived(rest)

    # Within.

    def _within_rate(self, parser: Parser, size: int) -> bool:
        shared = self._shared
        if self._second != shared.second:
            self._second = shared.second
            self._frames = self._bytes = 0
        self._frames += parser.frames
        self._bytes += size
        limits = shared.limits
        return not (
            (limits.rate and self._frames > limits.rate)
            or (limits.bytes and self._bytes > limits.bytes)
        )

    def _deliver(self, said: Sequence[Said]) -> None:
        conversation = self._conversation
        for index, (opcode, payload) in enumerate(said):
            if self._holds:
                self._pending = deque(said[index:])
                return
            if opcode == _CLOSE:
                self._hear_close(payload)
                return
            if self._state is not State.OPEN:
                continue
            if opcode in _MESSAGES:
                try:
                    conversation.message(payload, opcode == _BINARY)
                except Exception:
                    _log.failure("in a websocket's conversation")
                    self.close(Code.INTERNAL_ERROR, "internal error")
            elif opcode == _PING:
                self.reader.write(frame(Opcode.PONG, payload))

    def _go_on(self) -> None:
        pending = self._pending
        if self._holds or pending is None or not self.open:
            return
        self._pending = None
        self._deliver(tuple(pending))
        if not self._holds and self.open:
            self.reader.transport.resumeProducing()

    def _hear_close(self, payload: bytes) -> None:
        if self._state is State.CLOSING:
            self._answered()
        else:
            self._end = close_of(payload)
            self._part(frame(Opcode.CLOSE, payload), State.ANSWERED, Cause.CLIENT)

    def _fail(self, code: int, reason: str, cause: Cause = Cause.BROKEN) -> None:
        """
        The client is not understood, or not tolerated, any further (7.1.7).
        """
        if self._state is State.CLOSING:
            self._answered()
        elif self.open:
            self._end = (int(code), reason)
            self._part(close_frame(code, reason), State.DEAF, cause)

    def _part(self, last: bytes, state: State, cause: Cause) -> None:
        """
        The hub tells nothing any more; *last* is said behind what it told.
        """
        self._state = state
        self._last = last
        self._cause = cause
        self._leave_hub(cause)
        self._shared.closing(self)
        pending, self._pending = self._pending, None
        if pending and pending[-1][0] == _CLOSE:
            self._state = State.ANSWERED
        if self._holds:
            self.reader.transport.resumeProducing()
        if not self.reader.behind:
            self._say_last()

    def _say_last(self) -> None:
        """
        The close frame, if it is not said yet; then what follows when it has gone.
        """
        reader = self.reader
        last, self._last = self._last, b""
        if last:
            reader.write(last)
        if reader.behind or reader.gone:
            return
        # A turn of the hub that has begun might still write.
        reader.let_go(self._cause)
        transport = reader.transport
        if self._state is State.ANSWERED:
            hang_up(transport)
        elif self._state is State.DEAF and direct_send(transport) is not None:
            # Closing on somebody who is still sending takes the close frame
            # away from him: hear him out.
            transport.loseWriteConnection()

    def _answered(self) -> None:
        """
        Both close frames are said, or nothing is to be hoped for.
        """
        self._state = State.ANSWERED
        if self.reader.gone:
            hang_up(self.reader.transport)

    def _leave_hub(self, cause: Cause) -> None:
        if self._joined:
            self._joined = False
            self._hub.caught_up(self.reader)
            self._hub.leave(self.reader, cause)
