"""
What every implementation of an interface is held to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from rt_twisted.interfaces import IBroker
from rt_twisted.message import Draft, Message, Position

Publish = Callable[..., Deferred[list[Position]]]


class BrokerContract:
    """
    Subclasses give `broker`, a fixture with a fresh, started broker to which
    nobody is attached yet.
    """

    @pytest.fixture
    def received(self, broker: Any) -> list[Message]:
        """
        What the broker hands to the hub.
        """
        received: list[Message] = []
        broker.attach(received.append)
        return received

    def test_provides_the_interface(self, broker: Any) -> None:
        """
        It is what the hub expects.
        """
        assert verifyObject(IBroker, broker)

    async def test_messages_come_back_as_published(
        self, broker: Any, received: list[Message]
    ) -> None:
        """
        Channel, bytes and event type are those of the draft.
        """
        broker.subscribe("news")
        data = bytes(range(256))

        [position] = await broker.publish([Draft("news", data, "comment")])

        assert received == [Message("news", data, position, "comment")]

    async def test_positions_grow(self, broker: Any, received: list[Message]) -> None:
        """
        Over all channels, in the order of publishing, in one epoch.
        """
        for channel in "ab":
            broker.subscribe(channel)

        first = await broker.publish([Draft("a", b"1"), Draft("b", b"2"), Draft("a", b"3")])
        second = await broker.publish([Draft("b", b"4")])

        positions = first + second
        assert [message.data for message in received] == [b"1", b"2", b"3", b"4"]
        assert [message.position for message in received] == positions
        assert len({position.epoch for position in positions}) == 1
        offsets = [position.offset for position in positions]
        assert offsets == sorted(set(offsets))

    async def test_position_is_the_end_of_the_log(
        self, broker: Any, received: list[Message]
    ) -> None:
        """
        Before the first message it is before it, afterwards it is its own.
        """
        broker.subscribe("a")
        before = broker.position()

        [position] = await broker.publish([Draft("a", b"")])

        assert before.epoch == position.epoch
        assert before.offset < position.offset
        assert broker.position() == position

    async def test_the_same_key_is_published_once(
        self, broker: Any, received: list[Message]
    ) -> None:
        """
        A publisher that sends again gets the old position, readers nothing.
        """
        broker.subscribe("a")
        [first] = await broker.publish([Draft("a", b"1", key="k")])
        [again] = await broker.publish([Draft("a", b"1", key="k")])
        [other] = await broker.publish([Draft("a", b"2", key="l")])

        assert first == again != other
        assert [message.data for message in received] == [b"1", b"2"]

    async def test_a_key_holds_for_its_channel(self, broker: Any, received: list[Message]) -> None:
        """
        One key for several channels is one message for each.
        """
        for channel in "ab":
            broker.subscribe(channel)
        await broker.publish([Draft("a", b"1", key="k"), Draft("b", b"1", key="k")])

        assert [message.channel for message in received] == ["a", "b"]
