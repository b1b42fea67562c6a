"""
What the daemon lends to its actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred, succeed

from rt_twisted.access.channel_names import ChannelNames
from rt_twisted.access.keys import Keys
from rt_twisted.http.interfaces import IConnectionHandoff
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.metrics.snapshot import NO_OTHERS, Snapshot, StatsQuery
from rt_twisted.net.inbound_memory import InboundMemory


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """
    What holds for all websockets.

    Args:
        message: bytes of one from a client.
        message_seconds: that it may take.
        rate: messages and other frames a client may send in a second; 0 for
            no limit.
        bytes: that it may send in a second; 0 for no limit.
        silence: seconds after which a client that has not said anything, not
            even in answer to a ping, is gone; 0 for never.
        close_seconds: for the closing handshake.
        compress_from: bytes from which a message is compressed for clients
            that can; 0 for none.
        origins: whose pages may open one; `same` stands for pages of the host
            that is asked, `*` for all.
    """

    message: int = 1 << 20
    message_seconds: float = 120.0
    rate: int = 1000
    bytes: int = 64 << 20
    silence: float = 50.0
    close_seconds: float = 5.0
    compress_from: int = 512
    origins: frozenset[str] = frozenset(("same",))


@dataclass(frozen=True, slots=True)
class SocketIOLimits:
    """
    What holds for all Socket.IO sessions.

    Args:
        ping_interval: seconds between two pings.
        ping_timeout: seconds to wait for the answer to one.
        connect_seconds: for joining a namespace, after the session is opened.
        handshake_seconds: for a second request, if it is opened by polling.
        max_pending: sessions by polling that have not sent one, or have joined no
            namespace: they are no subscribers yet.
        upgrade_seconds: for changing from polling to a websocket.
        max_payload: bytes of one post, or one websocket message, and of one
            packet's attachments.
        recovery: seconds for which is known who is gone, and what it heard.
    """

    ping_interval: float = 25.0
    ping_timeout: float = 20.0
    connect_seconds: float = 45.0
    handshake_seconds: float = 10.0
    max_pending: int = 1000
    upgrade_seconds: float = 10.0
    max_payload: int = 1_000_000
    recovery: float = 120.0


_T = TypeVar("_T")


class SharedState:
    """
    Objects that the actions of all routes share, one of each class.

    They outlive a reload, which builds actions anew.
    """

    def __init__(self) -> None:
        self._objects: dict[type[object], object] = {}

    def get(self, kind: type[_T], make: Callable[[], _T]) -> _T:
        """
        Return the shared object of class *kind*.

        Args:
            kind: the class, which is also the key.
            make: builds the object when it is first requested.
        """
        if kind not in self._objects:
            self._objects[kind] = make()
        return cast(_T, self._objects[kind])


@dataclass(frozen=True, slots=True)
class ActionContext:
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
        poll_seconds: how long a poll may wait for its answer.
        poll_bytes: of messages in one answer; what is left comes by the next poll.
        max_body: bytes of a publish request.
        max_message: bytes of one message.
        max_batch: messages of one request.
        websockets: limits of those.
        trim: strip white space and blank control characters in messages, as
            cyclone-sse did.
        socketio: limits of Socket.IO sessions.
        shared: what the actions of all routes share; it outlives reloads.
        hubs: the hub of a further server; raises ValueError, with one sentence.
        inbound: bounds unfinished input, in sum over all connections.
        ask: knows the numbers of all processes of this daemon; None if there is one.
        siblings: the other processes; None likewise.
    """

    hub: Hub
    reactor: Any = None
    names: ChannelNames = field(default_factory=ChannelNames)
    publish_keys: Keys = field(default_factory=Keys)
    stats_keys: Keys = field(default_factory=Keys)
    backlog_limits: BacklogLimits = field(default_factory=BacklogLimits)
    retry: int = 2000
    count_addresses: bool = False
    poll_seconds: float = 25.0
    poll_bytes: int = 256 << 10
    max_body: int = 2 << 20
    max_message: int = 1 << 20
    max_batch: int = 1000
    trim: bool = False
    websockets: WebSocketLimits = field(default_factory=WebSocketLimits)
    socketio: SocketIOLimits = field(default_factory=SocketIOLimits)
    shared: SharedState = field(default_factory=SharedState)
    inbound: InboundMemory = field(default_factory=lambda: InboundMemory(None, 0))
    hubs: Callable[[str], Hub] | None = None
    ask: Callable[[StatsQuery], Deferred[Snapshot]] | None = None
    handoff: IConnectionHandoff | None = None

    def count(self, question: StatsQuery) -> Deferred[Snapshot]:
        """
        The numbers of the whole daemon; may have fired already.

        Raises (in the Deferred):
            Refusal: they are not known now.
        """
        if self.ask is not None:
            return self.ask(question)
        hub = self.hub
        metrics = hub.current_metrics()
        if question.names:
            shown, others = [hub.channel_counts(name) for name in question.names], NO_OTHERS
        elif question.all_channels:
            shown, others = [], NO_OTHERS
        else:
            shown, others = hub.busiest_channels(question.max_channels)
        return succeed(Snapshot(metrics, len(metrics.channels), shown, others))

    def backlog_limits_for(self, slow: SlowConsumerPolicy | None) -> BacklogLimits:
        """
        The patience of a route with a policy of its own; None for all routes'.
        """
        return self.backlog_limits if slow is None else replace(self.backlog_limits, policy=slow)

    def at(self, server: str) -> ActionContext:
        """
        The same, with the channels of another *server*.

        Raises:
            ValueError: there is no way to it.
        """
        if self.hubs is None:
            raise ValueError("there are no further servers here")
        hub = self.hubs(server)
        return replace(self, hub=hub, names=self.names.with_broker(hub.check_channel), ask=None)
