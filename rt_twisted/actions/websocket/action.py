"""
The route word `websocket`: subscribe and publish on one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.access.keys import Credentials, Key
from rt_twisted.access.questions import SUBSCRIBE
from rt_twisted.actions.connection_grant import (
    ConnectionGrant,
    inserted_claims,
    own_channels,
)
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.publish import requested_key
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_static_channels,
    expand_channels,
    expand_publish_channels,
    requested_or_granted,
)
from rt_twisted.actions.subscriber_parameters import requested_channels, requested_start
from rt_twisted.actions.subscription import check_slow, when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.websocket.json_app import JsonApp
from rt_twisted.actions.websocket.raw_app import RawApp
from rt_twisted.actions.websocket.try_later import close_if_unanswered
from rt_twisted.codecs.websocket import WebSocketHandshake
from rt_twisted.codecs.websocket_keys import KEY_PREFIX
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats import build_format
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.load_object import load_callable
from rt_twisted.model.message import Since

WORD = "websocket"


class MessageMode(Enum):
    """
    The protocol inside the websocket's messages.
    """

    RAW = "raw"  # each is a published message
    JSON = "json"  # each is a command, or an event, of docs/websocket.md


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class WebSocketAction:
    """
    Opens a websocket: `websocket:subscribe=A,publish=B`.

    Messages of A are sent to the client, and the client's messages are published to B.
    Without channels in the route, clients name them by JSON commands. With `as=`, the route is
    a `LiveViewerAction` or a `LivePublisherAction`.

    Args:
        context: the daemon.
        subscribe: channels that are sent to the client.
        publish: channels to which the client's messages are published, without a key.
        prefix: is put before each message of the client; raw only.
        suffix: is put after each message of the client; raw only.
        protocol: raw if the route names a channel, json if not.
        binary: send all raw messages in binary frames.
        history: messages replayed to a client that names no start position.
        slow: policy for slow consumers. None for the daemon's, but raw clients are
            disconnected, as they cannot be notified of a gap.
        subprotocol: names for `Sec-WebSocket-Protocol`; the first that the client
            offers is chosen.
        app: dotted name of an application. It is called with the context and the
            exchange for each websocket, and returns an `IWebSocketApp`.
        pattern: whether a `*` in the channels of *subscribe* stands for any characters.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    publish: tuple[Template, ...] = ()
    prefix: Template | None = None
    suffix: Template | None = None
    protocol: MessageMode | None = None
    binary: bool = False
    history: int = 0
    slow: SlowConsumerPolicy | None = None
    subprotocol: tuple[Template, ...] = ()
    app: str = ""
    pattern: bool = False
    endpoint: WebSocketEndpoint = field(init=False, compare=False)
    subprotocols: tuple[str, ...] = field(init=False, compare=False)
    app_factory: Callable[[ActionContext, IExchange], object] | None = field(
        init=False, compare=False
    )

    bare: ClassVar[str] = "subscribe"
    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        check_slow(self.slow)
        check_static_channels(self.subscribe, self.context, self.pattern)
        check_static_channels(self.publish, self.context)
        named = bool(self.subscribe or self.publish or self.app)
        if self.protocol is MessageMode.RAW and not named:
            raise ValueError("protocol=raw needs subscribe=, publish= or app=")
        if self.protocol is None:
            object.__setattr__(self, "protocol", MessageMode.RAW if named else MessageMode.JSON)
        if self.protocol is MessageMode.JSON and (self.binary or self.prefix or self.suffix):
            raise ValueError("binary=, prefix= and suffix= are for protocol=raw")
        if self.app and (self.publish or self.protocol is MessageMode.JSON):
            raise ValueError("with app= the application reads: no publish=, no protocol=json")
        for name in self.subprotocol:
            if name.source.startswith(KEY_PREFIX):
                raise ValueError(f"subprotocol= cannot begin with {KEY_PREFIX}: that is a key")
        object.__setattr__(self, "endpoint", WebSocketEndpoint(self.context))
        object.__setattr__(self, "subprotocols", tuple([name.source for name in self.subprotocol]))
        object.__setattr__(self, "app_factory", load_callable(self.app) if self.app else None)

    def act(self, exchange: IExchange, match: Match) -> object:
        handshake = self.endpoint.check(exchange, self.subprotocols)
        act = partial(self._enter, exchange, handshake)
        asked = partial(self._asked_channels, exchange, match)
        result = granted(self.context, exchange, match, act, WORD, asked)
        return close_if_unanswered(result, self.endpoint, exchange, handshake)

    def _asked_channels(self, exchange: IExchange, match: Match) -> list[str]:
        is_json = self.protocol is MessageMode.JSON
        query = exchange.query() if is_json and not self.subscribe else {}
        names = (*self.subscribe, *self.publish)
        return asked_channels(self.context, names, exchange, match, query, self.pattern)

    def _enter(self, exchange: IExchange, handshake: WebSocketHandshake, match: Match) -> object:
        context, grant = self.context, match.grant
        names = expand_channels(context, self.subscribe, exchange, match, self.pattern)
        own = own_channels(self.subscribe, names)
        if names:
            names = context.names.check_all(names)
        elif self.protocol is MessageMode.JSON:
            query = exchange.query()
            if grant.channels or requested_channels(query):
                names = requested_or_granted(context, query, grant)
        since = requested_start(exchange, exchange.query(), self.history)
        app = self._make_app(exchange, match, names, own)
        enter = partial(self._open, exchange, handshake, app, names, since, grant)
        return when_admitted(self.context, exchange, enter, names)

    def _make_app(
        self,
        exchange: IExchange,
        match: Match,
        names: Sequence[Selector],
        own: Sequence[Selector],
    ) -> object:
        context = self.context
        if self.app_factory is not None:
            return self.app_factory(context, exchange)
        publish = expand_publish_channels(context, self.publish, exchange, match)
        if self.protocol is MessageMode.JSON:
            key = _key(exchange, context)
            grant = None
            if match.grant is not ANYONE:
                claims = inserted_claims((*self.subscribe, *self.publish))
                own_publish = own_channels(self.publish, publish)
                question = None
                if context.gate.identify(exchange) is None:
                    question = context.gate.question(exchange, SUBSCRIBE, WORD, ())
                grant = ConnectionGrant(
                    context.gate, match.grant, own, own_publish, claims, question
                )
            fixed = bool(self.subscribe)
            address = context.publisher_address(exchange)
            return JsonApp(context, names, fixed, publish, key, grant, address)
        prefix, suffix = [
            text.expand(exchange, match).encode(errors="surrogateescape") if text else b""
            for text in (self.prefix, self.suffix)
        ]
        return RawApp(context, publish, prefix, suffix, context.publisher_address(exchange))

    def _open(
        self,
        exchange: IExchange,
        handshake: WebSocketHandshake,
        app: object,
        names: list[Selector],
        since: Since | None,
        grant: Grant,
        address: str,
    ) -> None:
        policy = self.slow
        if policy is None and isinstance(app, RawApp):
            policy = SlowConsumerPolicy.DISCONNECT
        backlog_limits = self.context.backlog_limits_for(policy)
        mode = "json" if self.protocol is MessageMode.JSON else "raw"
        format = build_format(f"websocket-{mode}", deflate=handshake.deflate, binary=self.binary)
        self.endpoint.open(exchange, handshake, app, format, names, since, backlog_limits, grant)


def _key(exchange: IExchange, context: ActionContext) -> Key | None:
    """
    Return the client's publish key; None without a valid one: it may still subscribe.
    """
    if not context.gate.is_open and not context.publish_keys:
        return None  # being on this machine is no proof where clients need grants
    try:
        return context.publish_keys.authorize(Credentials(requested_key(exchange), exchange))
    except HttpError:
        return None
