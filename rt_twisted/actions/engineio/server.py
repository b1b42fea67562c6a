"""
The requests of an Engine.IO route: handshakes, polls, posts and websockets of sessions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from twisted.internet.defer import Deferred

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.registry import SessionRegistry
from rt_twisted.actions.engineio.session import Session, SessionObserver
from rt_twisted.actions.engineio.transport import POLLING, WEBSOCKET
from rt_twisted.actions.engineio.websocket_transport import WebSocketTransport
from rt_twisted.actions.granting import granted
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.subscription import when_admitted
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.codecs.addresses import limit_key
from rt_twisted.codecs.engineio_framing import BINARY, Poll3, Poll3Text, Poll4, PollFraming
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import WebSocketHandshake
from rt_twisted.http.interfaces import IExchange

# All but the first two get an error of Engine.IO.
METHODS: Sequence[str] = ("GET", "POST", "PUT", "PATCH", "DELETE")

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


class EngineIOServer:
    """
    Serves one route.

    Args:
        context: settings and hub. Clients need a grant for the handshake if its gate is not open.
        make_observer: called for each new session with its first request, the match of the
            route, the version of Engine.IO and the client's address as the limits count it.
            An HttpError that it raises is the response.
        asked_channels: returns those about which the application is asked.
    """

    def __init__(
        self,
        context: ActionContext,
        make_observer: Callable[[IExchange, Match, int, str], SessionObserver],
        asked_channels: Callable[[IExchange, Match], Sequence[str]] = lambda exchange, match: (),
    ) -> None:
        self._context = context
        self._make_observer = make_observer
        self._asked_channels = asked_channels
        # Sessions have pings and a message limit of their own.
        limits = replace(context.websockets, silence=0, message=context.socketio.max_payload)
        self._websockets = WebSocketEndpoint(replace(context, websockets=limits))
        node = context.handoff.id_prefix if context.handoff else ""
        self._registry: SessionRegistry[Session] = context.shared.get(
            SessionRegistry, partial(SessionRegistry, context.reactor, node)
        )

    def act(self, exchange: IExchange, match: Match) -> object:
        """
        Serve a request, as `IAction.act`.
        """
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
        session = self._registry.find(sid)
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
        handoff = self._context.handoff
        number = handoff.owner(sid) if handoff is not None else None
        if handoff is None or number is None:
            raise EngineIOError(SESSION)
        return _hand_off(exchange, handoff.hand_off(exchange, number))

    def _begin(self, exchange: IExchange, match: Match, transport: str, version: int) -> object:
        if exchange.method != "GET":
            raise EngineIOError(METHOD)
        agreement = self._websockets.check(exchange) if transport == WEBSOCKET else None
        enter = partial(self._enter, exchange, version, agreement)
        names = partial(self._asked_channels, exchange, match)
        return granted(self._context, exchange, match, enter, "engine.io", names)

    def _enter(
        self, exchange: IExchange, version: int, agreement: WebSocketHandshake | None, match: Match
    ) -> object:
        if agreement is None:
            begin = partial(self._begin_polling, exchange, match, version)
        else:
            begin = partial(self._begin_websocket, exchange, match, version, agreement)
        return when_admitted(self._context, exchange, begin)

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
        self._websockets.open(exchange, agreement, WebSocketTransport(session), format)

    def _propose(self, exchange: IExchange, session: Session) -> None:
        agreement = self._websockets.check(exchange)
        if not session.upgradable:
            raise EngineIOError(REQUEST)
        session.confirm()
        session.admit()  # the websocket counts as a subscriber, even without a namespace
        format = session.candidate_format(agreement)
        self._websockets.open(exchange, agreement, WebSocketTransport(session), format)

    def _session(self, exchange: IExchange, match: Match, version: int, address: str) -> Session:
        observer = self._make_observer(exchange, match, version, address)
        text_only = _last(exchange.query(), "b64") == "1"
        return Session(self._registry, self._context, observer, version, address, text_only)


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
