r"""
The route word `socket.io`: Socket.IO clients, over Engine.IO sessions.

    route = ^/socket\.io/ socket.io:subscribe=news

The path is the route's; clients use `/socket.io/` unless configured otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from zope.interface import implementer

from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.server import METHODS, EngineIOServer
from rt_twisted.actions.interfaces import IAction, ISocketIOApp, Match
from rt_twisted.actions.socketio.channel_app import ChannelApp
from rt_twisted.actions.socketio.connection import SocketIOConnection
from rt_twisted.actions.socketio.handshake import STORED_HEADERS, Handshake
from rt_twisted.actions.socketio.session_store import SessionStore
from rt_twisted.actions.subscription import check_static_channels, expand_channels
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
    methods: ClassVar[Sequence[str]] = METHODS

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        if self.app and (self.subscribe or self.publish or self.history):
            raise ValueError("app= cannot be combined with subscribe=, publish= or history=")
        context = self.context
        check_static_channels(self.subscribe, context, self.pattern)
        check_static_channels(self.publish, context)
        made: dict[str, Any] = {
            "store": context.shared.get(SessionStore, partial(SessionStore, context.reactor)),
            "engineio": EngineIOServer(context, self._connection),
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
        if app is None:
            names = expand_channels(context, self.subscribe, exchange, match, self.pattern)
            publish = [template.expand(exchange, match) for template in self.publish]
            for name in publish:
                context.names.check(name)
            if names:
                names = context.names.check_all(names)
            app = ChannelApp(context, handshake, names, publish, self.history)
        return SocketIOConnection(
            context, self.store, app, handshake, version, self.positions, address
        )


def _application(name: str, context: ActionContext) -> Any:
    make = load_object(name)
    try:
        app = make(context)
    except Exception as error:
        raise ValueError(f"app={name}: {error!r}") from error
    check_interface(ISocketIOApp, app, f"app={name} is not an application for socket.io")
    return app
