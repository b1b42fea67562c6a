"""
The hub's numbers, in cyclone-sse's shape.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.house import House
from rt_twisted.interfaces import IAction, IExchange, Match


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Stats:
    """
    `stats`: a JSON array of `[channel, readers]`, channels with readers only.
    """

    house: House

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer, to who may see it.
        """
        secret = exchange.query().get("key", [""])[-1]
        self.house.observers.check(exchange, secret.encode(), ())
        channels = self.house.hub.numbers().channels
        body = json.dumps(sorted(channels.items())).encode() + b"\n"
        exchange.answer(200, body, "application/json", [("Cache-Control", "no-store")])
