"""
Builds the broker inside the process from the settings: in memory, or with a history file.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.model.load_object import load_object
from rt_twisted.model.settings import GivenSettings


def build_broker(reactor: Any, settings: GivenSettings) -> Any:
    """
    Build the embedded broker.

    Returns:
        An `IBroker`.

    Raises:
        ConfigError: the history file cannot be used.
    """
    if settings["history-file"]:
        # By name, as only this needs SQLite.
        return load_object("rt_twisted.brokers.sqlite.factory.build_broker")(reactor, settings)
    return MemoryBroker(reactor)
