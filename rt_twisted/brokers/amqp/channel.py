"""
Calls on a txAMQP connection, their answers, and what the server sends on its own.
"""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Any, Final

from twisted.internet.defer import Deferred
from txamqp.client import TwistedDelegate
from txamqp.connection import Body, Frame, Header, Method
from txamqp.content import Content
from txamqp.message import Message
from txamqp.protocol import AMQChannel
from txamqp.queue import Closed as QueueClosed

import rt_twisted
from rt_twisted.brokers.amqp.content import HEADER
from rt_twisted.brokers.amqp.table import MalformedTable, write_fields

MAX_FRAME: Final = 128 << 10  # bytes; RabbitMQ's own default
METHOD: Final = Struct("!HH")  # class and method

_CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}


class FrameType(IntEnum):
    """
    Types of frames (AMQP 0-9-1, 4.2.3).
    """

    METHOD = 1
    HEADER = 2
    BODY = 3
    HEARTBEAT = 8


class AmqpConnectionClosed(Exception):
    """
    Raised when the server has closed a channel or the connection, or it is lost.

    Args:
        reason: the server's own text, or ours.
        code: AMQP's (0-9-1, 1.2), such as 403; 0 for none.
    """

    def __init__(self, reason: str, code: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


class AmqpDelegate(TwistedDelegate):  # type: ignore[misc]  # txamqp has no annotations
    """
    Handles the methods that the server sends on its own.
    """

    client: Any

    def connection_start(self, ch: Any, msg: Any) -> None:
        self.client.greeted = True
        ch.connection_start_ok(
            client_properties={
                "product": "rt_twisted",
                "version": rt_twisted.__version__,
                "connection_name": self.client.name,
                "capabilities": _CAPABILITIES,
            },
            mechanism=self.client.mechanism,
            response=self.client.response,
            locale=self.client.locale,
        )

    def connection_tune(self, ch: Any, msg: Any) -> None:
        # The smaller of both sides' limits; 0 is none.
        client = self.client
        frame = min(MAX_FRAME, msg.frame_max or MAX_FRAME)
        client.MAX_LENGTH = frame
        own = client.heartbeat_interval
        heartbeat = min(own, msg.heartbeat) if msg.heartbeat else own
        ch.connection_tune_ok(channel_max=msg.channel_max, frame_max=frame, heartbeat=heartbeat)
        client.start_heartbeats(heartbeat)
        client.started.fire()

    def connection_blocked(self, ch: Any, msg: Any) -> None:
        self.client.blocked = msg.reason or "no reason given"
        self.client.on_blocked(self.client.blocked)

    def connection_unblocked(self, ch: Any, msg: Any) -> None:
        self.client.blocked = ""
        self.client.on_blocked("")

    def basic_cancel(self, ch: Any, msg: Any) -> None:
        self.client.on_closed(AmqpConnectionClosed("the consumer's queue was deleted"))

    def basic_return_(self, ch: Any, msg: Any) -> None:
        pass  # no message is published as mandatory

    def channel_close(self, ch: Any, msg: Any) -> None:
        # A new channel may have the number at once.
        ch.channel_close_ok()
        self.client.channels.pop(ch.id, None)
        ch.do_close(msg)

    def connection_close(self, ch: Any, msg: Any) -> None:
        self.client.close_error = AmqpConnectionClosed(msg.reply_text, msg.reply_code)
        super().connection_close(ch, msg)


class AmqpChannel(AMQChannel):  # type: ignore[misc]  # as above
    """
    A channel whose calls are answered in order.
    """

    def invoke(self, method: Any, args: tuple[Any, ...], content: Any = None) -> Deferred[Any]:
        """
        Send a method and wait for its answer; all methods of a channel call this.

        Text in a `Content` is UTF-8, and its size is counted in bytes.
        """
        return Deferred.fromCoroutine(self._invoke(method, args, content))

    async def _invoke(self, method: Any, args: tuple[Any, ...], content: Any) -> Any:
        if self.closed:
            self._raise_closed(self.reason)
        self.outgoing.put(Frame(self.id, Method(method, *args)))
        if method.content:
            content = Content() if content is None else content
            if isinstance(content.body, str):
                content.body = content.body.encode()
            self.write_content(method.klass, content, self.outgoing)
        names = method.fields.byname
        if not method.responses or ("nowait" in names and args[_index(method, "nowait")]):
            return None
        try:
            answer = (await self.responses.get()).payload
        except QueueClosed:
            self._raise_closed(self.reason)
        if answer.method not in method.responses:
            raise MalformedTable(f"{answer.method.name} does not answer {method.name}")
        return Message(answer.method, answer.args)


def _index(method: Any, name: str) -> int:
    index: int = method.fields.index(method.fields.byname[name])
    return index


def encode_payload(payload: Any) -> tuple[int, bytes]:
    """
    Return type and bytes of a frame of txAMQP.
    """
    if isinstance(payload, Method):
        method = payload.method
        types = [field.type for field in method.fields]
        ids = METHOD.pack(method.klass.id, method.id)
        return FrameType.METHOD, ids + write_fields(types, payload.args)
    if isinstance(payload, Header):
        return FrameType.HEADER, _encode_header(payload)
    if isinstance(payload, Body):
        return FrameType.BODY, payload.content
    return FrameType.HEARTBEAT, b""


def _encode_header(header: Any) -> bytes:
    flags, types, values = 0, [], []
    for place, field in enumerate(header.klass.fields):
        value = header.properties.get(field.name)
        if value is not None:
            flags |= 1 << (15 - place)
            types.append(field.type)
            values.append(value)
    fields = write_fields(types, values)
    return HEADER.pack(header.klass.id, header.weight, header.size, flags) + fields


def closed_reason(reason: Any) -> AmqpConnectionClosed:
    """
    Return the error for txAMQP's close reason: the server's method, or a Failure.
    """
    if isinstance(reason, AmqpConnectionClosed):
        return reason
    if isinstance(reason, Message):
        return AmqpConnectionClosed(reason.reply_text, reason.reply_code)
    value = getattr(reason, "value", reason)
    return AmqpConnectionClosed(str(value) or type(value).__name__)
