"""
A websocket on which the client says what it wants to hear and to publish
(docs/websocket.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.keys import Credentials, Key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.publish import fitting, publish_error
from rt_twisted.actions.subscription import parse_start
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket_commands import (
    Command,
    Id,
    KeyCommand,
    PingCommand,
    PublishCommand,
    SubscribeCommand,
    UnsubscribeCommand,
    read_command,
    read_frame,
    read_id,
)
from rt_twisted.formats.websocket import JsonFrames
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft, Newest, PublishResult, Since

CHANNELS = 10  # that begin or end to be heard cost as much as a frame does


@implementer(IWebSocketApp)
class JsonApp:
    """
    Does what the client's commands say.

    Args:
        house: the daemon.
        names: channels that it hears from the start.
        fixed: whether these are for the route to say, and for nobody else.
        publish: channels that the route lets everybody publish to.
        key: that may publish to others; None for none.
    """

    __slots__ = ("_context", "_fixed", "_key", "_names", "_publish", "_websocket")

    def __init__(
        self,
        context: ActionContext,
        names: Sequence[str],
        fixed: bool,
        publish: Sequence[str],
        key: Key | None,
    ) -> None:
        self._context = context
        self._names = tuple(names)
        self._fixed = fixed
        self._publish = publish
        self._key = key
        self._websocket: Any = None

    def opened(self, websocket: Any) -> None:
        """
        See `IConversation`.
        """
        self._websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        """
        Do it, or say why not.
        """
        number: Id = None
        try:
            if binary:
                raise RemoteProtocolError("commands are text")
            value = read_frame(data)
            number = read_id(value)
            self._obey(read_command(value), number)
        except RemoteProtocolError as error:
            self._refuse(number, error.status, error.reason)
        except HttpError as refusal:
            self._refuse(number, refusal.status, refusal.reason)

    def closed(self, code: int, reason: str) -> None:
        """
        See `IConversation`.
        """
        self._websocket = None

    def _obey(self, command: Command, number: Id) -> None:
        match command:
            case PublishCommand(submission):
                self._send_out(submission, number)
            case SubscribeCommand():
                self._subscribe(command, number)
            case UnsubscribeCommand(channels):
                self._unsubscribe(frozenset(channels), number)
            case KeyCommand(secret):
                self._key = self._context.publish_keys.authorize(Credentials(secret))
                self._say("ack", number)
            case PingCommand():
                self._say("pong", number)

    def _subscribe(self, command: SubscribeCommand, number: Id) -> None:
        self._check_free()
        further = self._context.names.check_all(command.channels, self._names)
        since: Since | None = parse_start(command.since) if command.since else None
        if since is None and command.history:
            since = Newest(command.history)
        self._websocket.consume_rate(len(further) // CHANNELS)
        self._names += tuple(further)
        ack = b"" if number is None else self._format.say({"type": "ack", "id": number})
        self._context.hub.add_channels(self._websocket.subscriber, further, since, ack)

    def _unsubscribe(self, channels: frozenset[str], number: Id) -> None:
        self._check_free()
        # Clients may name any number: only those that are heard cost anything.
        heard = [name for name in self._names if name in channels]
        self._websocket.consume_rate(len(heard) // CHANNELS)
        self._names = tuple([name for name in self._names if name not in channels])
        self._context.hub.remove_channels(self._websocket.subscriber, heard)
        self._say("ack", number)

    def _check_free(self) -> None:
        if self._fixed:
            raise HttpError(403, "the channels here are fixed")

    def _send_out(self, submission: Any, number: Id) -> None:
        context = self._context
        data = fitting(context, submission.message)
        channels = submission.channels or self._publish
        if not channels:
            raise HttpError(400, "channel is missing")
        # Without repeats: one frame would become any number of messages.
        channels = context.names.check_all(channels)
        key = self._key
        if submission.key:
            key = context.publish_keys.authorize(Credentials(submission.key))
        for channel in channels:
            if channel in self._publish:
                continue
            if key is None:
                raise HttpError(403, f"a key is needed to publish to {channel!r}")
            key.check(channel)
        drafts = [
            Draft(channel, data, submission.event, submission.idempotency_key)
            for channel in channels
        ]
        published = self._websocket.publish(drafts)
        if isinstance(published, PublishResult):
            self._published(published, number)
            return
        published.addCallbacks(
            self._published, self._not_published, callbackArgs=(number,), errbackArgs=(number,)
        )

    def _published(self, result: PublishResult, number: Id) -> None:
        more: dict[str, object] = {"position": str(result.positions[-1])}
        if not result.durable:
            more["durable"] = False
        self._say("ack", number, more)

    def _not_published(self, failure: Failure, number: Id) -> None:
        error = publish_error(failure)
        self._refuse(number, error.status, error.reason)

    @property
    def _format(self) -> JsonFrames:
        format: JsonFrames = self._websocket.subscriber.format
        return format

    def _say(self, kind: str, number: Id, more: dict[str, object] | None = None) -> None:
        # Who gives no id wants no answer, but of a ping.
        if self._websocket is None or (number is None and kind == "ack"):
            return
        named = {} if number is None else {"id": number}
        self._websocket.write(self._format.say({"type": kind, **named, **(more or {})}))

    def _refuse(self, number: Id, status: int, reason: str) -> None:
        self._say("error", number, {"status": status, "reason": reason})
