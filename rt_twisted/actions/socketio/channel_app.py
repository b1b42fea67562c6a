"""
The application of `socket.io` routes without `app=`: rooms are channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from zope.interface import implementer

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.access.keys import Credentials, Key, header_key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import ISocketIOApp
from rt_twisted.actions.socketio.handshake import Handshake
from rt_twisted.actions.socketio.publishing import publish_checked
from rt_twisted.actions.socketio.session_access import SessionAccess
from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.actions.subscriber_parameters import parse_start
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import check_event
from rt_twisted.codecs.socketio import dump
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.socketio import MESSAGE
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft, Newest, Since

MAX_HISTORY = 10**9  # messages


@dataclass(frozen=True, slots=True)
class RouteChannels:
    """
    The channels of a route for one client.

    Args:
        subscribe: to which the client is subscribed.
        publish: to which its events are published.
        own: those to subscribe to that its grant need not cover.
        own_publish: the same, of those to publish to.
    """

    subscribe: tuple[Selector, ...] = ()
    publish: tuple[str, ...] = ()
    own: frozenset[Selector] = frozenset()
    own_publish: frozenset[Selector] = frozenset()


@implementer(ISocketIOApp)
class ChannelApp:
    """
    The application of one session, with the main namespace only.

    Clients are subscribed to the channels of the route; if it has none, they subscribe by
    `subscribe` (or `join`) and unsubscribe by `unsubscribe` (or `leave`). What they emit is
    published to the route's channels; if it has none, they publish by `publish`, where their
    key permits it.

    Args:
        context: settings and hub.
        handshake: of the session.
        channels: of the route; where clients need grants, a function that returns them for a
            grant, which is released when a client has connected.
        history: number of messages to replay of those to subscribe to.
        access: the grant of the session; None where clients need none.
    """

    def __init__(
        self,
        context: ActionContext,
        handshake: Handshake,
        channels: RouteChannels | Callable[[Grant], RouteChannels],
        history: int,
        access: SessionAccess | None = None,
    ) -> None:
        self._context = context
        self._handshake = handshake
        self._channels = channels
        self._history = history
        self._access = access
        self._key: bytes | None = None

    def on_connect(self, client: Socket, auth: dict[str, Any]) -> None:
        if client.namespace != "/":
            raise HttpError(404, "Invalid namespace")
        key = auth.get("key")
        if isinstance(key, str):
            self._key = key.encode(errors="replace")
        channels = self._channels
        if not isinstance(channels, RouteChannels):
            self._channels = channels = channels(client.grant)
        names: Sequence[Selector] = channels.subscribe
        if not names and not channels.publish and client.grant.channels:
            names = self._context.names.check_all(client.grant.channels)
        if names:
            client.join(names, Newest(self._history) if self._history else None)

    def covers(self, grant: Grant, name: Selector) -> bool:
        """
        Return whether a client with *grant* may be subscribed to *name*.
        """
        return name in self._route.own or grant.covers(name)

    @property
    def _route(self) -> RouteChannels:
        # Of a client that is not connected yet, nothing is permitted.
        return self._channels if isinstance(self._channels, RouteChannels) else RouteChannels()

    async def on_event(self, client: Socket, event: str, *arguments: Any) -> dict[str, Any]:
        if event in ("subscribe", "join"):
            return await self._join(client, arguments)
        if event in ("unsubscribe", "leave"):
            return self._leave(client, arguments)
        drafts = await self._drafts(client, event, arguments)
        permit: Key | Grant = Key(self._key) if self._key else client.grant
        self._context.publish_rate.consume(permit, self._handshake.address, len(drafts))
        result = await publish_checked(self._context, drafts)
        answer: dict[str, Any] = {"status": "ok", "position": str(result.positions[-1])}
        if not result.durable:
            answer["durable"] = False
        return answer

    def on_disconnect(self, client: Socket, reason: str) -> None:
        pass

    async def _join(self, client: Socket, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if self._route.subscribe:
            raise HttpError(403, "the route sets the channels; clients cannot choose them")
        names = _names(arguments)
        if self._access is not None:
            added = self._context.names.check_all(names, client.channels)
            client.grant = await self._access.check_subscribe(list(map(str, added)))
        options = arguments[1] if len(arguments) > 1 else {}
        client.join(names, _since(options))
        return {"status": "ok", "channels": list(client.channels)}

    def _leave(self, client: Socket, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if self._route.subscribe:
            raise HttpError(403, "the route sets the channels; clients cannot choose them")
        client.leave(_names(arguments))
        return {"status": "ok", "channels": list(client.channels)}

    async def _drafts(self, client: Socket, event: str, arguments: tuple[Any, ...]) -> list[Draft]:
        route, grant = self._route, client.grant
        if route.publish:
            kind = _event_type(event)
            data = _data(arguments)
            for channel in route.publish:
                if grant is not ANYONE and channel not in route.own_publish:
                    grant.check(channel)
            return [Draft(channel, data, kind) for channel in route.publish]
        if event != "publish":
            raise HttpError(404, f"unknown event {event[:100]!r}")
        if not 2 <= len(arguments) <= 3 or not isinstance(arguments[0], str):
            raise HttpError(400, "publish needs a channel and data, and may have an event type")
        channel, data = arguments[0], _data(arguments[1:2])
        kind = None
        if len(arguments) == 3 and arguments[2] is not None:
            if not isinstance(arguments[2], str):
                raise HttpError(400, "an event type must be a string")
            kind = _event_type(arguments[2])
        secret = self._key or header_key(self._handshake)
        access = self._access
        if access is not None and not self._key and await access.permits(channel):
            return [Draft(channel, data, kind)]
        # Where clients need grants, being on this machine is no proof.
        request = self._handshake if access is None else None
        self._context.publish_keys.authorize(Credentials(secret, request), [channel])
        return [Draft(channel, data, kind)]


def _names(arguments: tuple[Any, ...]) -> list[str]:
    names = arguments[0] if arguments else None
    if isinstance(names, str):
        return [names]
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return names
    raise HttpError(400, "no channel: send its name, or a list of names")


def _since(options: Any) -> Since | None:
    if not isinstance(options, dict):
        raise HttpError(400, "the options after the channels must be an object")
    since, history = options.get("since"), options.get("history")
    if since is not None:
        if not isinstance(since, str):
            raise HttpError(400, "since must be a string")
        return parse_start(since)
    if history is None:
        return None
    if type(history) is not int or not 0 <= history <= MAX_HISTORY:
        raise HttpError(400, "history must be a whole number")
    return Newest(history)


def _event_type(event: str) -> str | None:
    if event == MESSAGE:
        return None
    try:
        return check_event(event)
    except RemoteProtocolError as error:
        raise HttpError(error.status, error.reason) from None


def _data(arguments: Sequence[Any]) -> bytes:
    """
    Return the data to publish for the arguments of an event.

    A string and bytes are published as they are, anything else as JSON, several arguments as
    an array.
    """
    if not arguments:
        return b""
    value = arguments[0] if len(arguments) == 1 else list(arguments)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode(errors="replace")
    try:
        return dump(value)
    except (TypeError, ValueError):
        raise HttpError(400, "JSON cannot express bytes, NaN or infinity in the data") from None
