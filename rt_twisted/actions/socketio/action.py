r"""
The route word `socket.io`: assign the requests of Socket.IO clients to their sessions.

    route = ^/socket\.io/ socket.io:subscribe=news

The path is the route's; clients use `/socket.io/` unless configured otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.registry import SessionRegistry
from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.engineio.transport import POLLING, WEBSOCKET
from rt_twisted.actions.engineio.websocket_transport import WebSocketTransport
from rt_twisted.actions.interfaces import IAction, ISocketIOApp, Match
from rt_twisted.actions.socketio.channel_app import ChannelApp
from rt_twisted.actions.socketio.connection import SocketIOConnection
from rt_twisted.actions.socketio.handshake import STORED_HEADERS, Handshake
from rt_twisted.actions.socketio.session_store import SessionStore
from rt_twisted.actions.subscription import check_static_channels, when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.codecs.addresses import limit_key
from rt_twisted.codecs.engineio_framing import BINARY, Poll3, Poll3Text, Poll4, PollFraming, Socket4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import WebSocketHandshake
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.http.interfaces import IExchange
from rt_twisted.load_object import load_object
from rt_twisted.metrics.responses import SUBSCRIBERS

# Error codes of Engine.IO. After SESSION clients open a new session.
TRANSPORT, SESSION, METHOD, REQUEST, VERSION = 0, 1, 2, 3, 5
_ERROR_MESSAGES = {
    TRANSPORT: "Transport unknown",
    SESSION: "Session ID unknown",
    METHOD: "Bad handshake method",
    REQUEST: "Bad request",
    VERSION: "Unsupported protocol version",
}


class EngineIOError(Exception):
    """
    A request to which Engine.IO responds with an error code.

    Args:
        code: such as SESSION.
    """

    def __init__(self, code: int) -> None:
        super().__init__(_ERROR_MESSAGES[code])
        self.code = code


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
        positions: whether events have their position, so that clients can resume.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    publish: tuple[Template, ...] = ()
    history: int = 0
    app: str = ""
    positions: bool = True
    registry: SessionRegistry[Session] = field(init=False, compare=False, repr=False)
    store: SessionStore = field(init=False, compare=False, repr=False)
    websockets: WebSocketEndpoint = field(init=False, compare=False, repr=False)
    application: Any = field(init=False, compare=False, repr=False, default=None)

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    # All but the first two get an error of Engine.IO.
    methods: ClassVar[Sequence[str]] = ("GET", "POST", "PUT", "PATCH", "DELETE")

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        if self.app and (self.subscribe or self.publish or self.history):
            raise ValueError("app= cannot be combined with subscribe=, publish= or history=")
        context = self.context
        check_static_channels(self.subscribe, context)
        check_static_channels(self.publish, context)
        # Sessions have pings and a message limit of their own.
        limits = replace(context.websockets, silence=0, message=context.socketio.max_payload)
        node = context.handoff.id_prefix if context.handoff else ""
        made: dict[str, Any] = {
            "registry": context.shared.get(
                SessionRegistry, partial(SessionRegistry, context.reactor, node)
            ),
            "store": context.shared.get(SessionStore, partial(SessionStore, context.reactor)),
            "websockets": WebSocketEndpoint(replace(context, websockets=limits)),
        }
        if self.app:
            made["application"] = _application(self.app, context)
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def act(self, exchange: IExchange, match: Match) -> object:
        try:
            return self._serve(exchange, match)
        except (EngineIOError, RemoteProtocolError) as error:
            _respond_error(exchange, error)
            return None

    def _serve(self, exchange: IExchange, match: Match) -> object:
        query = exchange.query()
        transport, version = _last(query, "transport"), _last(query, "EIO")
        sid = _last(query, "sid")
        if transport not in (POLLING, WEBSOCKET):
            raise EngineIOError(TRANSPORT)
        if version not in ("3", "4"):
            raise EngineIOError(VERSION)
        if not sid:
            return self._begin(exchange, match, transport, int(version))
        session = self.registry.find(sid)
        if session is None:
            return self._find_in_other_worker(exchange, sid)
        if int(version) != session.version:
            raise EngineIOError(REQUEST)
        if transport == WEBSOCKET:
            self._propose(exchange, session)
            return None
        # The response to HEAD has no body: packets would be lost.
        if session.transport.name != POLLING or exchange.method not in ("GET", "POST"):
            raise EngineIOError(REQUEST)
        session.confirm()
        if exchange.method == "POST":
            return _post(exchange, session, _post_framing(exchange, session.version))
        session.poll(exchange)
        return None

    def _find_in_other_worker(self, exchange: IExchange, sid: str) -> object:
        """
        Hand the connection to the worker process that has the session.
        """
        handoff = self.context.handoff
        number = handoff.owner(sid) if handoff is not None else None
        if handoff is None or number is None:
            raise EngineIOError(SESSION)
        return _hand_off(exchange, handoff.hand_off(exchange, number))

    def _begin(self, exchange: IExchange, match: Match, transport: str, version: int) -> object:
        if exchange.method != "GET":
            raise EngineIOError(METHOD)
        if transport == POLLING:
            begin = partial(self._begin_polling, exchange, match, version)
        else:
            agreement = self.websockets.check(exchange)
            begin = partial(self._begin_websocket, exchange, match, version, agreement)
        return when_admitted(self.context, exchange, begin)

    def _begin_polling(self, exchange: IExchange, match: Match, version: int, address: str) -> None:
        session = self._session(exchange, match, version, address)
        session.open_polling(_polling_framing(exchange, version), limit_key(exchange.address))
        session.poll(exchange)

    def _begin_websocket(
        self,
        exchange: IExchange,
        match: Match,
        version: int,
        agreement: WebSocketHandshake,
        address: str,
    ) -> None:
        session = self._session(exchange, match, version, address)
        format = session.opening_format(agreement)
        self.websockets.open(exchange, agreement, WebSocketTransport(session), format)

    def _propose(self, exchange: IExchange, session: Session) -> None:
        agreement = self.websockets.check(exchange)
        if not session.upgradable:
            raise EngineIOError(REQUEST)
        session.confirm()
        session.admit()  # the websocket counts as a subscriber, even without a namespace
        self.websockets.open(exchange, agreement, WebSocketTransport(session), _QUIET)

    def _session(self, exchange: IExchange, match: Match, version: int, address: str) -> Session:
        context = self.context
        app = self.application
        handshake = Handshake.of(
            exchange, STORED_HEADERS if app is not None else CREDENTIAL_HEADERS
        )
        if app is None:
            names = [template.expand(exchange, match) for template in self.subscribe]
            publish = [template.expand(exchange, match) for template in self.publish]
            for name in publish:
                context.names.check(name)
            if names:
                names = context.names.check_all(names)
            app = ChannelApp(context, handshake, names, publish, self.history)
        connection = SocketIOConnection(
            context, self.store, app, handshake, version, self.positions, address
        )
        text_only = _last(exchange.query(), "b64") == "1"
        return Session(self.registry, context, connection, version, address, text_only)


_QUIET = SocketIOEvents(Socket4(), quiet=True)  # of a websocket before its upgrade


async def _hand_off(exchange: IExchange, handed_off: Deferred[bool]) -> None:
    if not await handed_off:
        _respond_error(exchange, EngineIOError(SESSION))


async def _post(exchange: IExchange, session: Session, framing: PollFraming) -> None:
    try:
        await session.post(exchange, framing)
    except RemoteProtocolError as error:
        _respond_error(exchange, error)
    else:
        exchange.answer(200, b"ok", "text/html")


def _respond_error(exchange: IExchange, error: EngineIOError | RemoteProtocolError) -> None:
    if isinstance(error, EngineIOError):
        status, code, reason = 400, error.code, str(error)
    else:
        status, code, reason = error.status, REQUEST, error.reason
    body = {"code": code, "message": reason}
    exchange.answer(status, json.dumps(body).encode(), "application/json")


def _last(query: Mapping[str, list[str]], name: str) -> str:
    return query.get(name, [""])[-1]


def _polling_framing(exchange: IExchange, version: int) -> PollFraming:
    if version == 4:
        return Poll4()
    return Poll3Text() if _last(exchange.query(), "b64") == "1" else Poll3()


def _post_framing(exchange: IExchange, version: int) -> PollFraming:
    binary = (exchange.header("content-type") or "").partition(";")[0].strip() == BINARY
    if version == 3:
        return Poll3() if binary else Poll3Text()
    if binary:
        raise EngineIOError(REQUEST)
    return Poll4()


def _application(name: str, context: ActionContext) -> Any:
    make = load_object(name)
    try:
        app = make(context)
    except Exception as error:
        raise ValueError(f"app={name}: {error!r}") from error
    try:
        verifyObject(ISocketIOApp, app)
    except Invalid as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"app={name} is not an application for socket.io: {reason}") from None
    return app
