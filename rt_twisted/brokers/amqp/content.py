"""
AMQP's content: a body and its properties (0-9-1, 4.2.6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final

from rt_twisted.brokers.amqp.table import (
    MalformedTable,
    read_short,
    read_table,
    write_short,
    write_table,
)

MAX_BODY: Final = 64 << 20  # bytes; RabbitMQ itself accepts 128 MiB
BASIC: Final = 60  # the class of methods that have content
HEADER: Final = Struct("!HHQH")  # class, weight, size of the body, property flags


@dataclass(slots=True)
class MessageProperties:
    """
    The properties of a message; "" and None are not sent.

    Args:
        type: AMQP's `type`.
        message_id: AMQP's `message-id`.
        correlation_id: AMQP's `correlation-id`.
        persistent: whether the message survives a restart of the server in a durable queue.
        headers: a field table.
    """

    type: str = ""
    message_id: str = ""
    correlation_id: str = ""
    persistent: bool = False
    headers: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> tuple[int, bytes]:
        """
        Return the property flags and the encoded fields.

        Raises:
            ValueError: a text has more than 255 bytes.
        """
        flags, pieces = 0, []
        if self.headers:
            flags |= 1 << 13
            pieces.append(write_table(self.headers))
        if self.persistent:
            flags |= 1 << 12
            pieces.append(b"\x02")
        if self.correlation_id:
            flags |= 1 << 10
            pieces.append(write_short(self.correlation_id))
        if self.message_id:
            flags |= 1 << 7
            pieces.append(write_short(self.message_id))
        if self.type:
            flags |= 1 << 5
            pieces.append(write_short(self.type))
        return flags, b"".join(pieces)


class Delivery:
    """
    A message for a consumer: `basic.deliver` begins it, header and body frames complete it.
    """

    __slots__ = (
        "_headers",
        "_left",
        "_pieces",
        "body",
        "consumer",
        "correlation_id",
        "exchange",
        "key",
        "message_id",
        "tag",
        "type",
    )

    def __init__(self, consumer: str, tag: int, exchange: str, key: str) -> None:
        self.consumer = consumer
        self.tag = tag  # the server's number of the delivery
        self.exchange = exchange  # "" if it was published to a queue's name
        self.key = key  # the routing key
        self.type = self.message_id = self.correlation_id = ""
        self.body: bytes | None = b""  # None: it was larger than MAX_BODY
        self._headers = b""
        self._left = 0  # bytes of the body that are missing
        self._pieces: list[bytes] = []

    def has_headers(self) -> bool:
        """
        Return whether there are headers, without parsing them.
        """
        return len(self._headers) > 4

    def headers(self) -> dict[str, Any]:
        """
        Return the header table; a malformed one is empty.
        """
        try:
            return read_table(self._headers) if self._headers else {}
        except MalformedTable:
            return {}

    def add_header(self, payload: bytes) -> bool:
        """
        Read the content header.

        Returns:
            whether the message is complete.
        """
        _, _, self._left, flags = HEADER.unpack_from(payload)
        at = HEADER.size
        if flags:
            self._read_properties(payload, flags, at)
        if self._left > MAX_BODY:
            self.body = None
        return not self._left

    def _read_properties(self, payload: bytes, flags: int, at: int) -> None:
        # The order of the bits is the order of the fields (AMQP 0-9-1, 4.2.6.1).
        for bit in range(15, 1, -1):
            if not flags >> bit & 1:
                continue
            if bit in (12, 11):
                at += 1  # delivery-mode, priority
            elif bit == 6:
                at += 8  # timestamp
            elif bit == 13:
                end = at + 4 + int.from_bytes(payload[at : at + 4], "big")
                self._headers = payload[at:end]
                at = end
            else:
                text, at = read_short(payload, at)
                if bit == 10:
                    self.correlation_id = text
                elif bit == 7:
                    self.message_id = text
                elif bit == 5:
                    self.type = text

    def add_body(self, payload: bytes) -> bool:
        """
        Add the next piece of the body.

        Returns:
            whether the message is complete.

        Raises:
            MalformedTable: the body is longer than the header's size.
        """
        self._left -= len(payload)
        if self._left < 0:
            raise MalformedTable("a body is longer than the size in its header")
        if self.body is not None:
            self._pieces.append(payload)
        if self._left:
            return False
        if self.body is not None:
            self.body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        return True


def read_delivery(payload: bytes) -> Delivery:
    """
    Parse the method `basic.deliver`.

    Raises:
        MalformedTable: a field is cut off.
    """
    consumer, at = read_short(payload, 4)
    tag = int.from_bytes(payload[at : at + 8], "big")
    exchange, at = read_short(payload, at + 9)
    return Delivery(consumer, tag, exchange, read_short(payload, at)[0])
