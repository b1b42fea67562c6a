"""
The hub and the settings that actions are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, ensureDeferred, succeed

from rt_twisted.access.channel_names import ChannelNames
from rt_twisted.access.gate import Gate
from rt_twisted.access.keys import Keys
from rt_twisted.access.publish_rate import PublishRate
from rt_twisted.actions.handover import HandOver
from rt_twisted.http.interfaces import IConnectionHandoff, IExchange
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.live_peers import LivePeers
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.metrics.snapshot import NO_OTHERS, Snapshot, StatsQuery
from rt_twisted.model.message import Draft, PublishResult
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.net.inflate_quota import InflateQuota


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """
    Limits of all websockets.

    Args:
        message: bytes of one message from a client.
        message_seconds: how long a client may take to send one message.
        rate: messages and other frames that a client may send in a second; 0 for no limit.
        bytes: bytes that a client may send in a second; 0 for no limit.
        silence: seconds without any frame, pongs included, after which a client is
            disconnected; 0 for never.
        close_seconds: timeout of the closing handshake.
        compress_from: bytes from which a message is compressed for clients that support
            it; 0 for no compression.
        origins: origins whose pages may open websockets; `same` stands for pages of the
            requested host, `*` for all.
    """

    message: int
    message_seconds: float
    rate: int
    bytes: int
    silence: float
    close_seconds: float
    compress_from: int
    origins: frozenset[str]


@dataclass(frozen=True, slots=True)
class SocketIOLimits:
    """
    Limits of all Socket.IO sessions.

    Args:
        ping_interval: seconds between two pings.
        ping_timeout: seconds to wait for a pong.
        connect_seconds: seconds from the start of a session to its first namespace.
        handshake_seconds: seconds from the start of a polling session to its second request.
        max_pending: polling sessions without a second request or a namespace: they do not
            count as subscribers yet.
        upgrade_seconds: seconds for the upgrade from polling to a websocket.
        max_payload: bytes of one POST body or websocket message, and of the attachments of
            one packet.
        recovery: seconds for which the state of a disconnected client is stored.
    """

    ping_interval: float
    ping_timeout: float
    connect_seconds: float
    handshake_seconds: float
    max_pending: int
    upgrade_seconds: float
    max_payload: int
    recovery: float


@dataclass(frozen=True, slots=True)
class WsgiLimits:
    """
    Limits of WSGI applications in this process.

    Args:
        threads: for requests, at the same time.
        queue: requests that may wait for a thread.
        websockets: threads for websockets, one for each that is open.
        timeout: seconds until the application begins its response, with the wait for a thread.
        send_seconds: how long a client may receive nothing while the application sends.
    """

    threads: int
    queue: int
    websockets: int
    timeout: float
    send_seconds: float


@dataclass(frozen=True, slots=True)
class UpstreamLimits:
    """
    Limits for each application that requests are passed on to.

    Args:
        timeout: seconds until the head of a response is there.
        connections: requests that an application has at once.
        queue: requests that wait for one of these.
        tunnels: websockets that are passed on at once.
    """

    timeout: float
    connections: int
    queue: int
    tunnels: int


_T = TypeVar("_T")


class SharedState:
    """
    Objects that the actions of all routes share: one of each class, or one for each hub.

    They outlive a reload, which builds actions anew.
    """

    def __init__(self) -> None:
        self._objects: dict[tuple[type[object], Hub | None], object] = {}

    def find(self, kind: type[_T], hub: Hub | None = None) -> _T | None:
        """
        Return the shared object of class *kind*; None if there is none yet. See `get`.
        """
        return cast(_T | None, self._objects.get((kind, hub)))

    def get(self, kind: type[_T], make: Callable[[], _T], hub: Hub | None = None) -> _T:
        """
        Return the shared object of class *kind*.

        Args:
            kind: the class, which is also the key.
            make: builds the object when it is first requested.
            hub: the hub of the route, where each needs an object of its own: that of a route
                with `server=` has other channels. None for one object of the process.
        """
        key = (kind, hub)
        if key not in self._objects:
            self._objects[key] = make()
        return cast(_T, self._objects[key])


@dataclass(frozen=True, slots=True)
class ActionContext:
    """
    The hub and the settings that hold for all routes.

    Contexts are equal if all settings in them are: see `IAction` about reloads.

    Args:
        hub: all channels.
        reactor: the reactor.
        metrics: of the daemon, which are those of its main hub.
        names: rules for channel names.
        publish_keys: keys that may publish.
        stats_keys: keys that may read the metrics.
        backlog_limits: limits for slow consumers; a route may change the policy.
        retry: milliseconds after which a disconnected client is asked to reconnect; 0 leaves
            it to the client.
        count_addresses: whether the hub limits subscribers per address.
        poll_seconds: how long a poll may wait for its response.
        poll_bytes: bytes of messages in one response; the next poll gets the rest.
        max_body: bytes of a publish request.
        max_message: bytes of one message.
        max_unit: bytes of a frame of a live stream.
        max_batch: messages of one request.
        trim: whether white space at both ends of messages is stripped and control
            characters are replaced by blanks, as cyclone-sse did.
        websockets: limits of websockets.
        socketio: limits of Socket.IO sessions.
        wsgi: limits of WSGI applications.
        worker: number of this process, from 1 on.
        workers: how many processes there are.
        shared: state that the actions of all routes share.
        inbound: bounds the bytes of unfinished input of all connections together.
        upstream: limits for applications that requests are passed on to.
        hubs: returns the hub of a further server, from its address and its password ("" for
            the setting's); raises ValueError with one sentence.
        ask: requests the metrics of all workers; None if there is one process.
        handoff: passes connections to other workers; None if there is one process.
        out: of the route, see `Draft.out`; None for the daemon's setting.
        gate: what clients of the route need, and the grants that they have by that.
        admin_keys: for the admin API.
        audit: writes an administrative act to the audit log; None without one.
        publish_rate: at which one publisher may publish.
        grip: the `GripKey` that the application and the daemon share; None without one.
        handover: decides which responses of applications hand their connection over; None for
            none.
    """

    hub: Hub
    reactor: Any
    metrics: Metrics = field(compare=False)
    names: ChannelNames
    publish_keys: Keys
    stats_keys: Keys
    backlog_limits: BacklogLimits
    retry: int
    count_addresses: bool
    poll_seconds: float
    poll_bytes: int
    max_body: int
    max_message: int
    max_unit: int
    max_batch: int
    trim: bool
    websockets: WebSocketLimits
    socketio: SocketIOLimits
    wsgi: WsgiLimits
    inbound: InboundMemory
    upstream: UpstreamLimits
    worker: int = 1
    workers: int = 1
    shared: SharedState = field(default_factory=SharedState)
    hubs: Callable[[str, str], Hub] | None = None
    ask: Callable[[StatsQuery], Deferred[Snapshot]] | None = None
    handoff: IConnectionHandoff | None = None
    out: str | None = None
    gate: Gate = field(default_factory=Gate)
    admin_keys: Keys = field(default_factory=Keys)
    audit: Callable[[str, dict[str, Any]], object] | None = field(default=None, compare=False)
    publish_rate: PublishRate = field(default_factory=PublishRate, compare=False)
    grip: Any = None
    handover: HandOver | None = None

    @property
    def inflate_quota(self) -> InflateQuota:
        """
        What all clients together may inflate in one turn of the reactor.
        """
        return self.shared.get(InflateQuota, lambda: InflateQuota(self.reactor))

    @property
    def live_peers(self) -> LivePeers | None:
        """
        The other processes that share the broker of these channels; None if there cannot be any.
        """
        peers = self.shared.find(LivePeers)
        return peers.of_hub(self.hub) if peers is not None else None

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Publish *drafts* as `Hub.publish` does, with copies where the route's `out=` says.

        Raises (in the Deferred):
            HttpError: 403, a live stream is published to one of the channels.
        """
        live = self.hub.live.names_among(drafts)
        if live:
            return ensureDeferred(self._publish_if_free(live, drafts))
        return self.publish_stream(drafts)

    async def _publish_if_free(self, names: Set[str], drafts: Sequence[Draft]) -> PublishResult:
        for name in names:
            await self.hub.live.publishers.check_free(name)
        return await self.publish_stream(drafts)

    def publish_stream(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Publish as `publish` does, for the publisher of a live stream, and for those that have
        called `Publishers.check_free` themselves.
        """
        if self.out is not None:
            drafts = [replace(draft, out=self.out) for draft in drafts]
        return self.hub.publish(drafts)

    def publisher_address(self, exchange: IExchange) -> str:
        """
        Return the address of a client as `PublishRate` counts it; "" while there is no limit.
        """
        return exchange.address if self.publish_rate.rate else ""

    def snapshot(self, query: StatsQuery) -> Deferred[Snapshot]:
        """
        Return the metrics of the whole daemon.

        Returns:
            A Deferred, which may have fired already. It fails with HttpError if the metrics are
            not available now.
        """
        if self.ask is not None:
            return self.ask(query)
        hub = self.hub
        metrics = hub.current_metrics()
        if query.names:
            shown, others = [hub.statistics.counts_of(name) for name in query.names], NO_OTHERS
        elif query.all_channels:
            shown, others = [], NO_OTHERS
        else:
            shown, others = hub.statistics.busiest(query.max_channels)
        return succeed(Snapshot(metrics, len(metrics.channels), shown, others))

    def backlog_limits_for(self, slow: SlowConsumerPolicy | None) -> BacklogLimits:
        """
        Return the backlog limits of a route with the policy *slow*; None for the daemon's.
        """
        return self.backlog_limits if slow is None else _with_policy(self.backlog_limits, slow)

    def for_server(self, server: str, password: str = "") -> ActionContext:
        """
        Return the same context with the channels of another *server*.

        Args:
            server: its address.
            password: for it, also `env:NAME` or `file:PATH`; "" for the setting's.

        Raises:
            ValueError: the broker has no further servers, or *server* is malformed.
        """
        if self.hubs is None:
            raise ValueError("there are no further servers here")
        hub = self.hubs(server, password)
        names = self.names.with_broker(hub.capabilities.check_channel)
        return replace(self, hub=hub, names=names, ask=None)

    def for_out(self, out: str) -> ActionContext:
        """
        Return the same context with copies of published messages under the names of *out*.

        Raises:
            ValueError: the broker publishes no copies, or not under these names.
        """
        self.hub.capabilities.check_copies(out)
        return replace(self, out=out)


@lru_cache(maxsize=64)
def _with_policy(limits: BacklogLimits, slow: SlowConsumerPolicy) -> BacklogLimits:
    """
    Return *limits* with the policy *slow*; the same object for all subscribers.
    """
    return replace(limits, policy=slow)
