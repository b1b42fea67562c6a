"""
Websocket application for the JSON protocol: clients subscribe, unsubscribe and publish by
commands (docs/websocket.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Credentials, Key
from rt_twisted.access.questions import PUBLISH, SUBSCRIBE
from rt_twisted.actions.connection_grant import ConnectionGrant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.publish import fitting, publish_error
from rt_twisted.actions.subscriber_parameters import parse_start
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.publication import Submission
from rt_twisted.codecs.websocket import CloseCode
from rt_twisted.codecs.websocket_commands import (
    Command,
    CommandId,
    KeyCommand,
    PingCommand,
    PublishCommand,
    SubscribeCommand,
    TokenCommand,
    UnsubscribeCommand,
    read_command,
    read_frame,
    read_id,
)
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.websocket import JsonFrames
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft, Newest, PublishResult, Since

_log = Logger()

TOKEN_RATE = 10  # a token that is verified costs as much as so many frames
CHANNELS_PER_FRAME = 10  # (un)subscribing so many channels costs as much as parsing a frame


@implementer(IWebSocketApp)
class JsonApp:
    """
    Executes the client's commands.

    Args:
        context: the daemon.
        names: channels that the websocket is subscribed to from the start.
        fixed: the route names the channels; the client cannot change them.
        publish: channels that clients of the route publish to without a key.
        key: the client's key for publishing to other channels; None for no key.
        grant: of the client; None where it needs none.
        address: of the client.
    """

    __slots__ = (
        "_address",
        "_context",
        "_fixed",
        "_grant",
        "_key",
        "_names",
        "_publish",
        "_websocket",
    )

    def __init__(
        self,
        context: ActionContext,
        names: Sequence[Selector],
        fixed: bool,
        publish: Sequence[str],
        key: Key | None,
        grant: ConnectionGrant | None = None,
        address: str = "",
    ) -> None:
        self._context = context
        self._names = tuple(names)
        self._fixed = fixed
        self._publish = publish
        self._key = key
        self._grant = grant
        self._address = address
        self._websocket: Any = None

    def opened(self, websocket: Any) -> None:
        self._websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        id: CommandId = None
        try:
            if binary:
                raise RemoteProtocolError("commands are text")
            value = read_frame(data)
            id = read_id(value)
            self._execute(read_command(value), id)
        except (RemoteProtocolError, HttpError) as error:
            self._send_error(id, error.status, error.reason)

    def closed(self, code: int, reason: str) -> None:
        self._websocket = None

    def _execute(self, command: Command, id: CommandId) -> None:
        match command:
            case PublishCommand(submission):
                self._publish_message(submission, id)
            case SubscribeCommand():
                self._subscribe(command, id)
            case UnsubscribeCommand(channels):
                self._unsubscribe(frozenset(channels), id)
            case KeyCommand(secret):
                self._key = self._context.publish_keys.authorize(Credentials(secret))
                self._send("ack", id)
            case TokenCommand(token):
                self._renew(token, id)
            case PingCommand():
                self._send("pong", id)

    def _subscribe(self, command: SubscribeCommand, id: CommandId) -> None:
        self._check_not_fixed()
        added = self._context.names.check_all(command.channels, self._names)
        grant = self._grant
        if grant is not None:
            missing = [str(name) for name in added if not grant.covers(name)]
            if missing and grant.asks:
                self._ask(SUBSCRIBE, missing, id, partial(self._subscribe, command, id))
                return
            grant.check_subscribe(missing)
        since: Since | None = parse_start(command.since) if command.since else None
        if since is None and command.history:
            since = Newest(command.history)
        self._websocket.consume_rate(len(added) // CHANNELS_PER_FRAME)
        self._names += tuple(added)
        ack = b"" if id is None else self._format.encode_object({"type": "ack", "id": id})
        self._context.hub.add_channels(self._websocket.subscriber, added, since, ack)

    def _unsubscribe(self, channels: frozenset[str], id: CommandId) -> None:
        self._check_not_fixed()
        # A client may name any number of channels: only subscribed ones cost time.
        removed = [name for name in self._names if name in channels]
        self._websocket.consume_rate(len(removed) // CHANNELS_PER_FRAME)
        self._names = tuple([name for name in self._names if name not in channels])
        self._context.hub.remove_channels(self._websocket.subscriber, removed)
        self._send("ack", id)

    def _ask(
        self, action: str, names: Sequence[str], id: CommandId, then: Callable[[], object]
    ) -> None:
        """
        Call *then* if the application permits *action* for *names*; nothing is read until then.
        """
        assert self._grant is not None
        websocket = self._websocket
        websocket.pause_reading()
        asked = Deferred.fromCoroutine(self._grant.ask(self._context, action, names))

        def answered(result: object) -> None:
            if not websocket.open or self._grant is None:
                return
            websocket.resume_reading()
            try:
                if isinstance(result, Failure):
                    result.raiseException()
                self._note_grant(self._grant)
                then()
            except HttpError as error:
                self._send_error(id, error.status, error.reason)

        asked.addBoth(answered)
        asked.addErrback(self._on_ask_failed)

    def _on_ask_failed(self, failure: Failure) -> None:
        _log.failure("while asking the application", failure)
        if self._websocket is not None:
            self._websocket.close(CloseCode.INTERNAL_ERROR, "internal error")

    def _renew(self, token: str, id: CommandId) -> None:
        """
        Replace the grant, and leave the channels that the new one does not cover.
        """
        grant = self._grant
        if grant is None:
            raise HttpError(401, "tokens are not accepted here")
        self._websocket.consume_rate(TOKEN_RATE)
        grant.renew(token)
        self._note_grant(grant)
        self._send("ack", id)
        self.drop_channels([name for name in self._names if not grant.covers(name)])

    def _note_grant(self, grant: ConnectionGrant) -> None:
        websocket = self._websocket
        websocket.grant = grant.grant
        self._context.hub.set_grant(
            websocket.subscriber,
            grant.grant,
            grant.seconds_left,
            websocket.expire,
            self.drop_channels,
        )

    def drop_channels(self, names: Sequence[Selector]) -> None:
        """
        Unsubscribe the client from those of *names* that it has, and notify it.
        """
        lost = [name for name in self._names if name in names]
        if lost:
            self._names = tuple([name for name in self._names if name not in lost])
            self._context.hub.remove_channels(self._websocket.subscriber, lost)
            self._send("unsubscribed", None, {"channels": [str(name) for name in lost]})

    def _check_not_fixed(self) -> None:
        if self._fixed:
            raise HttpError(403, "the channels here are fixed")

    def _publish_message(self, submission: Submission, id: CommandId) -> None:
        context = self._context
        data = fitting(context, submission.message)
        channels = submission.channels or self._publish
        if not channels:
            raise HttpError(400, "channel is missing")
        # Repeated names are dropped: one frame must not become many messages of a channel.
        channels = context.names.check_all(channels)
        key = self._key
        if submission.key:
            key = context.publish_keys.authorize(Credentials(submission.key))
        grant = self._grant
        missing: list[str] = []
        for channel in channels:
            if channel in self._publish if grant is None else grant.permits(channel):
                continue
            if key is None and grant is not None and grant.asks:
                missing.append(channel)
                continue
            if key is None:
                raise HttpError(403, f"a key is needed to publish to {channel!r}")
            key.check(channel)
        if missing:
            self._ask(PUBLISH, missing, id, partial(self._publish_message, submission, id))
            return
        self._context.publish_rate.consume(self._publisher, self._address, len(channels))
        drafts = [
            Draft(channel, data, submission.event, submission.idempotency_key)
            for channel in channels
        ]
        published = self._websocket.publish(drafts)
        if isinstance(published, PublishResult):
            self._on_published(published, id)
            return
        published.addCallbacks(
            self._on_published, self._on_publish_failed, callbackArgs=(id,), errbackArgs=(id,)
        )

    @property
    def _publisher(self) -> Key | Grant | None:
        return self._key or (self._grant.grant if self._grant is not None else None)

    def _on_published(self, result: PublishResult, id: CommandId) -> None:
        more: dict[str, object] = {"position": str(result.positions[-1])}
        if not result.durable:
            more["durable"] = False
        self._send("ack", id, more)

    def _on_publish_failed(self, failure: Failure, id: CommandId) -> None:
        error = publish_error(failure)
        self._send_error(id, error.status, error.reason)

    @property
    def _format(self) -> JsonFrames:
        format: JsonFrames = self._websocket.subscriber.format
        return format

    def _send(self, kind: str, id: CommandId, more: dict[str, object] | None = None) -> None:
        # A command without an id gets no ack.
        if self._websocket is None or (id is None and kind == "ack"):
            return
        named = {} if id is None else {"id": id}
        self._websocket.write(self._format.encode_object({"type": kind, **named, **(more or {})}))

    def _send_error(self, id: CommandId, status: int, reason: str) -> None:
        self._send("error", id, {"status": status, "reason": reason})
