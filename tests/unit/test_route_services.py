"""
Actions that are services: the order of stopping and starting, and errors in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import classImplements, implementer

from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError
from rt_twisted.routes import Routes, RouteServices, parse_route
from tests.defaults import make_context, make_hub

NAME = f"{__name__}.Recorded"
EVENTS: list[str] = []
STOPPING: list[Deferred[None]] = []


@implementer(IAction)
@dataclass(eq=False)
class Recorded(Service):
    """
    Record its starts and stops; stop when the test says so.
    """

    label: str

    bare: ClassVar[str] = "label"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None: ...

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        EVENTS.append(f"start {self.label}")
        if self.label == "broken":
            raise RuntimeError("this one does not start")

    def stopService(self) -> Deferred[None]:
        super().stopService()  # type: ignore[no-untyped-call]
        EVENTS.append(f"stop {self.label}")
        STOPPING.append(Deferred())
        return STOPPING[-1]


@implementer(IAction)
@dataclass
class NotQuite:
    """
    Claim to be a service without being one.
    """

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None: ...


class Reloads:
    """
    Routes that are replaced as a reload replaces them.
    """

    def __init__(self, *labels: str) -> None:
        EVENTS.clear()
        STOPPING.clear()
        clock = Clock()
        self.context = make_context(make_hub(MemoryBroker(clock, "e"), clock), clock)
        self.routes = self._build(labels)
        self.services = RouteServices(self.routes)
        self.services.startService()  # type: ignore[no-untyped-call]

    def _build(self, labels: Sequence[str]) -> Routes:
        return Routes([parse_route(f"^/ {NAME}:{label}", self.context) for label in labels])

    def reload(self, *labels: str) -> list[str]:
        """
        Return what was started and stopped at once.
        """
        EVENTS.clear()
        self.routes = self._build(labels).keep_services(self.routes)
        self.services.replace(self.routes)
        return list(EVENTS)


def test_new_services_start_when_the_old_ones_have_stopped() -> None:
    """
    A new service may need a port or file that the old one holds.
    """
    reloads = Reloads("a", "b")
    assert EVENTS == ["start a", "start b"]

    assert reloads.reload("b", "c") == ["stop a"]
    STOPPING.pop().callback(None)
    assert EVENTS == ["stop a", "start c"]


def test_a_route_answers_503_until_its_service_is_started() -> None:
    """
    Requests never reach an action whose service waits for another one to stop.
    """
    reloads = Reloads("a")
    reloads.reload("b")

    found = reloads.routes.find("GET", "/")
    assert isinstance(found, tuple)
    exchange: Any = None
    with pytest.raises(HttpError, match="being started") as refused:
        found[0].act(exchange, found[1])
    assert (refused.value.status, refused.value.retry) == (503, 1)

    STOPPING.pop().callback(None)
    found = reloads.routes.find("GET", "/")
    assert isinstance(found, tuple) and found[0].label == "b"


def test_a_reload_while_services_stop() -> None:
    """
    A service that is gone before it could start is never started; others start once.
    """
    reloads = Reloads("a")
    assert reloads.reload("b", "c") == ["stop a"]
    assert reloads.reload("c", "d") == ["start c", "start d"]

    EVENTS.clear()
    STOPPING.pop().callback(None)
    assert EVENTS == []


def test_a_service_that_fails_is_logged(clean_reactor: list[Failure]) -> None:
    """
    The other services are started all the same.
    """
    reloads = Reloads("a")
    reloads.reload("broken", "b")
    STOPPING.pop().errback(RuntimeError("this one does not stop"))

    assert EVENTS == ["stop a", "start broken", "start b"]
    texts = [failure.getErrorMessage() for failure in clean_reactor]
    assert texts == ["this one does not stop", "this one does not start"]
    clean_reactor.clear()


@pytest.mark.parametrize("settings", [{}, {"trim": True}])
def test_actions_without_a_context_are_kept(settings: dict[str, Any]) -> None:
    """
    No setting reaches them, so a reload with other settings keeps them too.
    """
    reloads = Reloads("a")
    reloads.context = make_context(reloads.context.hub, **settings)

    assert reloads.reload("a") == []


def test_a_service_is_checked_at_start() -> None:
    """
    A class that provides `IService` without its methods is a wrong route line.
    """
    classImplements(NotQuite, IService)  # type: ignore[misc]  # which is the mistake
    context = Reloads().context
    with pytest.raises(ValueError, match="NotQuite is not an action"):
        parse_route(f"^/ {__name__}.NotQuite", context)
