"""
What a trial is to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.tools.clients.registry import ClientType


@dataclass(frozen=True, slots=True)
class CutTestOptions:
    """
    What a trial is to be.

    Args:
        urls: of the nodes' event streams; all of one log.
        publish_urls: where each node takes messages.
        transports: kinds of wires, and where their routes are; "" for the daemon's own.
        chosen: they were asked for by name: one that is missing is an error.
        readers: in all.
        channels: their names.
        rate: messages a second.
        size: bytes of a message.
        seconds: how long connections are cut.
        grace: seconds for all to come back, and for the last to arrive.
        away: seconds for which a connection is cut.
        every: seconds from a connection's beginning until it is cut, on average.
        commands: to disturb the servers with.
        disturb_every: seconds between two of them, on average.
        key: for publishing.
        patience: seconds to connect.
        verify: whether certificates are checked.
        seed: of all chance.
    """

    urls: Sequence[str]
    publish_urls: Sequence[str]
    transports: Sequence[tuple[ClientType, str]]
    chosen: bool
    subscribers: int
    channels: Sequence[str]
    rate: float
    size: int
    seconds: float
    grace: float
    away: float
    every: float
    commands: Sequence[str]
    disturb_every: float
    key: str
    timeout: float
    verify: bool
    seed: int
