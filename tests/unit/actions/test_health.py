"""
Alive and ready are two questions.
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
from tests.unit.http.test_h1 import Caller

EVERYBODY = [HERE, "192.0.2.1"]


@implementer(IReady)
class Absent(MemoryBroker):
    """
    The embedded broker, as one that can be away.
    """

    there = False

    def ready(self) -> bool:
        """
        See `IReady.ready`.
        """
        return self.there


@implementer(IRefusing)
class Full(MemoryBroker):
    """
    The embedded broker, as one that can be full.
    """

    full = True

    def refuses(self) -> bool:
        """
        See `IRefusing.refuses`.
        """
        return self.full


def test_they_are_actions() -> None:
    """
    Routes check that.
    """
    clock = Clock()

    assert verifyObject(IAction, LivenessAction())
    assert verifyObject(
        IAction, ReadinessAction(make_context(make_hub(MemoryBroker(clock, "e"), clock)))
    )
    assert verifyObject(IReady, Absent(clock, "e"))
    assert verifyObject(IRefusing, Full(clock, "e"))


@pytest.mark.parametrize("address", EVERYBODY)
def test_all_is_well(address: str) -> None:
    """
    Both answer everybody, without a key.
    """
    place = Place()

    assert place.ask("/healthz", b"", address) == (200, b"alive\n")
    assert place.ask("/readyz", b"", address) == (200, b"ready\n")


def test_an_embedded_broker_is_always_there() -> None:
    """
    It does not provide `IReady`, and need not.
    """
    assert not IReady.providedBy(MemoryBroker(Clock(), "e"))
    assert Place().hub.why_not_ready() == ""


def test_a_broker_that_is_away() -> None:
    """
    Nobody should be sent here, and nobody should start us again for it.
    """
    broker = Absent(Clock(), "e")
    place = Place(broker=broker)

    away = place.ask("/readyz", b"")
    alive = place.ask("/healthz", b"")
    broker.there = True

    assert away == (503, b"broker\n")
    assert alive == (200, b"alive\n")
    assert place.ask("/readyz", b"") == (200, b"ready\n")


def test_a_broker_that_takes_nothing() -> None:
    """
    Readers should go on to be sent here: they get what there is. Watchers see it.
    """
    broker = Full(Clock(), "e")
    place = Place(broker=broker)

    assert place.ask("/readyz", b"") == (200, b"ready\n")
    assert place.said("/stats?format=full")["broker"] == {"ready": True, "refuses": True}
    assert b"\nrealtime_broker_refuses 1.0\n" in place.ask("/metrics")[1]
    broker.full = False
    assert place.said("/stats?format=full")["broker"] == {"ready": True, "refuses": False}
    assert b"\nrealtime_broker_refuses 0.0\n" in place.ask("/metrics")[1]


def test_a_daemon_that_stops() -> None:
    """
    Is alive until it is not.
    """
    place = Place()
    place.hub.stop(0)

    assert place.ask("/readyz", b"") == (503, b"stopping\n")
    assert place.ask("/healthz", b"") == (200, b"alive\n")


@pytest.mark.parametrize("path", [b"/healthz", b"/readyz"])
def test_watchers_that_ask_by_head(path: bytes) -> None:
    """
    The status is all they want; nothing in between remembers it.
    """
    caller = Caller(Place().server).say(b"HEAD %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)

    (answer,) = caller.heard("HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"
