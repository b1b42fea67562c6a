"""
What the daemon lends to its actions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rt_twisted.access import ChannelNames, Keys
from rt_twisted.hub import Hub
from rt_twisted.subscriber import Patience


@dataclass(frozen=True, slots=True)
class House:
    """
    The hub, and the settings that hold for all routes.

    Args:
        hub: all channels.
        reactor: for actions that wait, and for the threads of WSGI.
        names: what channels may be called.
        publishers: keys that may publish.
        observers: keys that may see the numbers.
        patience: with readers that are behind; a route may change its policy.
        retry: milliseconds after which a cut-off reader shall come back; 0
            leaves it to the client.
        count_addresses: whether the hub limits readers per address.
        max_body: bytes of a publish request.
        max_message: bytes of one message.
        max_batch: messages of one request.
        trim: strip white space and blank control characters in messages, as
            cyclone-sse did.
    """

    hub: Hub
    reactor: Any = None
    names: ChannelNames = field(default_factory=ChannelNames)
    publishers: Keys = field(default_factory=Keys)
    observers: Keys = field(default_factory=Keys)
    patience: Patience = field(default_factory=Patience)
    retry: int = 2000
    count_addresses: bool = False
    max_body: int = 2 << 20
    max_message: int = 1 << 20
    max_batch: int = 1000
    trim: bool = False
