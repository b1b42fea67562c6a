"""
The route word `websocket`: both ways on one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, partial
from typing import ClassVar

from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.access.keys import Credentials, Key, header_key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.subscription import (
    check_static_channels,
    requested_channels,
    requested_start,
    when_admitted,
)
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.websocket.json_app import JsonApp
from rt_twisted.actions.websocket.raw_app import RawApp
from rt_twisted.codecs.websocket import KEY_MARK, DeflateParameters, WebSocketHandshake
from rt_twisted.formats.websocket import JsonFrames, RawFrames
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.load_object import load_object
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Newest, Since

_log = Logger()


class MessageMode(Enum):
    """
    What a frame holds.
    """

    RAW = "raw"  # a message
    JSON = "json"  # an object that says what it is


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class WebSocketAction:
    """
    `websocket:subscribe=A,publish=B`: what is published to A goes to the client,
    what the client says is published to B, a frame a message. Without
    channels the client names them, in JSON.

    Args:
        house: the daemon.
        subscribe: the channels out.
        publish: the channels in; everybody who may open the websocket may
            publish to them.
        prefix: goes in front of each message of a client, raw.
        suffix: goes behind it.
        protocol: raw where the line names a channel, else json.
        binary: raw messages go out in binary frames, whatever is in them.
        history: messages replayed to a client that does not say from where.
        slow: what meets a reader that is too far behind; the daemon's setting
            if not given, but for raw ones, which cannot be told of a gap.
        subprotocol: what the application's frames are called
            (`Sec-WebSocket-Protocol`); several are chosen from.
        app: dotted name of the user's own protocol: called with the house and
            the request for each websocket, it gives an `IConversation`.
        server: uWSGI's redis address.
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
    server: str = ""
    websockets: WebSocketEndpoint = field(init=False, compare=False)
    spoken: tuple[str, ...] = field(init=False, compare=False)
    make: Callable[[ActionContext, IExchange], object] | None = field(init=False, compare=False)

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        check_static_channels(self.subscribe, self.context)
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
                "route argument server={server} means nothing here: the setting broker decides "
                "where messages come from",
                server=self.server,
            )
        for name in self.subprotocol:
            if name.source.startswith(KEY_MARK):
                raise ValueError(f"subprotocol= cannot begin with {KEY_MARK}: that is a key")
        object.__setattr__(self, "websockets", WebSocketEndpoint(self.context))
        object.__setattr__(self, "spoken", tuple([one.source for one in self.subprotocol]))
        object.__setattr__(self, "make", _application(self.app) if self.app else None)

    def act(self, exchange: IExchange, match: Match) -> object:
        """
        Open the websocket, now or when it is this reader's turn; or refuse.
        """
        agreement = self.websockets.check(exchange, self.spoken)
        names = [template.expand(exchange, match) for template in self.subscribe]
        if not names and self.protocol is MessageMode.JSON:
            names = requested_channels(exchange.query())
        if names:
            names = self.context.names.check_all(names)
        since = requested_start(exchange, exchange.query(), True)
        if since is None and self.history:
            since = Newest(self.history)
        conversation = self._converse(exchange, match, names)
        enter = partial(self._open, exchange, agreement, conversation, names, since)
        return when_admitted(self.context, exchange, enter)

    def _converse(self, exchange: IExchange, match: Match, names: Sequence[str]) -> object:
        """
        Returns:
            an `IConversation`.
        """
        context = self.context
        if self.make is not None:
            return self.make(context, exchange)
        publish = [context.names.check(one.expand(exchange, match)) for one in self.publish]
        if self.protocol is MessageMode.JSON:
            key = _key(exchange, context)
            return JsonApp(context, names, bool(self.subscribe), publish, key)
        around = [
            one.expand(exchange, match).encode(errors="surrogateescape") if one else b""
            for one in (self.prefix, self.suffix)
        ]
        return RawApp(context, publish, *around)

    def _open(
        self,
        exchange: IExchange,
        agreement: WebSocketHandshake,
        conversation: object,
        names: list[str],
        since: Since | None,
        address: str,
    ) -> None:
        policy = self.slow
        if policy is None and isinstance(conversation, RawApp):
            policy = SlowConsumerPolicy.DISCONNECT
        backlog_limits = self.context.backlog_limits_for(policy)
        format = _format(self.protocol is MessageMode.JSON, agreement.deflate, self.binary)
        self.websockets.open(
            exchange, agreement, conversation, format, names, since, backlog_limits
        )


def _application(name: str) -> Callable[[ActionContext, IExchange], object]:
    found = load_object(name)
    if not callable(found):
        raise ValueError(f"{name} cannot be called")
    return found  # type: ignore[no-any-return]  # it was checked


def _key(exchange: IExchange, context: ActionContext) -> Key | None:
    """
    What the client may publish with: a page cannot set headers but that for
    subprotocols, so its query will do. Without the right one it may still read.
    """
    secret = header_key(exchange)
    if secret is None and "key" in exchange.query():
        secret = exchange.query()["key"][-1].encode(errors="surrogateescape")
    try:
        return context.publish_keys.authorize(Credentials.of(exchange, secret))
    except HttpError:
        return None


@cache
def _format(json: bool, deflate: DeflateParameters | None, binary: bool) -> IFormat:
    """
    The same object for all readers that are told the same: they are many.
    """
    return JsonFrames(deflate) if json else RawFrames(deflate, binary)
