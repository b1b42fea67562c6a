"""
Python's garbage collector while messages flow.
"""

from __future__ import annotations

from benchmarks.pauses import ROUTES, ask, publish, subscribers
from tests.real.conftest import StartDaemon

CHANNELS = 200
MESSAGES = 40_000


def test_only_young_objects_are_collected_while_messages_flow(daemon: StartDaemon) -> None:
    """
    A collection of old objects would hold the reactor for long if there are many channels, so
    there is none while messages flow.
    """
    server = daemon(*ROUTES)
    with subscribers(server.port, CHANNELS) as readers:
        ask(server.port, "/runs")
        publish(server.port, CHANNELS, MESSAGES, readers)
        runs = ask(server.port, "/runs")

    assert list(runs) == ["0"]
