"""
The application of `socket.io` routes without `app=`: rooms are channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from rt_twisted.access.keys import Credentials, header_key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import ISocketIOApp
from rt_twisted.actions.socketio.handshake import Handshake
from rt_twisted.actions.socketio.publishing import publish_checked
from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.actions.subscription import parse_start
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import check_event
from rt_twisted.codecs.socketio import dump
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.socketio import MESSAGE
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft, Newest, Since

MAX_HISTORY = 10**9  # messages


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
        subscribe: the route's channels to subscribe to.
        publish: the route's channels to publish to.
        history: number of messages to replay of the former.
    """

    def __init__(
        self,
        context: ActionContext,
        handshake: Handshake,
        subscribe: Sequence[Selector],
        publish: Sequence[str],
        history: int,
    ) -> None:
        self._context = context
        self._handshake = handshake
        self._subscribe = subscribe
        self._publish = publish
        self._history = history
        self._key: bytes | None = None

    def on_connect(self, client: Socket, auth: dict[str, Any]) -> None:
        if client.namespace != "/":
            raise HttpError(404, "Invalid namespace")
        key = auth.get("key")
        if isinstance(key, str):
            self._key = key.encode(errors="replace")
        if self._subscribe:
            client.join(self._subscribe, Newest(self._history) if self._history else None)

    async def on_event(self, client: Socket, event: str, *arguments: Any) -> dict[str, Any]:
        if event in ("subscribe", "join"):
            return self._join(client, arguments)
        if event in ("unsubscribe", "leave"):
            return self._leave(client, arguments)
        drafts = self._drafts(event, arguments)
        result = await publish_checked(self._context, drafts)
        answer: dict[str, Any] = {"status": "ok", "position": str(result.positions[-1])}
        if not result.durable:
            answer["durable"] = False
        return answer

    def on_disconnect(self, client: Socket, reason: str) -> None:
        pass

    def _join(self, client: Socket, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if self._subscribe:
            raise HttpError(403, "the route sets the channels; clients cannot choose them")
        names = _names(arguments)
        options = arguments[1] if len(arguments) > 1 else {}
        client.join(names, _since(options))
        return {"status": "ok", "channels": list(client.channels)}

    def _leave(self, client: Socket, arguments: tuple[Any, ...]) -> dict[str, Any]:
        if self._subscribe:
            raise HttpError(403, "the route sets the channels; clients cannot choose them")
        client.leave(_names(arguments))
        return {"status": "ok", "channels": list(client.channels)}

    def _drafts(self, event: str, arguments: tuple[Any, ...]) -> list[Draft]:
        if self._publish:
            kind = _event_type(event)
            data = _data(arguments)
            return [Draft(channel, data, kind) for channel in self._publish]
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
        self._context.publish_keys.authorize(Credentials(secret, self._handshake), [channel])
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
