r"""
The route word `engine.io`: plain Engine.IO, in which one message is one message of a channel.

    route = ^/engine\.io/ engine.io:subscribe=news,publish=news

The path is the route's; clients use `/engine.io/` unless configured otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.access.keys import Credentials
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.server import METHODS, EngineIOServer
from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.publish import fitting, publish_error, requested_key
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_static_channels,
    expand_publish_channels,
    read_channels,
)
from rt_twisted.actions.subscriber_parameters import requested_start
from rt_twisted.actions.template import Template
from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.engineio import EngineIOMessages
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft, Since


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class EngineIOAction:
    """
    `engine.io`, `engine.io:CHANNEL`, or `engine.io:subscribe=A,publish=B`.

    Args:
        context: settings and hub.
        subscribe: channels that are sent to every client; without any, and without
            `publish`, clients choose by `channels=` in the query.
        publish: channels to which the messages of clients are published that may publish there:
            by their key or grant, or as programs on this machine.
        binary: send all messages as bytes.
        history: messages replayed to a client that names no start position.
        slow: policy for slow consumers; by default they are disconnected, as they cannot be
            notified of a gap.
        pattern: whether a `*` in the channels of *subscribe* stands for any characters.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    publish: tuple[Template, ...] = ()
    binary: bool = False
    history: int = 0
    slow: SlowConsumerPolicy = SlowConsumerPolicy.DISCONNECT
    pattern: bool = False
    engineio: EngineIOServer = field(init=False, compare=False, repr=False)

    bare: ClassVar[str] = "subscribe"
    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        context = self.context
        check_static_channels(self.subscribe, context, self.pattern)
        check_static_channels(self.publish, context)
        context = replace(context, backlog_limits=context.backlog_limits_for(self.slow))
        object.__setattr__(
            self, "engineio", EngineIOServer(context, self._make_observer, self._asked)
        )

    def act(self, exchange: IExchange, match: Match) -> object:
        return self.engineio.act(exchange, match)

    def _asked(self, exchange: IExchange, match: Match) -> list[str]:
        names = (*self.subscribe, *self.publish)
        query = exchange.query()
        return asked_channels(self.context, names, exchange, match, query, self.pattern)

    def _make_observer(
        self, exchange: IExchange, match: Match, version: int, address: str
    ) -> ChannelMessages:
        context, query = self.context, exchange.query()
        names: list[Selector] = []
        if self.subscribe or not self.publish:
            names = read_channels(context, self.subscribe, exchange, match, query, self.pattern)
        since = requested_start(exchange, query, self.history)
        publish = expand_publish_channels(context, self.publish, exchange, match)
        grant = match.grant
        if publish and grant is not ANYONE and all(map(grant.permits, publish)):
            refusal = None
        else:
            refusal = _authorize(context, exchange, publish)
        address = context.publisher_address(exchange)
        return ChannelMessages(context, names, since, publish, refusal, self.binary, grant, address)


class ChannelMessages:
    """
    Exchanges messages between one session and channels.

    Args:
        context: settings and hub.
        subscribe: channels that are sent to the client.
        since: what is replayed of them first.
        publish: channels to which its messages are published.
        refusal: why they are not; None if the client may publish.
        binary: send all messages as bytes.
        grant: of the client; the session ends when it does.
        address: of the client.
    """

    __slots__ = (
        "_address",
        "_binary",
        "_context",
        "_grant",
        "_publish",
        "_refusal",
        "_session",
        "_since",
        "_subscribe",
    )

    def __init__(
        self,
        context: ActionContext,
        subscribe: Sequence[Selector],
        since: Since | None,
        publish: Sequence[str],
        refusal: HttpError | None,
        binary: bool,
        grant: Grant = ANYONE,
        address: str = "",
    ) -> None:
        self._context = context
        self._subscribe = subscribe
        self._since = since
        self._publish = publish
        self._refusal = refusal
        self._binary = binary
        self._grant = grant
        self._address = address
        self._session: Session

    # What the session calls.

    def opened(self, session: Session) -> None:
        self._session = session
        session.channels.join(self._subscribe, self._since, self.format(session.framing))
        session.joined()
        grant = self._grant
        if grant is not ANYONE:
            session.set_grant(grant, self._context.gate.seconds_left(grant))

    def message(self, data: str | bytes) -> None:
        try:
            if self._refusal is not None:
                raise self._refusal.copy()
            raw = fitting(self._context, data.encode() if isinstance(data, str) else data)
            rate, count = self._context.publish_rate, len(self._publish)
            rate.consume(self._grant, self._address, count)
        except HttpError as error:
            raise RemoteProtocolError(error.reason, error.status) from None
        published = self._session.publish([Draft(channel, raw) for channel in self._publish])
        if isinstance(published, Deferred):
            published.addErrback(self._on_publish_failed)

    def closed(self, why: str) -> None:
        pass

    def idle(self) -> bool:
        return False

    def format(
        self, framing: Framing, quiet: bool = False, welcome: bytes = b""
    ) -> EngineIOMessages:
        return EngineIOMessages(framing, self._binary, welcome, quiet)

    def _on_publish_failed(self, failure: Failure) -> None:
        # Without the close the client would not notice.
        error = publish_error(failure)
        self._session.close("transport error", reason=error.reason, status=error.status)


def _authorize(
    context: ActionContext, exchange: IExchange, channels: Sequence[str]
) -> HttpError | None:
    """
    Return why the client may not publish to *channels*; None if it may.
    """
    if not channels:
        return HttpError(403, "nothing can be published here")
    # Where clients need grants, being on this machine is no proof.
    request = exchange if context.gate.is_open else None
    credentials = Credentials(requested_key(exchange), request)
    try:
        context.publish_keys.authorize(credentials, channels)
    except HttpError as refusal:
        return refusal.copy()  # the session keeps it, but not the request
    return None
