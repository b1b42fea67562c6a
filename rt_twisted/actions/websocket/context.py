"""
What all websockets of one endpoint share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rt_twisted.actions.context import WebSocketLimits
from rt_twisted.hub.hub import Hub
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.model.message import Draft, PublishResult
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.net.inflate_quota import InflateQuota


@dataclass(slots=True, eq=False)
class WebSocketContext:
    """
    The hub, the limits, and a clock of whole seconds that is cheap to read.

    Args:
        hub: of the endpoint's route.
        publish: hands messages of clients to the hub.
        inbound: bounds unfinished messages, in sum over all connections.
        inflating: bounds what is inflated in one turn of the reactor.
        limits: for each websocket.
        clock: for exact times and delayed calls.

    Attributes:
        second: seconds in which at least one websocket was open. The endpoint counts them.
        metrics: of the hub.
        max_frames: frames that a client may send in one second.
        max_bytes: bytes that a client may send in one second, after decompression.
        silence: seconds without input after which a client is disconnected.
    """

    hub: Hub
    publish: Callable[[Sequence[Draft]], Deferred[PublishResult]]
    inbound: InboundMemory
    inflating: InflateQuota
    limits: WebSocketLimits
    clock: IReactorTime
    second: int = field(init=False, default=0)
    metrics: Metrics = field(init=False)
    max_frames: float = field(init=False)
    max_bytes: float = field(init=False)
    silence: float = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = self.hub.metrics
        self.max_frames = self.limits.rate or math.inf
        self.max_bytes = self.limits.bytes or math.inf
        self.silence = self.limits.silence or math.inf
