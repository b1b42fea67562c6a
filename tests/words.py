"""
Actions and resources for tests, named by dotted names in route lines.
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
    Responds with the request as JSON; `Echo:text=A,times=2`.
    """

    text: Template | None = None
    times: int = 1
    paths: list[str] = field(default_factory=list)

    bare: ClassVar[str] = "text"
    methods: ClassVar[Sequence[str]] = ("GET", "POST")

    async def act(self, exchange: IExchange, match: Match) -> None:
        """
        Respond with path, query, body and text as JSON.
        """
        self.paths.append(exchange.path)
        body = await exchange.read(1 << 20)
        text = self.text.expand(exchange, match) if self.text else ""
        content = {
            "path": exchange.path,
            "query": exchange.query(),
            "body": body.decode("latin-1"),
            "text": text * self.times,
        }
        exchange.answer(200, json.dumps(content).encode(), "application/json")


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Later:
    """
    Leaves the response, and reading the body, to the test.
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
class NoAction:
    """
    A dataclass that does not provide `IAction`.
    """


@implementer(IAction)
@dataclass
class EmptyAction:  # type: ignore[misc]  # on purpose
    """
    Claims to provide `IAction` and implements nothing of it.
    """


@implementer(IAction)
@dataclass
class Unparsable:
    """
    Has an argument of a type that a route line cannot express.
    """

    where: Callable[[], None]

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Do nothing: no test calls it.
        """


class PendingResource(Resource):
    """
    A resource that responds when the test does.
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
    Responds with the field `name` of a form.
    """

    isLeaf = True

    def render_POST(self, request: Request) -> bytes:
        """
        Respond with the field `name`.
        """
        args: dict[bytes, list[bytes]] = request.args or {}
        return b", ".join(args.get(b"name", [b"nobody"]))


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """
    A WSGI application that responds with its mount point, the path and the body.
    """
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']} ".encode(), body]
