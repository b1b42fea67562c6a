r"""
The route word `socket.io`: Socket.IO clients, over Engine.IO sessions.

    route = ^/socket\.io/ socket.io:subscribe=news

The path is the route's; clients use `/socket.io/` unless configured otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from zope.interface import implementer

from rt_twisted.access.gate import Gate
from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.actions.connection_grant import inserted_claims, own_channels
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.server import METHODS, EngineIOServer
from rt_twisted.actions.interfaces import IAction, ISocketIOApp, Match
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_static_channels,
    expand_channels,
    expand_publish_channels,
)
from rt_twisted.actions.socketio.channel_app import ChannelApp, RouteChannels
from rt_twisted.actions.socketio.connection import SocketIOConnection
from rt_twisted.actions.socketio.handshake import STORED_HEADERS, Handshake
from rt_twisted.actions.socketio.session_access import SessionAccess
from rt_twisted.actions.socketio.session_store import SessionStore
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.load_object import check_interface, load_object


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class SocketIOAction:
    """
    `socket.io`, `socket.io:CHANNEL`, `socket.io:subscribe=A,publish=B`, or
    `socket.io:app=DOTTED.NAME`.

    Args:
        context: settings and hub.
        subscribe: channels to which every client subscribes; without any, clients choose.
        publish: channels to which everything is published that clients emit: all clients that
            may connect may publish. Without any, clients name the channel, and need a key.
        history: number of messages replayed to clients of `subscribe` that do not say
            where to start.
        app: the dotted name of a class that provides `ISocketIOApp`, which decides what
            clients join and may do.
        pattern: whether a `*` in the channels of *subscribe* stands for any characters.
        positions: whether events have their position, so that clients can resume.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    publish: tuple[Template, ...] = ()
    history: int = 0
    app: str = ""
    pattern: bool = False
    positions: bool = True
    store: SessionStore = field(init=False, compare=False, repr=False)
    engineio: EngineIOServer = field(init=False, compare=False, repr=False)
    application: Any = field(init=False, compare=False, repr=False, default=None)

    bare: ClassVar[str] = "subscribe"
    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        if self.app and (self.subscribe or self.publish or self.history):
            raise ValueError("app= cannot be combined with subscribe=, publish= or history=")
        context = self.context
        check_static_channels(self.subscribe, context, self.pattern)
        check_static_channels(self.publish, context)
        # Clients may send their token when they connect, behind the handshake.
        handshakes = replace(context, gate=Gate())
        made: dict[str, Any] = {
            "store": context.shared.get(SessionStore, partial(SessionStore, context.reactor)),
            "engineio": EngineIOServer(handshakes, self._connection),
        }
        if self.app:
            made["application"] = _application(self.app, context)
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def act(self, exchange: IExchange, match: Match) -> object:
        return self.engineio.act(exchange, match)

    def _connection(
        self, exchange: IExchange, match: Match, version: int, address: str
    ) -> SocketIOConnection:
        context = self.context
        app = self.application
        handshake = Handshake.of(
            exchange, STORED_HEADERS if app is not None else CREDENTIAL_HEADERS
        )
        access = None
        if not context.gate.is_open:
            claims = inserted_claims((*self.subscribe, *self.publish))
            asked = partial(self._asked_channels, exchange, match)
            access = SessionAccess(context, exchange, claims, asked)
        if app is None:
            find = partial(self._channels, exchange, match)
            channels = find(ANYONE) if access is None else find
            app = ChannelApp(context, handshake, channels, self.history, access)
        return SocketIOConnection(
            context, self.store, app, handshake, version, self.positions, address, access
        )

    def _asked_channels(self, exchange: IExchange, match: Match) -> list[str]:
        names = (*self.subscribe, *self.publish)
        return asked_channels(self.context, names, exchange, match, {}, self.pattern)

    def _channels(self, exchange: IExchange, match: Match, grant: Grant) -> RouteChannels:
        """
        Return the channels of the route for a client with *grant*.

        Raises:
            HttpError: 400 or 403, see `expand_channels`.
        """
        context, match = self.context, match.with_grant(grant)
        names = expand_channels(context, self.subscribe, exchange, match, self.pattern)
        own = own_channels(self.subscribe, names)
        if names:
            names = context.names.check_all(names)
        publish = expand_publish_channels(context, self.publish, exchange, match)
        own_publish = own_channels(self.publish, publish)
        return RouteChannels(tuple(names), tuple(publish), frozenset(own), frozenset(own_publish))


def _application(name: str, context: ActionContext) -> Any:
    make = load_object(name)
    try:
        app = make(context)
    except Exception as error:
        raise ValueError(f"app={name}: {error!r}") from error
    check_interface(ISocketIOApp, app, f"app={name} is not an application for socket.io")
    return app
