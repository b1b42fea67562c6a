"""
What `socket.io` routes do without an application: rooms are channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zope.interface import implementer

from rt_twisted.access.keys import Credentials, header_key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import ISocketIOApp
from rt_twisted.actions.socketio.socket import Socket, published
from rt_twisted.actions.subscription import parse_start
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import check_event
from rt_twisted.codecs.socketio import dump
from rt_twisted.formats.socketio import MESSAGE
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft, Newest, Since

if TYPE_CHECKING:
    from rt_twisted.actions.socketio.handshake import Handshake

MOST = 10**9  # of messages in a history


@implementer(ISocketIOApp)
class ChannelApp:
    """
    One session's client in the main namespace; there are no others.

    It hears the channels of the route; if that has none, it asks for them by
    `subscribe` (or `join`) and `unsubscribe` (or `leave`). What it emits is
    published on the route's channels; if that has none, it publishes where its
    key allows, by `publish`.

    Args:
        house: the daemon.
        handshake: of the session's first request.
        subscribe: the route's channels to hear.
        publish: those to publish on.
        history: messages that are told of the former.
    """

    def __init__(
        self,
        context: ActionContext,
        handshake: Handshake,
        subscribe: Sequence[str],
        publish: Sequence[str],
        history: int,
    ) -> None:
        self._context = context
        self._handshake = handshake
        self._subscribe = subscribe
        self._publish = publish
        self._history = history
        self._secret: bytes | None = None

    def on_connect(self, client: Socket, auth: dict[str, Any]) -> None:
        """
        See `ISocketApp`. What is `key` in *auth* is for publishing.
        """
        if client.namespace != "/":
            raise HttpError(404, "Invalid namespace")
        key = auth.get("key")
        if isinstance(key, str):
            self._secret = key.encode(errors="replace")
        if self._subscribe:
            client.join(self._subscribe, Newest(self._history) if self._history else None)

    async def on_event(self, client: Socket, event: str, *arguments: Any) -> dict[str, Any]:
        """
        See `ISocketApp`.
        """
        if event in ("subscribe", "join"):
            return self._join(client, arguments)
        if event in ("unsubscribe", "leave"):
            return self._leave(client, arguments)
        drafts = self._drafts(event, arguments)
        result = await published(self._context, drafts)
        said: dict[str, Any] = {"status": "ok", "position": str(result.positions[-1])}
        if not result.durable:
            said["durable"] = False
        return said

    def on_disconnect(self, client: Socket, why: str) -> None:
        """
        See `ISocketApp`.
        """

    def _join(self, client: Socket, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if self._subscribe:
            raise HttpError(403, "the channels are chosen here, not asked for")
        names = _names(arguments)
        options = arguments[1] if len(arguments) > 1 else {}
        client.join(names, _since(options))
        return {"status": "ok", "channels": list(client.channels)}

    def _leave(self, client: Socket, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if self._subscribe:
            raise HttpError(403, "the channels are chosen here, not asked for")
        client.leave(_names(arguments))
        return {"status": "ok", "channels": list(client.channels)}

    def _drafts(self, event: str, arguments: tuple[Any, ...]) -> list[Draft]:
        if self._publish:
            kind = _event_type(event)
            data = _data(arguments)
            return [Draft(channel, data, kind) for channel in self._publish]
        if event != "publish":
            raise HttpError(404, f"nothing is known about event {event[:100]!r}")
        if not 2 <= len(arguments) <= 3 or not isinstance(arguments[0], str):
            raise HttpError(400, "publish takes a channel, data, and perhaps an event type")
        channel, data = arguments[0], _data(arguments[1:2])
        kind = None
        if len(arguments) == 3 and arguments[2] is not None:
            if not isinstance(arguments[2], str):
                raise HttpError(400, "an event type is a string")
            kind = _event_type(arguments[2])
        secret = self._secret or header_key(self._handshake)
        self._context.publish_keys.authorize(Credentials.of(self._handshake, secret), [channel])
        return [Draft(channel, data, kind)]


def _names(arguments: tuple[Any, ...]) -> list[str]:
    names = arguments[0] if arguments else None
    if isinstance(names, str):
        return [names]
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return names
    raise HttpError(400, "no channel: say its name, or a list of names")


def _since(options: Any) -> Since | None:
    if not isinstance(options, dict):
        raise HttpError(400, "behind the channels there may be an object: since, or history")
    since, history = options.get("since"), options.get("history")
    if since is not None:
        if not isinstance(since, str):
            raise HttpError(400, "since is a string")
        return parse_start(since)
    if history is None:
        return None
    if type(history) is not int or not 0 <= history <= MOST:
        raise HttpError(400, "history is a whole number")
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
    What is published of what was emitted: a string and bytes as they are,
    anything else as JSON, several as an array.
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
        raise HttpError(400, "bytes within other data, and infinity, cannot be published") from None
