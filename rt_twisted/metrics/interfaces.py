"""
What exporters receive and provide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from zope.interface import Interface

if TYPE_CHECKING:
    from rt_twisted.metrics.metrics import Histogram


class IExporter(Interface):
    """
    Sends the hub's numbers somewhere. May provide `IService`.
    """

    def export(numbers: MetricValues, now: float) -> None:
        """
        Send *numbers* as they stood at *now* (unix seconds). Must not block,
        and must bound what it keeps while nobody takes it.
        """


class MetricValues(Protocol):
    """
    What the hub counts. Totals are since the start and only grow.
    """

    channels: Mapping[str, int]  # readers by channel; only channels with readers
    subscribers: int  # connected now
    subscribers_limit: int  # how many may be; 0 for no limit
    behind: int  # of those, with bytes still waiting for them
    joining: int  # that wait for the broker's first word on their channels
    broker_away: int  # processes that cannot publish and receive now
    broker_refuses: int  # processes whose broker is there and takes no messages
    waiting_bytes: int  # what waits for them, in this process
    history_bytes: int  # kept for replay, in all channels
    websockets: int  # open now, those of Socket.IO too
    inbound_bytes: int  # of request bodies and websocket messages that are not complete
    joined: int  # readers that ever joined
    published: int  # messages received from the broker
    delivered: int  # messages handed to readers' connections
    gaps: int  # times a reader was told of a gap
    websocket_frames: int  # received from clients, control frames too
    websocket_messages: int  # of clients, processed
    inbound_dropped: int  # incomplete input refused because memory was short
    closed: Mapping[str, int]  # readers gone, by cause
    requests: Mapping[int, int]  # HTTP responses, by status
    refused: Mapping[str, Mapping[str, int]]  # "readers" and "publishes", by reason
    fanout: Histogram  # from receipt of a turn's first message to its last reader written
    rates: Mapping[int, Mapping[str, float]]  # growth a second, over so many seconds
    uptime: float  # seconds since the start
    cpu_seconds: float  # that the process took
    memory_bytes: int  # that it holds
