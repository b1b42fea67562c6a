"""
Options of a cut test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.tools.clients.registry import ClientType


@dataclass(frozen=True, slots=True)
class CutTestOptions:
    """
    Options of a cut test.

    Args:
        urls: of the nodes' event streams; all nodes share one log.
        publish_urls: where each node accepts messages.
        transports: with the paths of their routes; "" for the daemon's default.
        chosen: the user named the transports, so a missing one is an error.
        subscribers: their number.
        channels: their names.
        rate: messages a second.
        size: bytes of a message.
        seconds: how long connections are cut.
        grace: seconds for all to reconnect, and for the last message to arrive.
        away: seconds that a cut lasts.
        every: seconds from a connection's start until it is cut, on average.
        commands: that restart servers.
        disturb_every: seconds between two of them, on average.
        key: for publishing.
        token_key: signs the tokens of subscribers; "" if they need none.
        token_seconds: that each token lives.
        timeout: seconds to connect.
        verify: whether certificates are checked.
        seed: of all random choices.
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
    token_key: str
    token_seconds: float
    timeout: float
    verify: bool
    seed: int
