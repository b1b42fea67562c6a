"""
The embedded broker.
"""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from rt_twisted.brokers.idempotency import KEY_SECONDS, MAX_KEYS
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.model.message import Draft
from tests.contracts.brokers import BrokerContract, LiveContract
from tests.contracts.patterns import PatternContract
from tests.fakes import RecordingReceiver


class TestMemoryBroker(BrokerContract, LiveContract, PatternContract):
    """
    MemoryBroker fulfils the contract of all brokers.
    """

    @pytest.fixture
    def broker(self, receiver: RecordingReceiver) -> MemoryBroker:
        """
        A new broker with a receiver.
        """
        broker = MemoryBroker(Clock())
        broker.attach(receiver)
        return broker


def test_every_start_is_a_new_log() -> None:
    """
    Positions of an earlier start are unknown, so that subscribers receive a gap.
    """
    assert MemoryBroker(Clock()).position().epoch != MemoryBroker(Clock()).position().epoch


def test_keys_are_forgotten_after_five_minutes() -> None:
    """
    A key may be used again later, and memory does not grow with keys.
    """
    clock = Clock()
    broker = MemoryBroker(clock)
    receiver = RecordingReceiver()
    broker.attach(receiver)

    broker.publish([Draft("a", b"1", key="k")])
    clock.advance(KEY_SECONDS - 1)
    broker.publish([Draft("a", b"1", key="k")])
    clock.advance(1)
    broker.publish([Draft("a", b"2", key="k")])

    assert [message.data for message in receiver.messages] == [b"1", b"2"]


def test_keys_are_bounded() -> None:
    """
    However many keys are used within five minutes, MAX_KEYS are remembered.
    """
    broker = MemoryBroker(Clock())
    receiver = RecordingReceiver()
    broker.attach(receiver)
    broker.publish([Draft("a", b"", key=str(number)) for number in range(MAX_KEYS + 1)])

    broker.publish([Draft("a", b"", key="1"), Draft("a", b"", key="0")])

    assert len(receiver.messages) == MAX_KEYS + 2  # 1 is still known, 0 is not
