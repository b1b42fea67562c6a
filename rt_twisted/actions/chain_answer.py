"""
Lines that answer a request themselves: `break:403 Forbidden`, `return:404`, `redirect:URL`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar
from urllib.parse import quote

from zope.interface import implementer

from rt_twisted.actions.any_method import ANY_METHOD
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError

TEXT = "text/plain; charset=utf-8"

_URL = "%/:?#[]@!$&'()*+,;=~"  # characters of a URL that stay as they are (RFC 3986, 2)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class AnswerAction:
    """
    Answer with a fixed status.

    Args:
        status: of the response.
        body: one line of text; "" for none, but for errors.
        location: of a redirect; None elsewhere.
    """

    status: int
    body: str = ""
    location: Template | None = None

    methods: ClassVar[Collection[str]] = ANY_METHOD

    def act(self, exchange: IExchange, match: Match) -> None:
        if self.location is not None:
            url = quote(self.location.expand(exchange, match), safe=_URL)
            exchange.answer(self.status, self.body.encode(), TEXT, [("Location", url)])
            return
        if self.status >= 400:
            raise HttpError(self.status, self.body or phrase_of(self.status))
        exchange.answer(self.status, self.body.encode(), TEXT if self.body else "")


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class NoAction:
    """
    Stands for the end of a chain whose lines have done something, but chosen no action.
    """

    methods: ClassVar[Collection[str]] = ()

    def declines(self, exchange: IExchange) -> bool:
        """
        Return that the request is handled as if no route had its path.
        """
        return True

    def act(self, exchange: IExchange, match: Match) -> None:
        raise HttpError(404, "not found")


def phrase_of(status: int) -> str:
    """
    Return the standard reason phrase of *status*; "error" if there is none.
    """
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "error"
