"""
Tests of `rt_twisted.hub.live_peers`: three processes on one broker.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import Clock

from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.live_peers import GONE, KEPT, LivePeers
from rt_twisted.hub.peer_bus import REPLY_SECONDS
from rt_twisted.model.internal_channels import LIVE
from rt_twisted.model.message import Draft
from tests.defaults import make_hub
from tests.unit.hub.shared_broker import SharedBroker


class Processes:
    """
    Processes that share a broker; each but the first has streams, which it names after itself.
    """

    def __init__(self, count: int) -> None:
        self.clock = Clock()
        self.broker = SharedBroker(self.clock)
        self.hubs: list[Hub] = [make_hub(self.broker, self.clock) for _ in range(count)]
        self.peers = [LivePeers(hub, self.clock) for hub in self.hubs]
        self.asked = [0] * count
        for number, one in enumerate(self.peers):
            self._start(number, one)

    def _start(self, number: int, one: LivePeers) -> None:
        async def answer(arguments: Mapping[str, str]) -> Sequence[Any]:
            self.asked[number] += 1
            return [f"{arguments['of']}{number}"]

        one.on_request("names", answer, lambda: number)
        self.hubs[number].start()
        one.startService()

    def turn(self, seconds: float = 0.0) -> None:
        for _ in range(6):
            self.clock.advance(0)
        while seconds > 0:
            self.clock.advance(0.1)
            seconds -= 0.1
        for _ in range(6):
            self.clock.advance(0)

    def ask(self, often: bool = False) -> Deferred[Sequence[Any]]:
        one = self.peers[0]
        ask = one.request_shared if often else one.request
        asked: Deferred[Any] = ensureDeferred(ask("names", of="x"))
        self.turn()
        return asked


def result(asked: Deferred[Sequence[Any]]) -> Sequence[Any]:
    found: Any = asked.result
    return sorted(found)


def test_all_that_are_known_have_answered() -> None:
    """
    The answer is there at once, as soon as all processes with streams have announced themselves.
    """
    processes = Processes(3)
    processes.turn(1.1)
    first = processes.ask()
    assert not first.called
    processes.turn(REPLY_SECONDS + 0.1)
    assert result(first) == ["x1", "x2"]
    processes.turn(2.0)

    assert result(processes.ask()) == ["x1", "x2"]


def test_a_process_that_is_gone_is_awaited_for_a_moment() -> None:
    """
    Then not at all; what the others answer is there in any case.
    """
    processes = Processes(3)
    processes.ask()
    processes.turn(3.0)
    processes.peers[2].stopService()
    processes.hubs[2].stop(0)

    asked = processes.ask()
    assert not asked.called
    processes.turn(REPLY_SECONDS + 0.1)
    assert result(asked) == ["x1"]
    processes.turn(GONE + 1)
    assert result(processes.ask()) == ["x1"]


def test_clients_that_ask_often_share_a_request() -> None:
    """
    The same answer serves for a second.
    """
    processes = Processes(2)
    processes.turn(1.1)
    asked = [processes.ask(often=True) for _ in range(50)]
    processes.turn(REPLY_SECONDS + 0.1)
    asked += [processes.ask(often=True)]

    assert [result(one) for one in asked] == [["x1"]] * 51
    assert processes.asked == [0, 1]
    processes.turn(KEPT + 0.1)
    processes.ask(often=True)
    assert processes.asked == [0, 2]


def test_processes_without_streams_are_silent() -> None:
    """
    Nothing is published, and nothing subscribed to, before a client asks.
    """
    processes = Processes(1)
    processes.turn(5.0)

    assert processes.hubs[0].position().offset == 0
    assert processes.hubs[0].statistics.counts_of(LIVE).position == ""
    asked = processes.ask()
    processes.turn(5.0)
    assert result(asked) == []
    assert processes.hubs[0].position().offset == 1


def test_a_further_server_has_processes_of_its_own() -> None:
    """
    They start and stop with those of the main one.
    """
    processes = Processes(1)
    main = processes.peers[0]
    hub = make_hub(MemoryBroker(processes.clock, "f"), processes.clock)
    hub.start()
    assert main.of_hub(processes.hubs[0]) is main

    further = main.of_hub(hub)
    further.on_request("names", lambda _: succeed([]), lambda: True)
    processes.turn(1.1)

    assert main.of_hub(hub) is further
    assert hub.position().offset == 1
    assert processes.hubs[0].position().offset == 0
    main.stopService()
    processes.turn(3.0)
    assert hub.position().offset == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b'{"node": "a"}',
        b'{"node": "a", "ask": "names"}',
        b'{"node": "a", "ask": "names", "with": 1, "id": 1}',
        b'{"node": "a", "ask": "none", "with": {}, "id": "x"}',
        b'{"node": "a", "to": "b", "id": 1}',
        b'{"node": "a", "id": 1, "parts": 1, "found": {}}',
        b'{"node": "a", "ask": "names", "with": {}, "id": 1e999}',
        b'{"node": "a\\n", "ask": "names", "with": {"of": "x"}, "id": 1}',
        b"[" * 100_000,
    ],
)
def test_malformed_messages_are_ignored(data: bytes) -> None:
    """
    A process of another version may send them.
    """
    processes = Processes(2)
    processes.ask()
    processes.turn(3.0)
    processes.broker.publish([Draft(LIVE, data, transient=True)])
    processes.turn(4.0)

    assert result(processes.ask()) == ["x1"]
