"""
Liveness and readiness probes.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rt_twisted.actions.health import LivenessAction, ReadinessAction
from rt_twisted.actions.interfaces import IAction
from rt_twisted.brokers.interfaces import IReady, IRefusing
from rt_twisted.brokers.memory import MemoryBroker
from tests.defaults import make_context, make_hub
from tests.unit.actions.test_stats import HERE, Place
from tests.unit.http.clients import Caller

OPEN_ROUTES = [HERE, "192.0.2.1"]


@implementer(IReady)
class Absent(MemoryBroker):
    """
    An embedded broker that can be unavailable.
    """

    there = False

    def ready(self) -> bool:
        return self.there


@implementer(IRefusing)
class Full(MemoryBroker):
    """
    An embedded broker that can be full.
    """

    full = True

    def refuses(self) -> bool:
        return self.full


def test_probes_are_actions() -> None:
    """
    Both provide `IAction`.
    """
    clock = Clock()

    assert verifyObject(IAction, LivenessAction())
    assert verifyObject(
        IAction, ReadinessAction(make_context(make_hub(MemoryBroker(clock, "e"), clock)))
    )
    assert verifyObject(IReady, Absent(clock, "e"))
    assert verifyObject(IRefusing, Full(clock, "e"))


@pytest.mark.parametrize("address", OPEN_ROUTES)
def test_a_healthy_daemon(address: str) -> None:
    """
    Both probes answer 200 to every client, without a key.
    """
    place = Place()

    assert place.ask("/healthz", b"", address) == (200, b"alive\n")
    assert place.ask("/readyz", b"", address) == (200, b"ready\n")


def test_an_embedded_broker_is_always_ready() -> None:
    """
    The embedded broker does not provide `IReady`, and need not.
    """
    assert not IReady.providedBy(MemoryBroker(Clock(), "e"))
    assert Place().hub.why_not_ready() == ""


def test_an_unavailable_broker() -> None:
    """
    The daemon is not ready, but alive: a restart would not help.
    """
    broker = Absent(Clock(), "e")
    place = Place(broker=broker)

    away = place.ask("/readyz", b"")
    alive = place.ask("/healthz", b"")
    broker.there = True

    assert away == (503, b"broker\n")
    assert alive == (200, b"alive\n")
    assert place.ask("/readyz", b"") == (200, b"ready\n")


def test_a_broker_that_rejects_messages() -> None:
    """
    The daemon stays ready, as subscribers get all there is. The metrics show the state.
    """
    broker = Full(Clock(), "e")
    place = Place(broker=broker)

    assert place.ask("/readyz", b"") == (200, b"ready\n")
    assert place.get_json("/stats?format=full")["broker"] == {"ready": True, "refuses": True}
    assert b"\nrealtime_broker_refuses 1.0\n" in place.ask("/metrics")[1]
    broker.full = False
    assert place.get_json("/stats?format=full")["broker"] == {"ready": True, "refuses": False}
    assert b"\nrealtime_broker_refuses 0.0\n" in place.ask("/metrics")[1]


def test_a_daemon_that_stops() -> None:
    """
    A daemon that stops is alive until it ends.
    """
    place = Place()
    place.hub.stop(0)

    assert place.ask("/readyz", b"") == (503, b"stopping\n")
    assert place.ask("/healthz", b"") == (200, b"alive\n")


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
def test_probes_by_head(path: bytes) -> None:
    """
    HEAD gets the status, and no cache stores it.
    """
    caller = Caller(Place().server).send(b"HEAD %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)

    (answer,) = caller.responses("HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
