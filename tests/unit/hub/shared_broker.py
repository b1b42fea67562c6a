"""
A broker in memory that several hubs share.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.model.message import Message


class SharedBroker(MemoryBroker):
    """
    A broker from which several hubs receive.
    """

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, "e")
        self.receivers: list[Any] = []
        self._receiver: Any = self

    def attach(self, receiver: Any) -> None:
        self.receivers.append(receiver)

    def receive(self, message: Message) -> None:
        for one in self.receivers:
            one.receive(message)
