"""
txAMQP, made sound for Python 3 and quick. With its part `dialogue`, the one that
knows it.

Its connection (login, channels, calls and their answers) stays. Replaced, by
subclasses and nothing else, is what reads and writes frames:

- Bodies are bytes, counted as such, in however many frames; text that is handed
  to its own `Content` is UTF-8.
- Fields of every type are read; headers are not looked into before somebody
  asks, so that no foreign message can end the connection.
- Deliveries go straight to a function: no queue grows, and nothing waits for a
  Deferred per frame (196 us a message before).
- A channel that the server closes is forgotten: its number can be used again.
- The server is told what we understand, so it says when it cancels a consumer,
  when it is short of memory, and why it refuses a login.
- Heartbeats cost two looks an interval, not two timers a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, error
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import ClientFactory
from twisted.internet.task import LoopingCall
from txamqp.client import Closed
from txamqp.connection import Frame, Method
from txamqp.message import Message
from txamqp.protocol import AMQClient

from rt_twisted.brokers.amqp.channel import (
    METHOD,
    AmqpChannel,
    AmqpConnectionClosed,
    AmqpDelegate,
    FrameType,
    closed_reason,
    encode_payload,
)
from rt_twisted.brokers.amqp.content import (
    BASIC,
    HEADER,
    Delivery,
    MessageProperties,
    read_delivery,
)
from rt_twisted.brokers.amqp.table import MalformedTable, read_fields, write_short
from rt_twisted.brokers.peers import describe, explain

SILENCE = 3.0  # seconds until a server must have answered the protocol header
_frame = Struct("!BHL")  # type, channel, size of the payload
_ack = Struct("!QB")
_END = b"\xce"
_DELIVER = METHOD.pack(BASIC, 60)
_ACK = METHOD.pack(BASIC, 80)
_NACK = METHOD.pack(BASIC, 120)
_PUBLISH = METHOD.pack(BASIC, 40) + b"\0\0"


class AmqpConnection(AMQClient):  # type: ignore[misc]  # as above
    """
    One connection.

    Args:
        spec: what `load_specification` read.
        clock: for heartbeats.
        name: shown in RabbitMQ's list of connections.
        vhost: the virtual host.
        beat: seconds between heartbeats; 0 for none.
        tls: whether the transport is encrypted.
    """

    def __init__(
        self,
        spec: Any,
        clock: IReactorTime,
        name: str,
        vhost: str,
        beat: int,
        tls: bool = False,
    ) -> None:
        super().__init__(AmqpDelegate(), vhost, spec, heartbeat=0, clock=clock)
        self.name = name
        self.beat = beat
        self._tls = tls
        self.channelFactory = type("Channel", (AmqpChannel, spec.klass), {})
        self.closed = False
        self.blocked = ""  # why it takes nothing that is published
        self.why: AmqpConnectionClosed | None = None  # it ended
        self.greeted = False  # by a server of AMQP 0-9-1
        self.published = 0  # messages; what the server confirms are their numbers
        self.consumers: dict[str, Callable[[Delivery], None]] = {}
        self.spare: set[int] = set()  # channels whose end is nobody else's business
        self.readings: set[Callable[[AmqpConnectionClosed], None]] = set()  # told when it is lost
        # After each piece that is read from the connection and had deliveries.
        self.on_settled: Callable[[], None] = _nothing
        self.on_confirm: Callable[[int, bool, bool], None] = _nothing  # tag, multiple, taken
        self.on_blocked: Callable[[str], None] = _nothing
        self.on_closed: Callable[[AmqpConnectionClosed], None] = _nothing  # a channel or a consumer
        self.on_lost: Callable[[AmqpConnectionClosed], None] = _nothing  # all of it
        self._rest = b""  # of the last frame, which is not whole
        self._broken = False  # what came is not AMQP: nothing more is read
        self._contents: dict[int, Delivery] = {}  # by channel, those that are not whole
        self._delivered = False  # in this piece
        self._read_since = self._wrote_since = False  # the last look
        self._beating = LoopingCall(self._look)
        self._beating.clock = clock

    # Life.

    def send_init_string(self) -> None:
        """
        txAMQP's own is of another version than its specification.
        """
        self.transport.write(b"AMQP\0\0\x09\x01")

    def start_beating(self, beat: int) -> None:
        """
        From now on both sides say every *beat* seconds that they live.
        """
        if beat:
            self._beating.start(beat / 2, now=False)
            self._silent = 0

    def _look(self) -> None:
        if not self._wrote_since:
            self.transport.write(_frame.pack(FrameType.HEARTBEAT, 0, 0) + _END)
        self._silent = 0 if self._read_since else self._silent + 1
        self._read_since = self._wrote_since = False
        if self._silent >= 4:  # two intervals (AMQP 0-9-1, 4.2.7)
            self.abort(AmqpConnectionClosed("no heartbeat"))

    def abort(self, why: AmqpConnectionClosed) -> None:
        """
        End the connection without ado.
        """
        self.why = self.why or why
        if self.transport is not None:
            self.transport.abortConnection()

    def leave(self, seconds: float) -> Deferred[bool]:
        """
        Say goodbye, and end the connection when that is answered, or after *seconds*.

        Returns:
            fires when it has ended.
        """
        if not self.closed:
            answered = self.say(0, "connection_close", reply_code=200, reply_text="goodbye")
            answered.addTimeout(seconds, self.clock)
            answered.addBoth(lambda _: self.abort(AmqpConnectionClosed("goodbye")))
        done: Deferred[bool] = self.disconnected.wait()
        return done

    def connectionLost(self, reason: Any) -> None:
        """
        Whoever waits for an answer gets `Gone`.
        """
        if self._beating.running:
            self._beating.stop()
        if self.why is None:
            self.why = AmqpConnectionClosed(self._explain(reason.value, reason.getErrorMessage()))
        why = self.why
        super().connectionLost(reason)
        for lost in tuple(self.readings):
            lost(why)
        self.on_lost(why)

    def _explain(self, error: BaseException | None, words: str) -> str:
        if self._rest and not self.greeted:
            return describe(self._rest)
        return explain(error, words, self._tls, self.greeted)

    def _give_up(self) -> None:
        """
        End a connection whose server has not begun to speak AMQP.
        """
        if not self.greeted:
            self.abort(AmqpConnectionClosed(self._explain(None, f"silent for {SILENCE:g} seconds")))

    def channel_failed(self, channel: Any, reason: Any) -> None:
        """
        The server closed *channel*.
        """
        if channel.id not in self.spare:
            self.on_closed(closed_reason(channel.reason))

    def channel(self, id: int) -> Deferred[Any]:
        """
        The channel *id*; fires at once.
        """
        found = self.channels.get(id)
        if found is None:
            found = self.channels[id] = self.channelFactory(id, self.outgoing, self)
        return succeed(found)

    async def login(self, user: str, password: str) -> None:
        """
        Authenticate and open the virtual host.

        Raises:
            Gone: it was refused, or the connection is lost.
        """
        self.mechanism, self.locale = "PLAIN", "en_US"
        self.response = f"\0{user}\0{password}"
        silence = self.clock.callLater(SILENCE, self._give_up)
        try:
            await self.started.wait()
        except Closed as error:
            raise self.why or closed_reason(error.args[0]) from None
        finally:
            if silence.active():
                silence.cancel()
        await self.call(0, "connection_open", virtual_host=self.vhost)

    async def call(self, number: int, method: str, **arguments: Any) -> Any:
        """
        Call a method on channel *number* and wait for its answer. Calls that
        are made without waiting are answered in order.

        Args:
            number: of the channel.
            method: class and name: `queue_declare`.
            arguments: its fields; what is left out is empty.

        Returns:
            the answer, with its fields as attributes.

        Raises:
            Gone: the server closed the channel instead, or the connection.
        """
        if self.closed:
            raise self.why or AmqpConnectionClosed("the connection is closed")
        channel: Any = await self.channel(number)
        try:
            return await getattr(channel, method)(**arguments)
        except Closed as error:
            raise self.why or closed_reason(error.args[0]) from None

    async def close_channel(self, number: int) -> None:
        """
        Close channel *number*; it can be opened again.

        Raises:
            Gone: the connection is lost.
        """
        await self.call(number, "channel_close", reply_code=200)
        self.channels.pop(number, None)

    def say(self, number: int, method: str, **arguments: Any) -> Deferred[Any]:
        """
        The same, begun at once.
        """
        return Deferred.fromCoroutine(self.call(number, method, **arguments))

    # Messages.

    def publish(
        self, number: int, exchange: str, key: str, body: bytes, properties: MessageProperties
    ) -> int:
        """
        Publish on channel *number*.

        Returns:
            bytes written.

        Raises:
            ValueError: a name has more than 255 bytes.
        """
        method = _PUBLISH + write_short(exchange) + write_short(key) + b"\0"
        flags, fields = properties.encode()
        header = HEADER.pack(BASIC, 0, len(body), flags) + fields
        most = self.MAX_LENGTH - 8
        pieces = [
            _frame.pack(FrameType.METHOD, number, len(method)) + method + _END,
            _frame.pack(FrameType.HEADER, number, len(header)) + header + _END,
        ]
        for first in range(0, len(body), most):
            piece = body[first : first + most]
            pieces += _frame.pack(FrameType.BODY, number, len(piece)), piece, _END
        frames = b"".join(pieces)
        self._wrote_since = True
        self.published += 1
        self.transport.write(frames)
        return len(frames)

    def ack(self, number: int, tag: int) -> None:
        """
        Acknowledge everything up to the delivery *tag* on channel *number*.
        """
        self._wrote_since = True
        self.transport.write(
            _frame.pack(FrameType.METHOD, number, 13) + _ACK + _ack.pack(tag, 1) + _END
        )

    # Frames.

    def send_frame(self, frame: Any) -> None:
        """
        Write a frame of txAMQP's.
        """
        self._wrote_since = True
        kind, payload = encode_payload(frame.payload)
        self.transport.write(_frame.pack(kind, frame.channel, len(payload)) + payload + _END)

    def dataReceived(self, data: bytes) -> None:
        """
        Take the next bytes, and everything that they complete.
        """
        self._read_since = True
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        try:
            while end - at > 7 and not (self.closed or self._broken):
                kind, number, size = _frame.unpack_from(data, at)
                if size > self.MAX_LENGTH and size > 4096:
                    raise MalformedTable(f"a frame of {size} bytes")
                after = at + 7 + size
                if after >= end:
                    break
                if data[after] != 0xCE:
                    raise MalformedTable("a frame that does not end")
                self._take(kind, number, data[at + 7 : after])
                at = after + 1
        except (MalformedTable, IndexError, error) as reason:
            # Not `closed`: txAMQP would then leave those waiting who wait for the login.
            self._broken = True
            words = f"what came is not AMQP: {reason}" if self.greeted else describe(data)
            self.abort(AmqpConnectionClosed(words))
        self._rest = data[at:]
        if self._delivered:
            self._delivered = False
            if not (self.closed or self._broken):
                self.on_settled()

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == FrameType.METHOD:
            word = payload[:4]
            if word == _DELIVER:
                self._contents[number] = read_delivery(payload)
            elif word in (_ACK, _NACK):
                tag, bits = _ack.unpack_from(payload, 4)
                self.on_confirm(tag, bool(bits & 1), word == _ACK)
            else:
                self._dispatch(number, payload)
        elif kind in (FrameType.HEADER, FrameType.BODY):
            delivery = self._contents.get(number)
            if delivery is None:
                return  # of something that was returned, or came for a closed channel
            whole = delivery.begin(payload) if kind == FrameType.HEADER else delivery.take(payload)
            if whole:
                del self._contents[number]
                consumer = self.consumers.get(delivery.consumer)
                if consumer is not None:
                    self._delivered = True
                    consumer(delivery)

    def _dispatch(self, number: int, payload: bytes) -> None:
        try:
            ids = METHOD.unpack_from(payload)
            method = self.spec.classes.byid[ids[0]].methods.byid[ids[1]]
        except Exception:
            raise MalformedTable("a method that is not in the specification") from None
        types = [one.type for one in method.fields]
        arguments = read_fields(types, payload, 4)
        channel: Any = self.channel(number).result
        if method.response:
            channel.responses.put(Frame(number, Method(method, *arguments)))
        elif hasattr(
            self.delegate, f"{method.klass.name}_{method.name}".replace("return", "return_")
        ):
            self.delegate.dispatch(channel, Message(method, arguments))


class AmqpConnectionFactory(ClientFactory):
    """
    Makes connections.

    Args:
        spec: what `load_specification` read.
        clock: for heartbeats.
        name: shown in RabbitMQ's list of connections.
        vhost: the virtual host.
        beat: seconds between heartbeats; 0 for none.
        tls: whether the transport is encrypted.
    """

    noisy = False

    def __init__(
        self,
        spec: Any,
        clock: IReactorTime,
        name: str,
        vhost: str,
        beat: int,
        tls: bool = False,
    ) -> None:
        self._arguments = (spec, clock, name, vhost, beat, tls)

    def buildProtocol(self, address: object) -> AmqpConnection:
        """
        A new one.
        """
        return AmqpConnection(*self._arguments)


def _nothing(*_: Any) -> None:
    pass
