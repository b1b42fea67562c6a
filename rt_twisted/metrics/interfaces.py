"""
Interfaces of metrics and of exporters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from zope.interface import Interface

if TYPE_CHECKING:
    from rt_twisted.metrics.metrics import Histogram


class IExporter(Interface):
    """
    Sends the hub's metrics to another system. May provide `IService`.
    """

    def export(metrics: MetricValues, now: float) -> None:
        """
        Send *metrics* of the time *now* (unix seconds).

        Must not block, and must bound what it keeps while the other system is unavailable.
        """


class MetricValues(Protocol):
    """
    The metrics of a hub. Counters are since the start and only grow.
    """

    channels: Mapping[str, int]  # subscribers by channel; only channels with subscribers
    subscribers: int  # connected now
    subscribers_limit: int  # allowed at once; 0 for no limit
    behind: int  # subscribers with a backlog
    joining: int  # subscribers with pending subscriptions
    patterns: int  # patterns of channels that are open
    broker_away: int  # processes that cannot publish and receive now
    broker_refuses: int  # processes whose broker is reachable and accepts no messages
    waiting_bytes: int  # of backlogs, in this process
    history_bytes: int  # retained for replay, in all channels but live streams
    live_bytes: int  # retained of live streams
    live_publishers: int  # of live streams, connected now
    live_viewers: int  # subscribers of live streams, connected now
    websockets: int  # open now, those of Socket.IO too
    inbound_bytes: int  # of request bodies and websocket messages that are not complete
    joined: int  # subscribers that ever joined
    published: int  # messages received from the broker, but those of live streams
    delivered: int  # messages written to subscribers' connections, likewise
    gaps: int  # gaps sent to subscribers
    skips: int  # how often a viewer of a live stream had to skip to a later keyframe
    live_units: int  # heads and frames of live streams, received from the broker
    live_received_bytes: int  # of their data
    live_delivered: int  # of them, written to viewers' connections
    websocket_frames: int  # received from clients, control frames too
    websocket_messages: int  # from clients, processed
    inbound_dropped: int  # incomplete input refused because memory was short
    tokens_verified: int  # signatures of tokens that were right; known tokens do not count
    questions_asked: int  # that the application has answered
    questions_cached: int  # that were answered without it
    questions_failed: int  # without an answer
    question_seconds: float  # until it has answered, in sum
    relayed: int  # responses of applications elsewhere
    relay_seconds: float  # until their heads were received, in sum
    relay_tunnels: int  # websockets that are passed on to applications now
    relay_unreachable: int  # requests without a connection to the application
    relay_broken: int  # requests whose response is not valid or not complete
    relay_timeouts: int  # requests without a response in time
    relay_refused: int  # requests for which too many others wait
    wsgi_busy: int  # threads that run a request of a WSGI application now
    wsgi_queued: int  # requests that wait for such a thread
    wsgi_websockets: int  # threads that run a websocket of such an application
    wsgi_requests: int  # to WSGI applications in the daemon
    wsgi_failed: int  # of them, in which the application raised an exception
    wsgi_refused: int  # of them, for which there was neither a thread nor a place in the queue
    wsgi_timeouts: int  # of them, without a response in time
    wsgi_seconds: float  # until their responses ended, in sum
    revocations: int  # of tokens, in force; in each process
    jwks_age_seconds: float  # since the key set that is oldest was fetched; 0 without any
    uploads: int  # files that were uploaded
    uploaded_bytes: int  # of them
    handovers_by_line: int  # connections that applications have handed over by route lines
    handovers_by_redirect: int  # by X-Accel-Redirect
    handovers_by_grip: int  # by GRIP
    closed: Mapping[str, int]  # subscribers disconnected, by reason
    requests: Mapping[int, int]  # HTTP responses, by status
    refused: Mapping[str, Mapping[str, int]]  # "readers" and "publishes", by reason
    fanout: Histogram  # from receipt of a flush's first message to its last write
    rates: Mapping[int, Mapping[str, float]]  # growth per second, by the seconds they cover
    uptime: float  # seconds since the start
    cpu_seconds: float  # used by the process
    memory_bytes: int  # used by the process
    reactor_longest_hold_seconds: float  # in which no client was served, since the last export
