"""
Requests to other processes, and their replies: processes on one channel, without a broker.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rt_twisted.hub.peer_bus import MAX_WAITING, PART, REPLY_SECONDS, PeerBus
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, Message, Position

CHANNEL = "rt test"


class Channel:
    """
    A channel with processes that reply with `<text><number>` to `echo`, and time that passes.
    """

    def __init__(self, count: int = 3) -> None:
        self.clock = Clock()
        self.sent: list[Draft] = []
        self.is_away = False
        self.unsent: list[Failure] = []
        self.announced: list[tuple[int, str, Mapping[str, Any]]] = []
        self.buses = [self._bus(number) for number in range(count)]

    def _bus(self, number: int) -> PeerBus:
        def on_announced(node: str, values: Mapping[str, Any]) -> None:
            self.announced.append((number, node, values))

        async def echo(arguments: Mapping[str, str]) -> Sequence[Any]:
            times = int(arguments.get("times", "1"))
            return [f"{arguments['text']}{number}"] * times

        bus = PeerBus(CHANNEL, self.publish, self.clock, on_announced, self.unsent.append)
        bus.on_request("echo", echo)
        return bus

    def publish(self, drafts: Sequence[Draft]) -> Deferred[Any]:
        if self.is_away:
            return fail(Unavailable("the broker is away"))
        for draft in drafts:
            self.sent.append(draft)
            self.receive(draft.data, draft.event)
        return succeed(None)

    def receive(self, data: bytes, event: str | None = None) -> None:
        for bus in self.buses:
            bus.receive(Message(CHANNEL, data, Position("e", 1), event))

    def turn(self) -> None:
        for _ in range(3):
            self.clock.advance(0)

    def request(
        self, expected: Sequence[int] | None = None, name: str = "echo", **arguments: str
    ) -> list[Any]:
        """
        Return the replies to the first process, which are known now; [] before.
        """
        nodes = None if expected is None else [self.buses[one].node for one in expected]
        found: list[Any] = []
        self.buses[0].request(name, {"text": "x", **arguments}, nodes).addCallback(found.extend)
        self.turn()
        return found


def test_replies_are_complete_when_all_expected_processes_have_replied() -> None:
    """
    No time passes; the process that requests does not reply to itself.
    """
    channel = Channel()

    assert sorted(channel.request([1, 2])) == ["x1", "x2"]
    assert channel.clock.getDelayedCalls() == []


def test_replies_of_unknown_processes_are_collected_for_a_time() -> None:
    """
    Then the request ends with what has come.
    """
    channel = Channel()
    found = channel.request()
    assert found == []

    channel.clock.advance(REPLY_SECONDS)
    assert sorted(found) == ["x1", "x2"]


def test_a_process_that_does_not_reply_delays_the_others() -> None:
    """
    The silent process is awaited for the same time; what it sends afterwards is ignored.
    """
    channel = Channel(2)
    gone = channel.buses.pop()
    found: list[Any] = []
    others = channel.buses[0].request("echo", {"text": "x"}, [gone.node])
    others.addCallback(found.append)
    channel.turn()
    assert found == []

    channel.clock.advance(REPLY_SECONDS)
    assert found == [[]]
    late = {"node": gone.node, "to": channel.buses[0].node, "id": 1, "parts": 1, "found": ["x"]}
    channel.receive(json.dumps(late).encode())
    channel.turn()
    assert found == [[]]


def test_a_long_reply_comes_in_parts() -> None:
    """
    A process has replied when all parts are there.
    """
    channel = Channel(2)

    assert channel.request([1], times=str(2 * PART + 1)) == ["x1"] * (2 * PART + 1)
    assert len(channel.sent) == 1 + 3


def test_a_reply_that_is_delivered_twice() -> None:
    """
    The second delivery is ignored: nothing is counted twice, and nothing is waited for longer.
    """
    channel = Channel(1)
    bus = channel.buses[0]
    done = bus.request("echo", {"text": "x"}, ["abc", "def"])
    for node in ("abc", "abc", "def"):
        reply = {"node": node, "to": bus.node, "id": 1, "parts": 1, "found": [node]}
        channel.receive(json.dumps(reply).encode(), bus.node)
    channel.turn()

    assert done.called
    assert done.result == ["abc", "def"]


def test_a_request_that_a_process_does_not_know() -> None:
    """
    The reply is empty: nothing is waited for.
    """
    channel = Channel()
    done = channel.buses[0].request("unknown", {}, [channel.buses[1].node, channel.buses[2].node])
    channel.turn()

    assert done.called
    assert done.result == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), HttpError(400, "no")])
def test_arguments_that_are_refused(error: Exception) -> None:
    """
    Another version of the daemon may send them: there is no reply, and no error in the log.
    """
    channel = Channel(2)

    async def refuse(arguments: Mapping[str, str]) -> Sequence[Any]:
        raise error

    channel.buses[1].on_request("echo", refuse)
    found = channel.request()
    channel.clock.advance(REPLY_SECONDS)

    assert found == []
    assert len(channel.sent) == 1


def test_replies_to_others_are_dropped_unread() -> None:
    """
    All processes receive them, and they can be long: the event type says for whom they are.
    """
    channel = Channel()
    channel.request([1, 2])
    [_, first, second] = channel.sent
    assert first.event == second.event == channel.buses[0].node

    channel.buses[2].receive(Message(CHANNEL, first.data, Position("e", 1), first.event))
    assert channel.clock.getDelayedCalls() == []


def test_announcements() -> None:
    """
    All other processes receive them, with the name of the process.
    """
    channel = Channel()
    channel.buses[0].announce({"streams": ["a"]})
    channel.turn()

    node = channel.buses[0].node
    values = {"node": node, "streams": ["a"]}
    assert channel.announced == [(1, node, values), (2, node, values)]


def test_nothing_is_stored() -> None:
    """
    Announcements, requests and replies are for processes that run now.
    """
    channel = Channel()
    channel.buses[0].announce({})
    channel.request([1, 2])

    assert len(channel.sent) == 4
    assert all(draft.transient for draft in channel.sent)


def test_while_the_broker_is_away() -> None:
    """
    The failure is reported; a request ends without replies.
    """
    channel = Channel()
    channel.is_away = True
    channel.buses[0].announce({})
    done = channel.buses[0].request("echo", {"text": "x"})
    assert len(channel.unsent) == 2

    channel.clock.advance(REPLY_SECONDS)
    assert done.result == []


def test_requests_that_wait_are_counted() -> None:
    """
    Callers refuse more than MAX_WAITING.
    """
    channel = Channel(1)
    bus = channel.buses[0]
    for _ in range(MAX_WAITING):
        assert not bus.is_full
        bus.request("echo", {})
    assert bus.is_full

    channel.clock.advance(REPLY_SECONDS)
    assert not bus.is_full


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children),
    max_leaves=8,
)
REQUESTS = st.fixed_dictionaries(
    {"node": JSON | st.just("a")},
    optional={"ask": JSON | st.just("echo"), "with": JSON, "id": JSON, "to": JSON, "parts": JSON,
              "found": JSON},
)  # fmt: skip


@given(st.binary() | REQUESTS | JSON)
def test_malformed_messages_are_ignored(value: object) -> None:
    """
    Whatever another program publishes to the channel, requests are replied to afterwards.
    """
    channel = Channel(2)
    channel.receive(value if isinstance(value, bytes) else json.dumps(value).encode())
    channel.turn()

    assert channel.request([1]) == ["x1"]


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000, b'{"node": "a\\n"}', b'{"node": "%s"}' % (b"a" * 65),
     b'{"node": "a", "ask": "echo", "with": {}, "id": 1e999}'],
)  # fmt: skip
def test_hostile_messages_are_ignored(data: bytes) -> None:
    """
    Deep nesting, names that are no names, and numbers that are no numbers.
    """
    channel = Channel(2)
    channel.receive(data)
    channel.turn()

    assert channel.announced == []
    assert channel.request([1]) == ["x1"]
