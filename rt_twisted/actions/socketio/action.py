r"""
The route word `socket.io`: requests of Socket.IO clients find their sessions.

    route = ^/socket\.io/ socket.io:subscribe=news

The path is the route's; clients ask below `/socket.io/` unless told otherwise.
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
from rt_twisted.actions.engineio.session import POLLING, WEBSOCKET, Session
from rt_twisted.actions.engineio.websocket_transport import WebSocketTransport
from rt_twisted.actions.interfaces import IAction, ISocketIOApp, Match
from rt_twisted.actions.socketio.channel_app import ChannelApp
from rt_twisted.actions.socketio.connection import SocketIOConnection
from rt_twisted.actions.socketio.handshake import KEPT, Handshake
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

# Engine.IO's errors; who gets the second one opens a new session.
TRANSPORT, SESSION, METHOD, REQUEST, VERSION = 0, 1, 2, 3, 5
_WORDS = {
    TRANSPORT: "Transport unknown",
    SESSION: "Session ID unknown",
    METHOD: "Bad handshake method",
    REQUEST: "Bad request",
    VERSION: "Unsupported protocol version",
}


class EngineIOError(Exception):
    """
    A request that Engine.IO has an error for.

    Args:
        code: of the error.
    """

    def __init__(self, code: int) -> None:
        super().__init__(_WORDS[code])
        self.code = code


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class SocketIOAction:
    """
    `socket.io`, `socket.io:CHANNEL`, `socket.io:subscribe=A,publish=B`, or
    `socket.io:app=DOTTED.NAME`.

    Args:
        house: the daemon.
        subscribe: channels that each client hears; without any it asks for them.
        publish: channels on which everything is published that clients emit;
            everybody who may connect may do so. Without any they name the
            channel, and need a key.
        history: messages told of `subscribe` to who does not say from where.
        app: the dotted name of a class that provides `ISocketApp`: it says what
            clients hear and may.
        positions: whether events carry their position, so that clients can
            resume.
    """

    context: ActionContext
    subscribe: tuple[Template, ...] = ()
    publish: tuple[Template, ...] = ()
    history: int = 0
    app: str = ""
    positions: bool = True
    sessions: SessionRegistry = field(init=False, compare=False, repr=False)
    recovery: SessionStore = field(init=False, compare=False, repr=False)
    websockets: WebSocketEndpoint = field(init=False, compare=False, repr=False)
    application: Any = field(init=False, compare=False, repr=False, default=None)

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    # All but the first two are answered by Engine.IO's own error.
    methods: ClassVar[Sequence[str]] = ("GET", "POST", "PUT", "PATCH", "DELETE")

    def __post_init__(self) -> None:
        if self.history < 0:
            raise ValueError("history= cannot be negative")
        if self.app and (self.subscribe or self.publish or self.history):
            raise ValueError("app= decides what is heard and published, and nothing else does")
        context = self.context
        check_static_channels(self.subscribe, context)
        check_static_channels(self.publish, context)
        # Sessions ping by themselves, and know their own limit.
        limits = replace(context.websockets, silence=0, message=context.socketio.max_payload)
        node = context.handoff.mark if context.handoff else ""
        made: dict[str, Any] = {
            "sessions": context.shared.get(
                SessionRegistry, partial(SessionRegistry, context.reactor, node)
            ),
            "recovery": context.shared.get(SessionStore, partial(SessionStore, context.reactor)),
            "websockets": WebSocketEndpoint(replace(context, websockets=limits)),
        }
        if self.app:
            made["application"] = _application(self.app, context)
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def act(self, exchange: IExchange, match: Match) -> object:
        """
        Open a session, or go on with one.
        """
        try:
            return self._serve(exchange, match)
        except (EngineIOError, RemoteProtocolError) as error:
            _complain(exchange, error)
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
        session = self.sessions.find(sid)
        if session is None:
            return self._find_elsewhere(exchange, sid)
        if int(version) != session.version:
            raise EngineIOError(REQUEST)
        if transport == WEBSOCKET:
            self._propose(exchange, session)
            return None
        # HEAD would take what waits, and throw it away.
        if session.transport != POLLING or exchange.method not in ("GET", "POST"):
            raise EngineIOError(REQUEST)
        session.confirm()
        if exchange.method == "POST":
            return _post(exchange, session, _posted(exchange, session.version))
        session.poll(exchange)
        return None

    def _find_elsewhere(self, exchange: IExchange, sid: str) -> object:
        """
        A session of another process of this daemon is served there.
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
            enter = partial(self._begin_polls, exchange, match, version)
        else:
            agreement = self.websockets.check(exchange)
            enter = partial(self._begin_socket, exchange, match, version, agreement)
        return when_admitted(self.context, exchange, enter)

    def _begin_polls(self, exchange: IExchange, match: Match, version: int, address: str) -> None:
        session = self._session(exchange, match, version, address)
        session.open_polls(_polled(exchange, version), limit_key(exchange.address))
        session.poll(exchange)

    def _begin_socket(
        self,
        exchange: IExchange,
        match: Match,
        version: int,
        agreement: WebSocketHandshake,
        address: str,
    ) -> None:
        session = self._session(exchange, match, version, address)
        end = WebSocketTransport(session, Session.open_socket)
        self.websockets.open(exchange, agreement, end, session.opening(agreement))

    def _propose(self, exchange: IExchange, session: Session) -> None:
        agreement = self.websockets.check(exchange)
        if not session.may_change:
            raise EngineIOError(REQUEST)
        session.confirm()
        session.admit()  # the websocket counts as a subscriber, whatever is joined
        end = WebSocketTransport(session, Session.propose)
        self.websockets.open(exchange, agreement, end, _SILENT)

    def _session(self, exchange: IExchange, match: Match, version: int, address: str) -> Session:
        context = self.context
        app = self.application
        handshake = Handshake.of(exchange, KEPT if app is not None else CREDENTIAL_HEADERS)
        if app is None:
            names = [template.expand(exchange, match) for template in self.subscribe]
            publish = [template.expand(exchange, match) for template in self.publish]
            for name in publish:
                context.names.check(name)
            if names:
                names = context.names.check_all(names)
            app = ChannelApp(context, handshake, names, publish, self.history)
        dialogue = SocketIOConnection(
            context, self.recovery, app, handshake, version, self.positions, address
        )
        text_only = _last(exchange.query(), "b64") == "1"
        return Session(self.sessions, context, dialogue, version, address, text_only)


_SILENT = SocketIOEvents(Socket4(), quiet=True)  # until it takes the session over


async def _hand_off(exchange: IExchange, passed: Deferred[bool]) -> None:
    if not await passed:
        _complain(exchange, EngineIOError(SESSION))


async def _post(exchange: IExchange, session: Session, framing: PollFraming) -> None:
    try:
        await session.post(exchange, framing)
    except RemoteProtocolError as error:
        _complain(exchange, error)
    else:
        exchange.answer(200, b"ok", "text/html")


def _complain(exchange: IExchange, error: EngineIOError | RemoteProtocolError) -> None:
    if isinstance(error, EngineIOError):
        status, code, reason = 400, error.code, str(error)
    else:
        status, code, reason = error.status, REQUEST, error.reason
    said = {"code": code, "message": reason}
    exchange.answer(status, json.dumps(said).encode(), "application/json")


def _last(query: Mapping[str, list[str]], name: str) -> str:
    return query.get(name, [""])[-1]


def _polled(exchange: IExchange, version: int) -> PollFraming:
    if version == 4:
        return Poll4()
    return Poll3Text() if _last(exchange.query(), "b64") == "1" else Poll3()


def _posted(exchange: IExchange, version: int) -> PollFraming:
    binary = (exchange.header("content-type") or "").partition(";")[0].strip() == BINARY
    if version == 3:
        return Poll3() if binary else Poll3Text()
    if binary:
        raise EngineIOError(REQUEST)
    return Poll4()


def _application(name: str, context: ActionContext) -> Any:
    make = load_object(name)
    try:
        made = make(context)
    except Exception as error:
        raise ValueError(f"app={name}: {error!r}") from error
    try:
        verifyObject(ISocketIOApp, made)
    except Invalid as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"app={name} is not an application for socket.io: {reason}") from None
    return made
