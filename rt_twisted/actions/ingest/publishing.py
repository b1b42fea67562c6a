"""
How a route takes live publishers, over HTTP and by websocket.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import end_publisher, live_permit
from rt_twisted.actions.ingest.begin_run import PublishingClient, begin_run
from rt_twisted.actions.ingest.intake import LiveIntake, PublisherExchange
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.route_channels import asked_channels, expand_publish_channels
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.publisher_events import Announce, announce_nothing, announce_to
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.live_run import LiveRun


@dataclass(frozen=True, slots=True)
class PublishPermit:
    """
    What a client may publish.

    Args:
        channel: its name.
        match: with the grant of the client, if it has one.
        permit: the key or the grant; the publication ends with a grant.
        announce: called with the states of the publisher.
    """

    channel: str
    match: Match
    permit: Key | Grant
    announce: Announce


@dataclass(frozen=True, slots=True)
class Publishing:
    """
    The arguments of a route for live publishers.

    Args:
        context: the hub and the settings.
        takeover: a new publisher replaces the one that is connected; without it, the new one
            is refused.
        timeout: seconds without bytes after which a publisher is lost; None for the daemon's.
        grace: seconds that viewers wait for a publisher to return; None for the daemon's.
        events: the channel of the messages that applications get about the publisher; None
            for none.

    Raises:
        ValueError: a negative number, or a timeout of 0.
    """

    context: ActionContext
    takeover: bool = False
    timeout: float | None = None
    grace: float | None = None
    events: Template | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError("timeout= must be more than 0")
        if self.grace is not None and not self.grace >= 0:
            raise ValueError("grace= cannot be negative")

    @property
    def timeout_seconds(self) -> float:
        """
        Return the seconds without bytes after which a publisher is lost.
        """
        if self.timeout is not None:
            return self.timeout
        seconds: float = self.context.hub.live.limits().live_timeout
        return seconds

    @property
    def grace_seconds(self) -> float:
        """
        Return the seconds that viewers wait for a publisher to return.
        """
        if self.grace is not None:
            return self.grace
        seconds: float = self.context.hub.live.limits().live_grace
        return seconds

    async def authorize(
        self, exchange: IExchange, match: Match, word: str, publish: Template
    ) -> PublishPermit:
        """
        Return what the client of *exchange* may publish.

        Args:
            exchange: the request.
            match: what the route's pattern matched.
            word: of the route, for an application that is asked.
            publish: the channel.

        Raises:
            HttpError: see `live_permit`; 400, a name is not a channel name.
        """
        context = self.context
        asked = asked_channels(context, (publish,), exchange, match, {})
        permit = await live_permit(context, exchange, word, asked)
        if isinstance(permit, Grant):
            match = match.with_grant(permit)
        [channel] = expand_publish_channels(context, (publish,), exchange, match)
        if isinstance(permit, Key):
            permit.check(channel)
        announce: Announce = announce_nothing
        if self.events is not None:
            events = context.names.check(self.events.expand(exchange, match))
            announce = announce_to(events, context.publish)
        return PublishPermit(channel, match, permit, announce)

    async def claim(
        self, client: PublishingClient, permit: PublishPermit
    ) -> tuple[LivePublisher, LiveRun]:
        """
        Claim the channel of *permit* for *client*; see `begin_run`.

        Args:
            client: the publisher's request.
            permit: from `authorize`.
        """
        publisher, run = await begin_run(
            self.context.hub,
            client,
            permit.channel,
            self.takeover,
            self.timeout_seconds,
            self.grace_seconds,
            permit.announce,
        )
        end_publisher(self.context, publisher, permit.permit)
        return publisher, run

    async def begin(
        self,
        exchange: PublisherExchange,
        permit: PublishPermit,
        raw: bool = False,
        around: tuple[bytes, bytes] = (b"", b""),
        request: Any = None,
    ) -> LiveIntake:
        """
        Claim the channel of *permit* for a client, and return what receives its body.

        Args:
            exchange: the client's.
            permit: from `authorize`.
            raw: the body is not searched for a container.
            around: bytes before and behind each plain message.
            request: for the access log; None if its line is another one.

        Raises:
            HttpError: 403, another publisher has the channel; 503, the broker cannot be
                reached.
            ConnectionLost: the client has disconnected meanwhile.
        """
        publisher, run = await self.claim(exchange, permit)
        return LiveIntake(self.context, exchange, publisher, run, raw, around, request=request)
