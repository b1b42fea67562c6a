"""
Actions and resources of a user's own, as route lines name them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Echo:
    """
    Answers with what was asked; `Echo:text=A,times=2`.
    """

    text: Template | None = None
    times: int = 1
    asked: list[str] = field(default_factory=list)

    bare: ClassVar[str] = "text"
    methods: ClassVar[Sequence[str]] = ("GET", "POST")

    async def act(self, exchange: IExchange, match: Match) -> None:
        """
        Read the body, then answer as JSON.
        """
        self.asked.append(exchange.path)
        body = await exchange.read(1 << 20)
        text = self.text.expand(exchange, match) if self.text else ""
        said = {
            "path": exchange.path,
            "query": exchange.query(),
            "body": body.decode("latin-1"),
            "text": text * self.times,
        }
        exchange.answer(200, json.dumps(said).encode(), "application/json")


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Later:
    """
    Leaves the answer, and the body, to the test.
    """

    waiting: list[IExchange] = field(default_factory=list)

    methods: ClassVar[Sequence[str]] = ("GET", "POST")

    def act(self, exchange: IExchange, match: Match) -> None:
        self.waiting.append(exchange)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Refusing:
    """
    Answer with the error status of its argument (`Refusing:status=400`), or raise an exception.
    """

    status: int = 0

    methods: ClassVar[Sequence[str]] = ("GET", "POST")

    def act(self, exchange: IExchange, match: Match) -> None:
        if self.status:
            raise HttpError(self.status, "not today")
        raise ZeroDivisionError


@implementer(IAction)
class Plain:
    """
    An action that is not a dataclass.
    """

    methods = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Do nothing: no test calls it.
        """


@dataclass
class Deaf:
    """
    A dataclass that is not an action.
    """


@implementer(IAction)
@dataclass
class Mute:  # type: ignore[misc]  # that is the point
    """
    Says that it is an action, and lacks everything.
    """


@implementer(IAction)
@dataclass
class Odd:
    """
    Has an argument of a type that no line of text can give.
    """

    where: Callable[[], None]

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Do nothing: no test calls it.
        """


class Desk(Resource):
    """
    A resource that waits until the test lets it answer.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's
        self.requests: list[Request] = []
        self.ends: list[Any] = []  # what notifyFinish gave, by request

    def render(self, request: Request) -> Any:
        """
        Keep *request* open until the test answers it.
        """
        self.requests.append(request)
        request.notifyFinish().addBoth(self.ends.append)
        return NOT_DONE_YET


class Form(Resource):
    """
    Answers a form with its field `name`.
    """

    isLeaf = True

    def render_POST(self, request: Request) -> bytes:
        """
        Part of a resource.
        """
        args: dict[bytes, list[bytes]] = request.args or {}
        return b", ".join(args.get(b"name", [b"nobody"]))


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """
    A WSGI application: where it is mounted, what it was asked and sent.
    """
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']} ".encode(), body]
