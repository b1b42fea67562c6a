"""
Publishers of live streams: one per channel, and what its viewers see when it is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from rt_twisted.brokers.interfaces import ClaimTaken, IBroker, IClaim, IClaims
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.internal_channels import STREAMS
from rt_twisted.model.message import Draft, Mark, Position, PublishResult
from tests.defaults import make_hub, make_hub_limits

HEAD, UNIT = "unit/head 0", "unit/k 1 0 0 0 0 0"


@implementer(IClaim)
class FakeClaim:
    """
    A claim that records its release.
    """

    def __init__(self, holders: dict[str, FakeClaim], name: str) -> None:
        self.lost: Deferred[str] = Deferred()
        self._holders = holders
        self._name = name

    def release(self) -> None:
        if self._holders.get(self._name) is self:
            del self._holders[self._name]


@implementer(IBroker, IClaims)
class ClaimingBroker:
    """
    An embedded broker whose claims other nodes can hold: `holders` is the state of all.
    """

    def __init__(self, clock: Clock, holders: dict[str, FakeClaim]) -> None:
        self._inner = MemoryBroker(clock, "e")
        self._holders = holders
        self.away = False
        self.published: list[Draft] = []

    def attach(self, receiver: Any) -> None:
        self._inner.attach(receiver)

    def position(self) -> Position:
        return self._inner.position()

    def subscribe(self, channel: str) -> Deferred[Position]:
        return self._inner.subscribe(channel)

    def unsubscribe(self, channel: str) -> None:
        pass

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        if self.away:
            return fail(Unavailable("away"))
        self.published += [draft for draft in drafts if draft.channel != STREAMS]
        return self._inner.publish(drafts)

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[Any]:
        if self.away:
            return fail(Unavailable("away"))
        before = self._holders.get(name)
        if before is not None and not takeover:
            return fail(ClaimTaken(name))
        claim = self._holders[name] = FakeClaim(self._holders, name)
        if before is not None:
            before.lost.callback("another publisher has taken over")
        return succeed(claim)

    def is_claimed(self, name: str) -> Deferred[bool]:
        return fail(Unavailable("away")) if self.away else succeed(name in self._holders)


class Nodes:
    """
    Nodes that share their claims, and a clock.
    """

    def __init__(self, count: int = 1) -> None:
        self.clock = Clock()
        self.holders: dict[str, FakeClaim] = {}
        self.brokers = [ClaimingBroker(self.clock, self.holders) for _ in range(count)]
        limits = make_hub_limits(live_timeout=10.0, live_grace=10.0)
        self.hubs = [make_hub(broker, self.clock, limits=limits) for broker in self.brokers]
        for hub in self.hubs:
            hub.start()

    def claim(self, hub: Hub, run: str = "run", takeover: bool = False) -> Deferred[LivePublisher]:
        return ensureDeferred(hub.live.publishers.claim("cam", run, takeover, 10.0, 10.0))

    def pass_seconds(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)

    def ends(self, node: int = 0) -> int:
        """
        Return how many ends of streams a node has published.
        """
        return sum(draft.event == "unit/end" for draft in self.brokers[node].published)


def status(refused: Deferred[Any]) -> int:
    failures: list[Any] = []
    refused.addErrback(failures.append)
    return int(failures[0].value.status)


def granted(done: Deferred[LivePublisher]) -> LivePublisher:
    assert isinstance(done.result, LivePublisher)
    return done.result


def test_a_second_publisher_is_refused() -> None:
    """
    The second publisher gets 403 on the same node and on others, until the first has closed.
    """
    nodes = Nodes(2)
    first = granted(nodes.claim(nodes.hubs[0]))

    assert [status(nodes.claim(hub)) for hub in nodes.hubs] == [403, 403]
    first.close()

    granted(nodes.claim(nodes.hubs[1]))
    assert not first.lost.called


def test_a_broker_without_claims_leaves_them_to_the_node() -> None:
    """
    The embedded broker has one node.
    """
    clock = Clock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    claim = hub.live.publishers.claim
    first = granted(ensureDeferred(claim("cam", "a", False, 10.0, 10.0)))

    assert status(ensureDeferred(claim("cam", "b", False, 10.0, 10.0))) == 403
    second = granted(ensureDeferred(claim("cam", "b", True, 10.0, 10.0)))

    assert first.lost.result == "another publisher has taken over"
    first.close()
    assert len(hub.live.publishers) == 1
    second.close()
    assert len(hub.live.publishers) == 0


@pytest.mark.parametrize("node", [0, 1])
def test_a_takeover_ends_the_first_publisher(node: int) -> None:
    """
    The first publisher is sent the reason, wherever the second one connects.
    """
    nodes = Nodes(2)
    first = granted(nodes.claim(nodes.hubs[0], "one"))

    second = granted(nodes.claim(nodes.hubs[node], "two", takeover=True))

    assert first.lost.result == "another publisher has taken over"
    nodes.clock.advance(5)
    second.touch(nodes.clock.seconds())
    nodes.clock.advance(6)
    assert nodes.ends(0) == nodes.ends(1) == 0
    assert not second.lost.called


def test_a_silent_publisher_is_lost() -> None:
    """
    A connection that is cut without a word holds its channel for the timeout only.
    """
    nodes = Nodes()
    publisher = granted(nodes.claim(nodes.hubs[0]))
    nodes.pass_seconds(9)
    publisher.touch(nodes.clock.seconds())
    nodes.pass_seconds(10)
    assert not publisher.lost.called

    nodes.pass_seconds(1)

    assert publisher.lost.result == "nothing was received for 10 seconds"
    assert nodes.holders == {}


def test_a_stream_ends_after_the_grace_time() -> None:
    """
    Whether the publisher ended or was lost, its viewers wait for its return.
    """
    nodes = Nodes()
    publisher = granted(nodes.claim(nodes.hubs[0], "one"))

    publisher.close()
    nodes.pass_seconds(9)
    assert nodes.ends() == 0
    nodes.pass_seconds(1)

    [draft] = nodes.brokers[0].published
    assert (draft.channel, draft.event, draft.data) == ("cam", "unit/end", b"one")
    assert draft.transient
    assert nodes.holders == {}


@pytest.mark.parametrize("node", [0, 1])
def test_a_publisher_may_return(node: int) -> None:
    """
    Within the grace time the stream goes on, on the same node or on another.
    """
    nodes = Nodes(2)
    granted(nodes.claim(nodes.hubs[0])).close()
    nodes.pass_seconds(9)

    back = granted(nodes.claim(nodes.hubs[node]))
    for _ in range(30):
        back.touch(nodes.clock.seconds())
        nodes.pass_seconds(1)

    assert nodes.ends(0) == nodes.ends(1) == 0


def test_a_broker_that_is_away_refuses_publishers() -> None:
    """
    A client may try again: 503. The end of a stream is not an error either.
    """
    nodes = Nodes()
    granted(nodes.claim(nodes.hubs[0])).close()
    nodes.brokers[0].away = True

    refused = nodes.claim(nodes.hubs[0])
    failures: list[Any] = []
    refused.addErrback(failures.append)
    nodes.pass_seconds(11)

    assert failures[0].check(Unavailable)
    nodes.brokers[0].away = False
    granted(nodes.claim(nodes.hubs[0]))


def test_two_requests_at_once_are_one_publisher() -> None:
    """
    While the broker has not answered the first, the second is refused.
    """
    nodes = Nodes()
    answer: Deferred[Any] = Deferred()
    nodes.brokers[0].claim = lambda name, run, takeover: answer  # type: ignore[method-assign]
    first = nodes.claim(nodes.hubs[0])

    assert status(nodes.claim(nodes.hubs[0], takeover=True)) == 403
    answer.callback(FakeClaim(nodes.holders, "cam"))

    granted(first)


def test_a_stopping_node_ends_its_publishers() -> None:
    """
    Claims are released at once, so that publishers can connect to another node.
    """
    nodes = Nodes()
    publisher = granted(nodes.claim(nodes.hubs[0]))

    nodes.hubs[0].stop(1000)

    assert publisher.lost.result == "the server is stopping"
    assert nodes.holders == {}
    assert nodes.clock.getDelayedCalls() == []


def publish(nodes: Nodes, *events: str) -> None:
    drafts = [Draft("cam", b"", event, transient=True) for event in events]
    nodes.hubs[0].publish(drafts)
    nodes.clock.advance(0)


def newest(nodes: Nodes) -> list[Mark]:
    done = ensureDeferred(nodes.hubs[0].live.newest_messages("cam"))
    result: Any = done.result
    return [message.mark for message in result]


def test_a_returning_publisher_finds_the_newest_messages() -> None:
    """
    Times and counts continue from them; after an end there is nothing to continue.
    """
    nodes = Nodes()
    assert newest(nodes) == []

    publish(nodes, HEAD, UNIT, UNIT)
    assert newest(nodes) == [Mark.HEAD, Mark.UNIT, Mark.UNIT]
    publish(nodes, "unit/end")

    assert newest(nodes) == []


def test_streams_are_listed_from_their_first_frames_to_their_end() -> None:
    """
    A publisher of messages as they are has no frames, and a camera that is not reached none yet.
    """
    nodes = Nodes()
    publishers = nodes.hubs[0].live.publishers
    publisher = granted(nodes.claim(nodes.hubs[0]))
    publisher.begin(False)
    assert publishers.channels() == []
    publisher.shown = True
    assert publishers.channels() == ["cam"]
    publisher.close()
    assert publishers.channels() == ["cam"]
    nodes.pass_seconds(10)
    assert publishers.channels() == []
