"""
Messages between the parent and a worker.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IReady
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.metrics.snapshot import Snapshot, StatsQuery
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft
from rt_twisted.workers.control import ControlClient
from rt_twisted.workers.control_channel import ControlChannel
from tests.defaults import make_hub
from tests.turns import run_turn


def test_a_congested_channel_drops_what_may_be_dropped() -> None:
    """
    While the other end does not read, only messages that must arrive are queued.
    """
    channel = ControlChannel(lambda channel, message: None, lambda channel: None)
    transport = StringTransport()
    channel.makeConnection(transport)  # type: ignore[no-untyped-call]
    assert channel.send_unless_congested("report", n=1)
    channel.pauseProducing()
    assert not channel.send_unless_congested("report", n=2)
    channel.send("ready")
    channel.resumeProducing()
    assert channel.send_unless_congested("report", n=3)

    received: list[Any] = []
    other = ControlChannel(lambda channel, message: received.append(message), lambda channel: None)
    other.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
    for byte in transport.value():
        other.dataReceived(bytes([byte]))  # type: ignore[no-untyped-call]
    assert [each.get("n", each["what"]) for each in received] == [1, "ready", 3]


async def test_a_query_without_an_answer_fails() -> None:
    """
    A worker whose parent hangs responds 503 after a while, and forgets the query.
    """
    clock = Clock()
    control = ControlClient(clock, -1, make_hub(MemoryBroker(clock, "e"), clock))
    control._channel.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
    answer: Deferred[Snapshot] = control.ask(StatsQuery())
    clock.advance(10)

    with pytest.raises(HttpError) as refused:
        await answer
    assert refused.value.status == 503
    assert control._queries == {}


class UnreachableBroker(MemoryBroker):
    """
    A broker that is unreachable at first.
    """

    reachable = False

    def ready(self) -> bool:
        return self.reachable


def waiting_for_broker() -> tuple[Clock, UnreachableBroker, ControlClient, StringTransport]:
    """
    Return the control client of a worker that has waited for its broker for a second.
    """
    clock = Clock()
    broker = implementer(IReady)(UnreachableBroker)(clock, "e")
    control = ControlClient(clock, -1, make_hub(broker, clock))
    transport = StringTransport()
    control._channel.makeConnection(transport)  # type: ignore[no-untyped-call]
    control.ready()
    clock.pump([0.1] * 10)
    return clock, broker, control, transport


@pytest.mark.parametrize("connects", [True, False])
def test_a_worker_is_ready_when_its_broker_is(connects: bool) -> None:
    """
    If the broker stays unreachable, the worker is ready after a while.
    """
    clock, broker, control, transport = waiting_for_broker()
    assert b"ready" not in transport.value()
    broker.reachable = connects
    clock.pump([0.1] * (1 if connects else 25))

    assert transport.value().count(b"ready") == 1
    control.stopService()
    assert clock.getDelayedCalls() == []


def test_a_stopping_worker_is_not_reported_as_ready() -> None:
    """
    Otherwise new connections would be sent to it.

    This includes a worker that waited for the broker and was reloaded.
    """
    clock, _, control, transport = waiting_for_broker()
    control.ready()
    control.stopService()
    clock.pump([0.1] * 50)

    assert b"ready" not in transport.value()


class BusyClock(Clock):
    """
    A clock on which each look takes two milliseconds.
    """

    def seconds(self) -> float:
        self.rightNow += 0.002
        return self.rightNow


def test_a_report_of_many_channels_is_made_in_slices() -> None:
    """
    Other clients are served in between.
    """
    clock = BusyClock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    hub.publish([Draft(f"channel-{number}", b"x") for number in range(5000)])
    control = ControlClient(clock, -1, hub)
    transport = StringTransport()
    control._channel.makeConnection(transport)  # type: ignore[no-untyped-call]
    control._on_message(control._channel, {"what": "report", "round": 7})
    turns = 0
    while not transport.value():
        run_turn(clock)
        turns += 1
        assert turns < 20

    assert turns >= 2
    report = json.loads(transport.value()[4:])
    assert (report["what"], report["round"]) == ("report", 7)
    _, shown, _ = report["report"]
    assert len(shown) == 5000
