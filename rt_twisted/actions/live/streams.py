"""
The action `streams`: which live streams there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import deferLater
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import viewer_keys
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.live_directory import INTERVAL, LiveDirectory
from rt_twisted.hub.peer_bus import PeerBus
from rt_twisted.hub.watch import watch_channel
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import STREAMS

_MARGIN = 0.5  # seconds that an announcement takes at most


class OtherNodes:
    """
    Receives which live streams other nodes have, from the first request on.

    Args:
        context: the hub and the reactor.

    Attributes:
        directory: of the streams.
    """

    def __init__(self, context: ActionContext) -> None:
        self.directory = LiveDirectory(context.hub.seconds)
        self._clock = context.reactor
        self._known_at = 0.0
        self.expect_all()
        bus = PeerBus(STREAMS, context.hub.publish, context.reactor, self.directory.receive)
        watch_channel(context.hub, STREAMS, bus.receive)

    def expect_all(self) -> None:
        """
        Note that nodes which are not known may announce their streams, each at its interval.
        """
        self._known_at = self._clock.seconds() + INTERVAL + _MARGIN

    @property
    def known(self) -> Deferred[None]:
        """
        Return what fires when all nodes have announced their streams once.
        """
        delay = self._known_at - self._clock.seconds()
        return deferLater(self._clock, delay) if delay > 0 else succeed(None)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class StreamsAction:
    """
    List the live streams whose channels begin with a prefix: `streams:live/`.

    The response is JSON: `{"streams": ["cam"]}`, the names behind the prefix in order. These
    are the streams of all nodes that share a broker; where clients need a grant, only those
    that it covers. While the broker is away, the response is 503.

    Args:
        context: the hub and the settings.
        prefix: of the channels.
        view_key: a secret that the request needs, also `file:PATH` or `env:NAME`; "" for none.
    """

    context: ActionContext
    prefix: str
    view_key: str = ""

    bare: ClassVar[str] = "prefix"
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        viewer_keys(self.view_key)

    def act(self, exchange: IExchange, match: Match) -> object:
        act = partial(self._answer, exchange)
        return granted(self.context, exchange, match, act, "streams")

    def _answer(self, exchange: IExchange, match: Match) -> object:
        keys = viewer_keys(self.view_key)
        if keys is not None:
            keys.authorize_live(exchange)
        live = self.context.hub.live
        if not live.shared:
            self._list(exchange, match, live.names(self.prefix))
            return None
        context = self.context
        nodes = context.shared.get(OtherNodes, partial(OtherNodes, context), context.hub)
        # The announcements of this node are among those that it receives.
        return nodes.known.addCallback(lambda _: self._list_known(exchange, match, nodes))

    def _list_known(self, exchange: IExchange, match: Match, nodes: OtherNodes) -> None:
        if self.context.hub.why_not_ready() == "broker":
            nodes.expect_all()
            raise HttpError(503, "the broker is not available", retry=2)
        self._list(exchange, match, nodes.directory.names(self.prefix))

    def _list(self, exchange: IExchange, match: Match, channels: Iterable[str]) -> None:
        if exchange.answered:
            return
        names = filter(match.grant.covers, channels)
        found = {"streams": sorted([name.removeprefix(self.prefix) for name in names])}
        exchange.answer(200, json.dumps(found).encode() + b"\n", "application/json", NO_STORE)
