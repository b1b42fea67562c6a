"""
An AMQP connection: txAMQP's, with frames that work on Python 3 and are fast. Only this
module and `channel` import txAMQP.

txAMQP's connection (login, channels, calls and their answers) is used. Subclasses
replace what reads and writes frames:

- Bodies are bytes, counted as such, in any number of frames; text in txAMQP's
  `Content` is UTF-8.
- Fields of every type are read. Headers are parsed only when they are used, so that no
  message of another program can end the connection.
- Deliveries go straight to a function: no queue grows, and there is no
  Deferred per frame (196 us a message before).
- A channel that the server closes is forgotten: its number can be used again.
- The client announces its capabilities, so the server reports when it cancels a consumer,
  when it is short of memory, and why it refuses a login.
- Heartbeats cost two checks an interval, not two timers a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct, error
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
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
    One connection to an AMQP server.

    Args:
        spec: the result of `load_specification`.
        clock: for heartbeats.
        name: shown in RabbitMQ's list of connections.
        vhost: the virtual host.
        heartbeat: seconds between heartbeats; 0 for none.
        tls: whether the transport is encrypted.
    """

    def __init__(
        self,
        spec: Any,
        clock: IReactorTime,
        name: str,
        vhost: str,
        heartbeat: int,
        tls: bool = False,
    ) -> None:
        super().__init__(AmqpDelegate(), vhost, spec, heartbeat=0, clock=clock)
        self.name = name
        self.heartbeat_interval = heartbeat
        self._tls = tls
        self.channelFactory = type("Channel", (AmqpChannel, spec.klass), {})
        self.closed = False
        self.blocked = ""  # the reason, while the server reads nothing that is published
        self.close_error: AmqpConnectionClosed | None = None  # why it ended
        self.greeted = False  # whether an AMQP 0-9-1 server has begun the handshake
        self.published = 0  # messages; the server confirms them by these numbers
        self.consumers: dict[str, Callable[[Delivery], None]] = {}
        self.private_channels: set[int] = set()  # channels whose end is not passed to `on_closed`
        self.lost_callbacks: set[Callable[[AmqpConnectionClosed], None]] = (
            set()
        )  # called when it is lost
        # Called after each read from the connection that had deliveries.
        self.on_batch_end: Callable[[], None] = _ignore
        self.on_confirm: Callable[[int, bool, bool], None] = _ignore  # tag, multiple, accepted
        self.on_blocked: Callable[[str], None] = _ignore
        self.on_closed: Callable[[AmqpConnectionClosed], None] = (
            _ignore  # a channel or a consumer was closed
        )
        self.on_lost: Callable[[AmqpConnectionClosed], None] = _ignore  # the connection was lost
        self._buffer = b""  # the beginning of an incomplete frame
        self._broken = False  # the server sent what is not AMQP: nothing more is read
        self._contents: dict[int, Delivery] = {}  # by channel, those that are incomplete
        self._delivered = False  # in this read
        self._read_since = self._wrote_since = False  # the last heartbeat check
        self._heartbeats = LoopingCall(self._check_heartbeat)
        self._heartbeats.clock = clock

    def send_init_string(self) -> None:
        # txAMQP's own is of another version than its specification.
        self.transport.write(b"AMQP\0\0\x09\x01")

    def start_heartbeats(self, seconds: int) -> None:
        """
        Send heartbeats every *seconds*, and expect them; 0 for none.
        """
        if seconds:
            self._heartbeats.start(seconds / 2, now=False)
            self._silent = 0

    def _check_heartbeat(self) -> None:
        if not self._wrote_since:
            self.transport.write(_frame.pack(FrameType.HEARTBEAT, 0, 0) + _END)
        self._silent = 0 if self._read_since else self._silent + 1
        self._read_since = self._wrote_since = False
        if self._silent >= 4:  # two intervals (AMQP 0-9-1, 4.2.7)
            self.abort(AmqpConnectionClosed("no heartbeat"))

    def abort(self, error: AmqpConnectionClosed) -> None:
        """
        Close the connection at once, for the reason *error*.
        """
        self.close_error = self.close_error or error
        if self.transport is not None:
            self.transport.abortConnection()

    def shut_down(self, seconds: float) -> Deferred[bool]:
        """
        Send `connection.close`, and close the connection when it is answered, or after
        *seconds*.

        Returns:
            fires when the connection is closed.
        """
        if not self.closed:
            answered = self.start_call(
                0, "connection_close", reply_code=200, reply_text="normal shutdown"
            )
            answered.addTimeout(seconds, self.clock)
            answered.addBoth(lambda _: self.abort(AmqpConnectionClosed("normal shutdown")))
        done: Deferred[bool] = self.disconnected.wait()
        return done

    def connectionLost(self, reason: Any) -> None:
        if self._heartbeats.running:
            self._heartbeats.stop()
        if self.close_error is None:
            text = self._explain(reason.value, reason.getErrorMessage())
            self.close_error = AmqpConnectionClosed(text)
        error = self.close_error
        super().connectionLost(reason)
        for callback in tuple(self.lost_callbacks):
            callback(error)
        self.on_lost(error)

    def _explain(self, error: BaseException | None, text: str) -> str:
        if self._buffer and not self.greeted:
            return describe(self._buffer)
        return explain(error, text, self._tls, self.greeted)

    def _on_silence(self) -> None:
        """
        Close a connection whose server has sent no AMQP.
        """
        if not self.greeted:
            self.abort(AmqpConnectionClosed(self._explain(None, f"silent for {SILENCE:g} seconds")))

    def channel_failed(self, channel: Any, reason: Any) -> None:
        if channel.id not in self.private_channels:
            self.on_closed(closed_reason(channel.reason))

    def channel(self, id: int) -> Deferred[Any]:
        """
        Return the txAMQP channel *id*; fires at once.
        """
        found = self.channels.get(id)
        if found is None:
            found = self.channels[id] = self.channelFactory(id, self.outgoing, self)
        return succeed(found)

    async def login(self, user: str, password: str) -> None:
        """
        Authenticate and open the virtual host.

        Raises:
            AmqpConnectionClosed: the login was refused, or the connection is lost.
        """
        self.mechanism, self.locale = "PLAIN", "en_US"
        self.response = f"\0{user}\0{password}"
        silence = self.clock.callLater(SILENCE, self._on_silence)
        try:
            await self.started.wait()
        except Closed as error:
            raise self.close_error or closed_reason(error.args[0]) from None
        finally:
            if silence.active():
                silence.cancel()
        await self.call(0, "connection_open", virtual_host=self.vhost)

    async def call(self, number: int, method: str, **arguments: Any) -> Any:
        """
        Call a method on channel *number* and wait for its answer. Several calls at once
        are answered in order.

        Args:
            number: the channel's.
            method: class and name: `queue_declare`.
            arguments: its fields; those that are left out are empty.

        Returns:
            the answer, with its fields as attributes.

        Raises:
            AmqpConnectionClosed: the server closed the channel instead, or the connection.
        """
        if self.closed:
            raise self.close_error or AmqpConnectionClosed("the connection is closed")
        channel: Any = await self.channel(number)
        try:
            return await getattr(channel, method)(**arguments)
        except Closed as error:
            raise self.close_error or closed_reason(error.args[0]) from None

    async def close_channel(self, number: int) -> None:
        """
        Close channel *number*; it can be opened again.

        Raises:
            AmqpConnectionClosed: the connection is lost.
        """
        await self.call(number, "channel_close", reply_code=200)
        self.channels.pop(number, None)

    def start_call(self, number: int, method: str, **arguments: Any) -> Deferred[Any]:
        """
        Send a `call` at once; fires with its answer.
        """
        return Deferred.fromCoroutine(self.call(number, method, **arguments))

    # Messages.

    def publish(
        self, number: int, exchange: str, key: str, body: bytes, properties: MessageProperties
    ) -> int:
        """
        Publish a message on channel *number*.

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
        Acknowledge all deliveries up to *tag* on channel *number*.
        """
        self._wrote_since = True
        self.transport.write(
            _frame.pack(FrameType.METHOD, number, 13) + _ACK + _ack.pack(tag, 1) + _END
        )

    # Frames.

    def send_frame(self, frame: Any) -> None:
        # Called by txAMQP for its own frames.
        self._wrote_since = True
        kind, payload = encode_payload(frame.payload)
        self.transport.write(_frame.pack(kind, frame.channel, len(payload)) + payload + _END)

    def dataReceived(self, data: bytes) -> None:
        self._read_since = True
        data = self._buffer + data if self._buffer else data
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
                self._on_frame(kind, number, data[at + 7 : after])
                at = after + 1
        except (MalformedTable, IndexError, error) as reason:
            # Not `closed`: with it, txAMQP would never fire what waits for the login.
            self._broken = True
            text = f"the server sent what is not AMQP: {reason}" if self.greeted else describe(data)
            self.abort(AmqpConnectionClosed(text))
        self._buffer = data[at:]
        if self._delivered:
            self._delivered = False
            if not (self.closed or self._broken):
                self.on_batch_end()

    def _on_frame(self, kind: int, number: int, payload: bytes) -> None:
        if kind == FrameType.METHOD:
            ids = payload[:4]
            if ids == _DELIVER:
                self._contents[number] = read_delivery(payload)
            elif ids in (_ACK, _NACK):
                tag, bits = _ack.unpack_from(payload, 4)
                self.on_confirm(tag, bool(bits & 1), ids == _ACK)
            else:
                self._dispatch(number, payload)
        elif kind in (FrameType.HEADER, FrameType.BODY):
            delivery = self._contents.get(number)
            if delivery is None:
                return  # of a returned message, or for a closed channel
            if kind == FrameType.HEADER:
                complete = delivery.add_header(payload)
            else:
                complete = delivery.add_body(payload)
            if complete:
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
        types = [field.type for field in method.fields]
        arguments = read_fields(types, payload, 4)
        channel: Any = self.channel(number).result
        if method.response:
            channel.responses.put(Frame(number, Method(method, *arguments)))
        elif hasattr(
            self.delegate, f"{method.klass.name}_{method.name}".replace("return", "return_")
        ):
            self.delegate.dispatch(channel, Message(method, arguments))


def _ignore(*_: Any) -> None:
    pass
