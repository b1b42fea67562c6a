"""
Claims in RabbitMQ, on a server that only has exclusive queues.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.claims import GHOST_SECONDS, TAKEOVER_SECONDS, AmqpClaim, AmqpClaims
from rt_twisted.brokers.interfaces import ClaimTaken
from rt_twisted.model.errors import Unavailable

HEARTBEAT = 10


class ExclusiveQueues:
    """
    A server: queues by name, and the connections that declared them.
    """

    def __init__(self) -> None:
        self.owners: dict[str, FakeConnection] = {}


class FakeConnection:
    """
    A connection to the server, for declaring and for publishing.
    """

    def __init__(self, server: ExclusiveQueues) -> None:
        self.server = server
        self.channels: set[int] = set()
        self.private_channels: set[int] = set()
        self.consumers: dict[str, Any] = {}
        self.consumed: set[str] = set()
        self.forbidden = False

    async def call(self, number: int, method: str, **arguments: Any) -> None:
        queue = arguments.get("queue", "")
        owner = self.server.owners.get(queue)
        if method == "channel_open":
            self.channels.add(number)
            return
        if method == "queue_declare":
            assert number in self.channels
            if self.forbidden:
                self._fail(number, 403)
            if owner is None and arguments.get("passive"):
                self._fail(number, 404)
            if owner is not None and owner is not self:
                self._fail(number, 405)
            self.server.owners[queue] = self
        elif method == "basic_consume":
            assert owner is self
            self.consumed.add(arguments["consumer_tag"])
        elif method == "basic_cancel":
            self.consumed.remove(arguments["consumer_tag"])
        elif method == "queue_delete":
            assert owner is self
            del self.server.owners[queue]

    def publish(self, number: int, exchange: str, key: str, body: bytes, properties: Any) -> None:
        owner = self.server.owners.get(key)
        assert exchange == ""
        if owner is not None and key in owner.consumed:
            owner.consumers[key](None)

    def drop(self) -> None:
        """
        Delete what the server has for the connection.
        """
        for queue in [name for name, owner in self.server.owners.items() if owner is self]:
            del self.server.owners[queue]

    def _fail(self, number: int, code: int) -> None:
        self.channels.remove(number)
        raise AmqpConnectionClosed("refused", code)


class ClaimingNode:
    """
    A node with claims, and its connection.
    """

    def __init__(self, server: ExclusiveQueues, clock: Clock) -> None:
        self.server = server
        self.claims = AmqpClaims(clock, "events", 1, HEARTBEAT)
        self.connect()

    def connect(self) -> None:
        self.connection = FakeConnection(self.server)
        connection: Any = self.connection
        ensureDeferred(self.claims.open(connection, connection))


@pytest.fixture
def clock() -> Clock:
    """
    The time of all nodes.
    """
    return Clock()


@pytest.fixture
def nodes(clock: Clock) -> list[ClaimingNode]:
    """
    Two nodes of one server.
    """
    server = ExclusiveQueues()
    return [ClaimingNode(server, clock) for _ in range(2)]


def granted(done: Deferred[AmqpClaim]) -> AmqpClaim:
    assert isinstance(done.result, AmqpClaim)
    return done.result


def error(done: Deferred[Any]) -> type[BaseException] | None:
    """
    Return the class of the error of *done*.
    """
    failures: list[Failure] = []
    done.addErrback(failures.append)
    return failures[0].type if failures else None


def test_one_run_has_a_name(nodes: list[ClaimingNode]) -> None:
    """
    A second run is refused on both nodes until the first releases its claim.
    """
    here, there = (node.claims for node in nodes)
    claim = granted(here.claim("cam", "run1", False))

    assert error(here.claim("cam", "run2", False)) is ClaimTaken
    assert error(there.claim("cam", "run2", False)) is ClaimTaken
    assert [node.is_claimed("cam").result for node in (here, there)] == [True, True]
    assert nodes[0].server.owners == {"live.events.cam": nodes[0].connection}

    claim.release()
    claim.release()

    assert [node.is_claimed("cam").result for node in (here, there)] == [False, False]
    assert granted(there.claim("cam", "run2", False)).lost.called is False


def test_a_takeover_asks_the_holder(nodes: list[ClaimingNode], clock: Clock) -> None:
    """
    The first run's claim is lost, and the second one is granted, on another node and on the same.
    """
    here, there = (node.claims for node in nodes)
    first = granted(here.claim("cam", "run1", False))

    second = there.claim("cam", "run2", True)
    clock.advance(1)

    assert first.lost.result == "another publisher has taken over"
    third = there.claim("cam", "run3", True)
    assert granted(second).lost.called
    first.release()
    granted(second).release()
    assert error(here.claim("cam", "run4", False)) is ClaimTaken
    assert not granted(third).lost.called


def test_a_takeover_from_a_node_that_does_not_answer_fails(
    nodes: list[ClaimingNode], clock: Clock
) -> None:
    """
    The publisher is refused after some seconds.
    """
    here, there = (node.claims for node in nodes)
    here.claim("cam", "run1", False)
    nodes[0].connection.consumed.clear()

    second = there.claim("cam", "run2", True)
    clock.pump([1.0] * int(TAKEOVER_SECONDS + 1))

    assert error(second) is ClaimTaken


def test_claims_are_declared_again_on_a_new_connection(
    nodes: list[ClaimingNode], clock: Clock
) -> None:
    """
    While the server is away no claim is granted and none is lost. The queue of the former
    connection is not another node's.
    """
    here, there = (node.claims for node in nodes)
    claim = granted(here.claim("cam", "run1", False))
    former = nodes[0].connection
    here.close()
    assert error(here.claim("other", "run2", False)) is Unavailable
    assert error(here.is_claimed("other")) is Unavailable
    assert here.is_claimed("cam").result

    nodes[0].connect()
    clock.advance(HEARTBEAT)
    assert nodes[0].server.owners["live.events.cam"] is former
    former.drop()
    clock.advance(1)

    assert nodes[0].server.owners["live.events.cam"] is nodes[0].connection
    assert error(there.claim("cam", "run2", False)) is ClaimTaken
    clock.advance(1)
    assert not claim.lost.called
    assert clock.getDelayedCalls() == []


def test_a_claim_that_another_node_has_got_is_lost(nodes: list[ClaimingNode], clock: Clock) -> None:
    """
    The claim is lost when the queue cannot be that of a former connection any more.
    """
    here, there = (node.claims for node in nodes)
    claim = granted(here.claim("cam", "run1", False))
    here.close()
    nodes[0].connection.drop()
    second = granted(there.claim("cam", "run2", False))

    nodes[0].connect()
    clock.pump([1.0] * int(2 * HEARTBEAT + GHOST_SECONDS))
    assert not claim.lost.called
    clock.pump([1.0] * 2)

    assert claim.lost.called
    assert not second.lost.called


def test_a_user_who_may_not_declare_queues_has_no_claims(nodes: list[ClaimingNode]) -> None:
    """
    The publisher gets the server's reason; the connection stays.
    """
    nodes[0].connection.forbidden = True

    assert error(nodes[0].claims.claim("cam", "run1", False)) is Unavailable
    assert error(nodes[0].claims.is_claimed("cam")) is Unavailable


def test_names_of_any_length_are_claimed(nodes: list[ClaimingNode]) -> None:
    """
    AMQP's names have 255 bytes.
    """
    here, there = (node.claims for node in nodes)
    for name in ("é" * 150, "x" * 1000):
        here.claim(name, "run1", False)
        assert error(there.claim(name, "run2", False)) is ClaimTaken
    assert all(len(queue.encode()) <= 255 for queue in nodes[0].server.owners)


def test_a_stopped_node_restores_nothing(nodes: list[ClaimingNode], clock: Clock) -> None:
    """
    The server deletes the queues with the connection; no timer is left.
    """
    here, there = (node.claims for node in nodes)
    here.claim("cam", "run1", False)
    there.close()
    nodes[1].connect()
    here.stop()
    here.close()

    assert clock.getDelayedCalls() == []
