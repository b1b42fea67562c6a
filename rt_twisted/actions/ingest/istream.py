"""
The action `istream`: a request body becomes a live stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.first_bytes import FirstBytes
from rt_twisted.actions.ingest.intake import LiveIntake
from rt_twisted.actions.ingest.one_picture import OnePicture
from rt_twisted.actions.ingest.publishing import Publishing
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.route_channels import check_static_channels
from rt_twisted.actions.template import Template
from rt_twisted.codecs.ranges import content_range_start
from rt_twisted.http.interfaces import IExchange
from rt_twisted.media.jpeg import START
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import HttpError, Unavailable


class BodyFormat(Enum):
    """
    What a publisher sends.
    """

    AUTO = "auto"  # a container, by its first bytes, or else messages
    RAW = "raw"  # messages: one per HTTP chunk


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class IstreamAction:
    """
    Publish a live stream: `istream:CHANNEL`, or `istream:publish=CHANNEL,takeover=yes`.

    A body with a length that is one JPEG picture is published as a plain message.

    Args:
        context: the hub and the settings.
        publish: the channel.
        as_: `auto` for a container, found by the first bytes, or else one message per HTTP
            chunk; `raw` for messages in any case.
        takeover: a new publisher replaces the one that is connected; without it, the new one
            is refused.
        timeout: seconds without bytes after which a publisher is lost; None for the
            daemon's.
        grace: seconds that viewers wait for a publisher to return; None for the daemon's.
        prefix: text before each message of a body that is no container.
        suffix: text behind each of them.
        events: the channel of the messages that applications get when the publisher starts,
            is lost, returns, and when the stream ends.
    """

    context: ActionContext
    publish: Template
    as_: BodyFormat = BodyFormat.AUTO
    takeover: bool = False
    timeout: float | None = None
    grace: float | None = None
    prefix: Template | None = None
    suffix: Template | None = None
    events: Template | None = None
    publishing: Publishing = field(init=False, compare=False)

    bare: ClassVar[str] = "publish"
    publishes: ClassVar[bool] = True
    ingest: ClassVar[bool] = True
    counts_as: ClassVar[str] = PUBLISHES
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("POST", "PUT", "SOURCE")

    def __post_init__(self) -> None:
        given = (self.takeover, self.timeout, self.grace, self.events)
        object.__setattr__(self, "publishing", Publishing(self.context, *given))
        channels = (self.publish,) if self.events is None else (self.publish, self.events)
        check_static_channels(channels, self.context)

    async def act(self, exchange: IExchange, match: Match) -> None:
        context = self.context
        publishing, publishers = self.publishing, context.hub.live.publishers
        permit = await publishing.authorize(exchange, match, "istream", self.publish)
        channel, match, timeout = permit.channel, permit.match, publishing.timeout_seconds
        start = _start(exchange)
        parked: LiveIntake | None = publishers.resume(channel, exchange.connection, start)
        if parked is not None:
            parked.go_on_with(exchange)
            exchange.receive(parked, timeout)
            return
        if start:
            raise HttpError(409, f"no stream goes on at byte {start}: begin again")
        body = None
        if exchange.length and self.as_ is BodyFormat.AUTO:
            body = FirstBytes(exchange, len(START))
            exchange.receive(body, timeout)
            if await body.found == START:
                await self._receive_picture(exchange, channel, body)
                return
        raw = self.as_ is BodyFormat.RAW
        around = _bytes(self.prefix, exchange, match), _bytes(self.suffix, exchange, match)
        # One with a length may be a part of a stream, and has a line of its own.
        request = exchange if exchange.length is None else None
        intake = await publishing.begin(exchange, permit, raw, around, request)
        if body is None:
            exchange.receive(intake, timeout)
        else:
            body.pass_to(intake)

    async def _receive_picture(self, exchange: IExchange, channel: str, body: FirstBytes) -> None:
        context = self.context
        if exchange.length > context.max_message:
            raise HttpError(413, f"the picture is larger than {context.max_message} bytes")
        try:
            await context.hub.live.publishers.check_free(channel)
        except Unavailable as error:
            raise HttpError(503, str(error), retry=2) from None
        if not exchange.answered:  # the client is still connected
            body.pass_to(OnePicture(context, exchange, channel))


def _start(exchange: IExchange) -> int | None:
    """
    Return how many bytes of the stream precede the body of a request, if it says so.

    Raises:
        HttpError: 400, its Content-Range is malformed.
    """
    value = exchange.header("content-range")
    if value is None:
        return None
    start = content_range_start(value)
    if start is None:
        raise HttpError(400, "the Content-Range is malformed")
    return start


def _bytes(text: Template | None, exchange: IExchange, match: Match) -> bytes:
    # surrogateescape: a query may have any bytes
    return b"" if text is None else text.expand(exchange, match).encode(errors="surrogateescape")
