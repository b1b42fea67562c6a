"""
Two questions of whoever watches the daemon: is it alive, may it be sent somebody?

They differ on purpose. Who is not alive is started again, and loses all its
readers; who is not ready is left alone until it is. So the first answers as long
as the reactor turns, whatever else is the matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange

_TEXT = "text/plain; charset=utf-8"


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class LivenessAction:
    """
    `alive`: 200, from everywhere, to everybody.
    """

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer: that is all there is to it.
        """
        exchange.answer(200, b"alive\n", _TEXT, NO_STORE)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class ReadinessAction:
    """
    `ready`: 200 while readers and publishers may be sent here; else 503 and one
    word: `stopping`, or `broker` while that is away. Open to everybody.
    """

    context: ActionContext

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer from what is known.
        """
        why_not = self.context.hub.why_not_ready()
        if why_not:
            exchange.answer(503, f"{why_not}\n".encode(), _TEXT, NO_STORE)
        else:
            exchange.answer(200, b"ready\n", _TEXT, NO_STORE)
