"""
The route word `websocket`: subscribe and publish on one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from inspect import iscoroutine
from typing import Any, ClassVar

from twisted.logger import Logger
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
from rt_twisted.actions.ingest.publishing import Publishing
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import BURST, WAIT, Container, Viewing
from rt_twisted.actions.publish import requested_key
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_static_channels,
    expand_channel,
    expand_channels,
    expand_publish_channels,
    requested_or_granted,
)
from rt_twisted.actions.subscriber_parameters import requested_channels, requested_start
from rt_twisted.actions.subscription import check_slow, when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.websocket.json_app import JsonApp
from rt_twisted.actions.websocket.live_app import LiveApp
from rt_twisted.actions.websocket.publisher_app import open_publisher
from rt_twisted.actions.websocket.raw_app import RawApp
from rt_twisted.codecs.websocket import CloseCode, WebSocketHandshake
from rt_twisted.codecs.websocket_keys import KEY_PREFIX
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
WORD = "websocket"


class MessageMode(Enum):
    """
    The protocol inside the websocket's messages.
    """

    RAW = "raw"  # each is a published message
    JSON = "json"  # each is a command, or an event, of docs/websocket.md


class LiveMode(Enum):
    """
    How a live stream is sent, or received.
    """

    WEBM = "webm"
    MP4 = "mp4"
    AUTO = "auto"  # it is received: any container that `istream` takes


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
            message first. `auto`: the client publishes a live stream to the channel.
        burst: of a live stream; for this argument and the next three see `LiveAction`.
        wait: seconds to wait for a publisher before the websocket is closed.
        behind: bytes that may wait for a viewer before it skips.
        view_key: a secret that viewers need.
        takeover: of a live publisher; for this argument and the next three see `IstreamAction`.
        timeout: seconds without a message after which a publisher is lost.
        grace: seconds that viewers wait for a publisher to return.
        events: the channel of the messages about the publisher.
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
    as_: LiveMode | None = None
    burst: float = BURST
    wait: float = WAIT
    behind: int | None = None
    view_key: str = ""
    takeover: bool = False
    timeout: float | None = None
    grace: float | None = None
    events: Template | None = None
    viewing: Viewing | None = field(init=False, compare=False)
    publishing: Publishing | None = field(init=False, compare=False)
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
        object.__setattr__(self, "publishing", self._make_publishing())
        object.__setattr__(self, "endpoint", WebSocketEndpoint(self.context))
        object.__setattr__(self, "subprotocols", tuple([name.source for name in self.subprotocol]))
        object.__setattr__(self, "app_factory", load_callable(self.app) if self.app else None)

    def act(self, exchange: IExchange, match: Match) -> object:
        # Browsers would compress what is video already.
        compress = self.publishing is None
        handshake = self.endpoint.check(exchange, self.subprotocols, compress)
        if self.publishing is not None:
            given = (self.publishing, exchange, handshake, match, self.publish[0])
            return open_publisher(self.endpoint, *given)
        act = partial(self._enter, exchange, handshake)
        asked = partial(self._asked_channels, exchange, match)
        result = granted(self.context, exchange, match, act, WORD, asked)
        if iscoroutine(result) and self.context.gate.asks:
            return self._open_or_close(result, exchange, handshake)
        return result

    def _asked_channels(self, exchange: IExchange, match: Match) -> list[str]:
        is_json = self.protocol is MessageMode.JSON
        query = exchange.query() if is_json and not self.subscribe else {}
        names = (*self.subscribe, *self.publish)
        return asked_channels(self.context, names, exchange, match, query, self.pattern)

    async def _open_or_close(
        self,
        opening: Coroutine[Any, Any, object],
        exchange: IExchange,
        handshake: WebSocketHandshake,
    ) -> object:
        """
        Close with 1013 if the application cannot be asked: the status of a handshake is not
        shown to pages.
        """
        try:
            return await opening
        except HttpError as error:
            if error.status != 503 or exchange.answered:
                raise
            app = RawApp(self.context, ())
            format = build_format("websocket-raw", deflate=handshake.deflate)
            websocket = self.endpoint.open(exchange, handshake, app, format)
            websocket.close(CloseCode.TRY_LATER, error.reason)
            return None

    def _enter(self, exchange: IExchange, handshake: WebSocketHandshake, match: Match) -> object:
        if self.viewing is not None:
            return self._view(self.viewing, exchange, match, handshake)
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

    def _make_viewing(self) -> Viewing | None:
        """
        Return how the route shows live streams; None if it does not.
        """
        given = (self.burst, self.wait, self.behind, self.view_key)
        if self.as_ is None or self.as_ is LiveMode.AUTO:
            if given != (BURST, WAIT, None, ""):
                raise ValueError("burst=, wait=, behind= and view_key= need as=webm or as=mp4")
            return None
        if len(self.subscribe) != 1 or self.publish or self._has_messages:
            raise ValueError("as= needs one channel in subscribe=, and no other messages")
        return Viewing(self.context, Container(self.as_.value), *given)

    def _make_publishing(self) -> Publishing | None:
        """
        Return how the route takes live publishers; None if it does not.
        """
        given = (self.takeover, self.timeout, self.grace, self.events)
        if self.as_ is not LiveMode.AUTO:
            if given != (False, None, None, None):
                raise ValueError("takeover=, timeout=, grace= and events= need as=auto")
            return None
        if len(self.publish) != 1 or self.subscribe or self._has_messages:
            raise ValueError("as=auto needs one channel in publish=, and no other messages")
        if self.events is not None:
            check_static_channels((self.events,), self.context)
        return Publishing(self.context, *given)

    @property
    def _has_messages(self) -> bool:
        others = (self.app, self.prefix, self.suffix, self.history, self.slow, self.pattern)
        return any(others) or self.protocol is MessageMode.JSON

    def _view(
        self, viewing: Viewing, exchange: IExchange, match: Match, handshake: WebSocketHandshake
    ) -> object:
        channel = expand_channel(self.context, self.subscribe[0], exchange, match)
        viewing.authorize(exchange)
        app = LiveApp(viewing, channel, exchange.query().get("codecs") == ["yes"])
        format = BinaryFrames(viewing.build())
        limits = viewing.backlog_limits

        def enter(address: str) -> None:
            self.endpoint.open(
                exchange, handshake, app, format, backlog_limits=limits, grant=match.grant
            )

        return when_admitted(self.context, exchange, enter)

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
