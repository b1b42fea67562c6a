"""
The action `streams`: which live streams there are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import viewer_keys
from rt_twisted.http.interfaces import IExchange


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class StreamsAction:
    """
    List the live streams whose channels begin with a prefix: `streams:live/`.

    The response is JSON: `{"streams": ["cam"]}`, the names behind the prefix in order. These
    are the streams that are published on this node, or viewed there; where clients need a
    grant, only those that it covers.

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

    def _answer(self, exchange: IExchange, match: Match) -> None:
        keys = viewer_keys(self.view_key)
        if keys is not None:
            keys.authorize_live(exchange)
        names = filter(match.grant.covers, self.context.hub.live.names(self.prefix))
        found = {"streams": sorted([name.removeprefix(self.prefix) for name in names])}
        exchange.answer(200, json.dumps(found).encode() + b"\n", "application/json", NO_STORE)
