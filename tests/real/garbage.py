"""
An action that reports what only the garbage collector can free, as a user might load it.

    --route='^/garbage$ tests.real.garbage.ReportGarbage'
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.tcp import Server
from zope.interface import implementer

from rt_twisted.api import ActionContext, IAction, IExchange, Match


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class ReportGarbage:
    """
    Switch the garbage collector off, and report what it would have collected since the last
    request: classes of the daemon by name, and the connections that are open.
    """

    context: ActionContext
    methods: ClassVar[Sequence[str]] = ("GET",)

    async def act(self, exchange: IExchange, match: Match) -> None:
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found = Counter(
            type(each).__name__
            for each in gc.garbage
            if type(each).__module__.startswith(("rt_twisted", "twisted.internet.tcp"))
        )
        gc.garbage.clear()
        gc.set_debug(0)
        gc.collect()
        connections = sum(issubclass(type(each), Server) for each in gc.get_objects())
        body = json.dumps({"garbage": found, "connections": connections})
        exchange.answer(200, body.encode(), "application/json")
