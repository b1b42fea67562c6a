"""
The action `icecast`: a mount, to which a source publishes and listeners connect.
"""

from __future__ import annotations

import codecs
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key, is_foreign
from rt_twisted.access.secrets import secret
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted, live_permit
from rt_twisted.actions.icecast.listener_response import ListenerOptions, listen
from rt_twisted.actions.icecast.source_request import SourceOptions, receive_source
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_static_channels,
    expand_channel,
    expand_publish_channels,
)
from rt_twisted.actions.template import Template
from rt_twisted.codecs.basic_auth import CHALLENGE, basic_password
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class IcecastAction:
    """
    Serve mounts: `icecast:CHANNEL`, or `icecast:channel=radio/$1,password=env:SOURCE_PASSWORD`.

    PUT, SOURCE and POST publish MP3, AAC, Ogg or WebM, GET listens.

    Args:
        context: the hub and the settings.
        channel: of the mount.
        password: of sources, also `file:PATH` or `env:NAME`. Without one, sources need a
            publish key; a publish key is accepted in any case.
        takeover: a new source replaces the one that is connected; without it, the new one
            is refused.
        burst: seconds of the stream that a listener is sent at once, so that it starts to play.
        wait: seconds to wait for a source before a listener gets 404.
        behind: bytes that may wait for a listener before it skips; None for the daemon's
            `backlog-bytes`.
        max: listeners of a mount on this process; 0 for no limit.
        charset: of the titles that MP3 and AAC listeners are sent.
        fallback: path of the mount to which listeners move while this one has no source.
        events: channel of the messages that applications get: the states of the source, and
            its titles.
    """

    context: ActionContext
    channel: Template
    password: str = field(default="", repr=False)
    takeover: bool = False
    burst: float = 4.0
    wait: float = 1.0
    behind: int | None = None
    max: int = 0
    charset: str = "utf-8"
    fallback: str = ""
    events: Template | None = None

    bare: ClassVar[str] = "channel"
    publishes: ClassVar[bool] = True
    ingest: ClassVar[bool] = True
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET", "PUT", "SOURCE", "POST")

    def __post_init__(self) -> None:
        for name in ("burst", "wait", "behind", "max"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name}= cannot be negative")
        if self.fallback and not self.fallback.startswith("/"):
            raise ValueError("fallback= is the path of a mount, such as /silence.mp3")
        channels = (self.channel,) if self.events is None else (self.channel, self.events)
        check_static_channels(channels, self.context)
        try:
            object.__setattr__(self, "charset", codecs.lookup(self.charset).name)
            "x".encode(self.charset)
        except (LookupError, TypeError):
            raise ValueError(f"charset={self.charset} is not a character set") from None
        try:
            object.__setattr__(self, "password", secret(self.password))
        except ValueError as error:
            raise ValueError(f"password= must be {error}") from None

    def channel_of(self, exchange: IExchange, match: Match) -> str:
        """
        Return the channel of a mount, without a check of who sends the request.

        Raises:
            HttpError: 400, its name is not allowed.
        """
        return self.context.names.check(self.channel.expand(exchange, match))

    def fallback_of(self, exchange: IExchange) -> str:
        """
        Return the channel of the fallback mount; "" without one on the same server.
        """
        found = exchange.find("GET", self.fallback) if self.fallback else None
        if found is None or not isinstance(found[0], IcecastAction):
            return ""
        if found[0].context.hub is not self.context.hub:
            return ""
        channel: str = found[0].channel_of(exchange, found[1])
        return channel

    async def authorize(self, exchange: IExchange, match: Match) -> tuple[str, Key | Grant]:
        """
        Return the channel of a mount to which a request may publish, and by what it may: the
        password, a publish key, or a token if the route has `allow=`.

        Raises:
            HttpError: 401 with a challenge for Basic; 403, see `Keys.authorize`; 400, the name
                of the channel is not allowed.
        """
        context = self.context
        if has_password(exchange, self.password):
            permit: Key | Grant = Key.of(self.password)
        elif self.password and not len(context.publish_keys) and not context.gate.own:
            raise HttpError(401, "a source needs the password of the mount", [CHALLENGE])
        else:
            asked = asked_channels(context, (self.channel,), exchange, match, {})
            permit = await live_permit(context, exchange, "icecast", asked)
        if isinstance(permit, Grant):
            match = match.with_grant(permit)
        [channel] = expand_publish_channels(context, (self.channel,), exchange, match)
        if isinstance(permit, Key):
            permit.check(channel)
        return channel, permit

    def act(self, exchange: IExchange, match: Match) -> object:
        if exchange.method in ("GET", "HEAD"):
            context, act = self.context, partial(self._listen, exchange)
            asked = partial(asked_channels, context, (self.channel,), exchange, match, {})
            return granted(context, exchange, match, act, "icecast", asked)
        return self._receive(exchange, match)

    async def _listen(self, exchange: IExchange, match: Match) -> None:
        options = ListenerOptions(
            expand_channel(self.context, self.channel, exchange, match),
            self.fallback_of(exchange),
            self.charset,
            self.burst,
            self.wait,
            self.behind,
            self.max,
        )
        await listen(self.context, exchange, options, match.grant)

    async def _receive(self, exchange: IExchange, match: Match) -> None:
        if exchange.length == 0 and exchange.header("authorization") is None:
            # libshout asks first what it needs, with the length of its request.
            raise HttpError(401, "a source needs a password", [CHALLENGE])
        channel, permit = await self.authorize(exchange, match)
        if exchange.length == 0:
            raise HttpError(400, "the request has no audio: leave Content-Length out")
        options = self.source_options(exchange, match, channel)
        await receive_source(self.context, exchange, options, permit)

    def source_options(self, exchange: IExchange, match: Match, channel: str) -> SourceOptions:
        """
        Return what the mount does with a source, which publishes to *channel*.

        Raises:
            HttpError: 400, the name of the channel of events is not allowed.
        """
        events = "" if self.events is None else self.events.expand(exchange, match)
        return SourceOptions(
            channel,
            exchange.path,
            self.takeover,
            0.0 if self.fallback else None,
            self.context.names.check(events) if events else "",
        )


def has_password(exchange: IExchange, password: str) -> bool:
    """
    Return whether a request has *password* by Basic, with any user name; False if that is "", or
    if a page of another host sends the request: browsers add a password that they know.
    """
    if is_foreign(exchange):
        return False
    given = basic_password(exchange.header("authorization"))
    if not given or not password:
        return False
    return hmac.compare_digest(given, password.encode())
