"""
The action `grip`: messages from applications that publish by GRIP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.actions.bodies import read_body
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.grip.not_followed import log_not_followed
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.publish import publish_and_answer
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.grip import HoldMode
from rt_twisted.codecs.grip_items import GripItem, encode_response, read_items
from rt_twisted.formats.grip import POSITIONED, is_positionable
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import CLOSED, held_channel
from rt_twisted.model.message import Draft


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class GripPublishAction:
    """
    Publish items as an application does by GRIP: `route = POST ^/publish/$ grip`.

    A request needs a token that is signed by the setting `grip-key`.

    Args:
        context: the hub and the settings.
    """

    context: ActionContext

    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = PUBLISHES
    methods: ClassVar[tuple[str, ...]] = ("POST",)

    def __post_init__(self) -> None:
        if self.context.grip is None:
            raise ValueError("grip needs the setting grip-key")

    def act(self, exchange: IExchange, match: Match) -> Deferred[None]:
        self.context.grip.check_publisher(exchange.header("authorization"))
        body = read_body(exchange, self.context, self.context.max_body)
        return body.addCallback(self._publish, exchange)

    def _publish(self, body: bytes, exchange: IExchange) -> Deferred[None] | None:
        context = self.context
        try:
            items = read_items(body, context.max_batch)
        except RemoteProtocolError as error:
            raise HttpError(error.status, error.reason) from None
        drafts = [draft for item in items for draft in self._drafts(item)]
        if context.publish_rate.rate:
            context.publish_rate.consume(None, exchange.address, len(drafts))
        names = frozenset().union(*[item.not_followed for item in items])
        log_not_followed(context, names)
        if drafts:
            return publish_and_answer(context, exchange, drafts)
        body = b'{"status": "ok", "published": 0, "receivers": 0}\n'
        exchange.answer(200, body, "application/json")
        return None

    def _drafts(self, item: GripItem) -> Iterator[Draft]:
        """
        Yield what is published for *item*: each format has a channel of its own.
        """
        channel = self.context.names.check(item.channel)
        if item.stream is not None:
            positioned = self.context.grip.ids and is_positionable(item.stream)
            event = POSITIONED if positioned else None
            yield self._draft(held_channel(HoldMode.STREAM.value, channel), item.stream, event)
        if item.response is not None:
            data = encode_response(item.response)
            yield self._draft(held_channel(HoldMode.RESPONSE.value, channel), data)
        if item.message is not None:
            yield self._draft(channel, item.message)
        if item.closes:
            yield self._draft(CLOSED, channel.encode())

    def _draft(self, channel: str, data: bytes, event: str | None = None) -> Draft:
        context = self.context
        if len(data) > context.max_message:
            raise HttpError(413, f"the message is larger than {context.max_message} bytes")
        context.hub.capabilities.check_channel(channel)
        return Draft(channel, data, event)
