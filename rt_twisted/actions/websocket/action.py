"""
The route word `websocket`: subscribe and publish on one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import ClassVar

from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.access.keys import Credentials, Key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import BURST, WAIT, Container, Viewing
from rt_twisted.actions.publish import requested_key
from rt_twisted.actions.subscription import (
    check_slow,
    check_static_channels,
    expand_channels,
    requested_channels,
    requested_start,
    when_admitted,
)
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.websocket.json_app import JsonApp
from rt_twisted.actions.websocket.live_app import LiveApp
from rt_twisted.actions.websocket.raw_app import RawApp
from rt_twisted.codecs.websocket import KEY_PREFIX, WebSocketHandshake
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats import build_format
from rt_twisted.formats.binary_frames import BinaryFrames
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.load_object import load_callable
from rt_twisted.model.message import Since

_log = Logger()


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
    Without channels in the route, clients name them by JSON commands.

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
        server: the redis address of uwsgi-realtime; ignored with a warning.
        as_: the container in which the live stream of the channel is sent; None for messages
            as they are. Clients that add `?codecs=yes` get the content type in a text
            message first.
        burst: of a live stream; for this argument and the next three see `LiveAction`.
        wait: seconds to wait for a publisher before the websocket is closed.
        behind: bytes that may wait for a viewer before it skips.
        view_key: a secret that viewers need.
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
    server: str = ""
    as_: Container | None = None
    burst: float = BURST
    wait: float = WAIT
    behind: int | None = None
    view_key: str = ""
    viewing: Viewing | None = field(init=False, compare=False)
    endpoint: WebSocketEndpoint = field(init=False, compare=False)
    subprotocols: tuple[str, ...] = field(init=False, compare=False)
    app_factory: Callable[[ActionContext, IExchange], object] | None = field(
        init=False, compare=False
    )

    bare: ClassVar[str] = "subscribe"
    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = SUBSCRIBERS
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
        if self.server:
            _log.warn(
                "route argument server={server} is ignored: the setting broker decides "
                "where messages come from",
                server=self.server,
            )
        for name in self.subprotocol:
            if name.source.startswith(KEY_PREFIX):
                raise ValueError(f"subprotocol= cannot begin with {KEY_PREFIX}: that is a key")
        object.__setattr__(self, "viewing", self._make_viewing())
        object.__setattr__(self, "endpoint", WebSocketEndpoint(self.context))
        object.__setattr__(self, "subprotocols", tuple([name.source for name in self.subprotocol]))
        object.__setattr__(self, "app_factory", load_callable(self.app) if self.app else None)

    def act(self, exchange: IExchange, match: Match) -> object:
        handshake = self.endpoint.check(exchange, self.subprotocols)
        if self.viewing is not None:
            return self._view(self.viewing, exchange, match, handshake)
        names = expand_channels(self.context, self.subscribe, exchange, match, self.pattern)
        if not names and self.protocol is MessageMode.JSON:
            names = list(requested_channels(exchange.query()))
        if names:
            names = self.context.names.check_all(names)
        since = requested_start(exchange, exchange.query(), self.history)
        app = self._make_app(exchange, match, names)
        enter = partial(self._open, exchange, handshake, app, names, since)
        return when_admitted(self.context, exchange, enter)

    def _make_viewing(self) -> Viewing | None:
        """
        Return how the route shows live streams; None if it does not.
        """
        if self.as_ is None:
            given = (self.burst, self.wait, self.behind, self.view_key)
            if given != (BURST, WAIT, None, ""):
                raise ValueError("burst=, wait=, behind= and view_key= need as=")
            return None
        others = (self.publish, self.app, self.prefix, self.suffix, self.history, self.slow)
        is_json = self.protocol is MessageMode.JSON
        if len(self.subscribe) != 1 or any(others) or is_json or self.pattern:
            raise ValueError("as= needs one channel in subscribe=, and no other messages")
        return Viewing(self.context, self.as_, self.burst, self.wait, self.behind, self.view_key)

    def _view(
        self, viewing: Viewing, exchange: IExchange, match: Match, handshake: WebSocketHandshake
    ) -> object:
        channel = self.context.names.check(self.subscribe[0].expand(exchange, match))
        viewing.authorize(exchange)
        app = LiveApp(viewing, channel, exchange.query().get("codecs") == ["yes"])
        format = BinaryFrames(viewing.build())
        limits = viewing.backlog_limits

        def enter(address: str) -> None:
            self.endpoint.open(exchange, handshake, app, format, backlog_limits=limits)

        return when_admitted(self.context, exchange, enter)

    def _make_app(self, exchange: IExchange, match: Match, names: Sequence[Selector]) -> object:
        context = self.context
        if self.app_factory is not None:
            return self.app_factory(context, exchange)
        publish = [context.names.check(name.expand(exchange, match)) for name in self.publish]
        if self.protocol is MessageMode.JSON:
            key = _key(exchange, context)
            return JsonApp(context, names, bool(self.subscribe), publish, key)
        affixes = [
            text.expand(exchange, match).encode(errors="surrogateescape") if text else b""
            for text in (self.prefix, self.suffix)
        ]
        return RawApp(context, publish, *affixes)

    def _open(
        self,
        exchange: IExchange,
        handshake: WebSocketHandshake,
        app: object,
        names: list[Selector],
        since: Since | None,
        address: str,
    ) -> None:
        policy = self.slow
        if policy is None and isinstance(app, RawApp):
            policy = SlowConsumerPolicy.DISCONNECT
        backlog_limits = self.context.backlog_limits_for(policy)
        mode = "json" if self.protocol is MessageMode.JSON else "raw"
        format = build_format(f"websocket-{mode}", deflate=handshake.deflate, binary=self.binary)
        self.endpoint.open(exchange, handshake, app, format, names, since, backlog_limits)


def _key(exchange: IExchange, context: ActionContext) -> Key | None:
    """
    Return the client's publish key; None without a valid one: it may still subscribe.
    """
    try:
        return context.publish_keys.authorize(Credentials(requested_key(exchange), exchange))
    except HttpError:
        return None
