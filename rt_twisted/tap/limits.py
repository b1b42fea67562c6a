"""
Builds limits from the settings.

With workers, limits on the whole daemon are divided among them.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping
from math import ceil
from typing import Any

from rt_twisted.actions.context import SocketIOLimits, UpstreamLimits, WebSocketLimits, WsgiLimits
from rt_twisted.codecs.addresses import AddressHeader, Networks
from rt_twisted.http.request import HttpLimits
from rt_twisted.hub.limits import BacklogLimits, HubLimits, SlowConsumerPolicy

RESERVED_FILES = 100  # descriptors for everything that is neither a subscriber nor idle
IDLE_DIVISOR = 10  # a tenth of all descriptors is for idle connections...
MIN_IDLE = 50  # ...but at least so many

Settings = Mapping[str, Any]


def raise_file_limit() -> int:
    """
    Raise the limit on open files as far as this process may, and return it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def read_hub_limits(settings: Settings) -> HubLimits:
    """
    Return the limits of the hub of this process.
    """
    return HubLimits(
        subscribers=_share(settings, "max-readers")
        or max(1, raise_file_limit() - RESERVED_FILES - _idle_connections(settings)),
        subscribers_per_address=settings["max-readers-per-address"],
        history_bytes=_share(settings, "history-memory"),
        live_memory=_share(settings, "live-memory"),
        replay_bytes=settings["replay-bytes"],
        linger=settings["linger"],
        live_timeout=settings["live-timeout"],
        live_grace=settings["live-grace"],
        heartbeat=settings["heartbeat"],
        join_rate=_share(settings, "join-rate"),
        join_queue=_share(settings, "join-queue"),
    )


def read_backlog_limits(settings: Settings) -> BacklogLimits:
    """
    Return how far behind a subscriber may be.
    """
    return BacklogLimits(
        settings["backlog-bytes"],
        settings["backlog-seconds"],
        SlowConsumerPolicy(settings["slow"]),
    )


def read_wsgi_limits(settings: Settings) -> WsgiLimits:
    """
    Return the limits of WSGI applications; each process has its own threads.
    """
    return WsgiLimits(
        threads=settings["wsgi-threads"],
        queue=settings["wsgi-queue"],
        websockets=settings["wsgi-websockets"],
        timeout=settings["wsgi-timeout"],
        send_seconds=settings["body-seconds"],
    )


def read_http_limits(settings: Settings) -> HttpLimits:
    """
    Return the limits of requests and of idle connections.
    """
    return HttpLimits(
        line=settings["max-line"],
        headers=settings["max-headers"],
        header_bytes=settings["max-header-bytes"],
        body=settings["max-body"],
        head_seconds=settings["head-seconds"],
        body_seconds=settings["body-seconds"],
        idle_seconds=settings["idle-seconds"],
        idle_connections=_idle_connections(settings),
        trusted_proxies=settings["trusted-proxies"] or Networks(),
        address_header=AddressHeader(settings["client-address-header"]),
    )


def read_websocket_limits(settings: Settings) -> WebSocketLimits:
    """
    Return the limits of websockets.
    """
    heartbeat, tolerance = settings["heartbeat"], settings["websocket-tolerance"]
    return WebSocketLimits(
        message=settings["websocket-message"],
        message_seconds=settings["websocket-message-seconds"],
        rate=settings["websocket-rate"],
        bytes=settings["websocket-bytes"],
        silence=heartbeat + tolerance if heartbeat and tolerance else 0.0,
        close_seconds=settings["websocket-close-seconds"],
        compress_from=settings["websocket-compress"],
        origins=settings["websocket-origins"] or frozenset(("same",)),
    )


def read_socketio_limits(settings: Settings) -> SocketIOLimits:
    """
    Return the limits of Socket.IO sessions.
    """
    return SocketIOLimits(
        ping_interval=settings["socketio-ping-interval"],
        ping_timeout=settings["socketio-ping-timeout"],
        connect_seconds=settings["socketio-connect-seconds"],
        handshake_seconds=settings["socketio-handshake-seconds"],
        max_pending=_share(settings, "socketio-max-pending"),
        upgrade_seconds=settings["socketio-upgrade-seconds"],
        max_payload=settings["socketio-max-payload"],
        recovery=settings["socketio-recovery"],
    )


def read_upstream_limits(settings: Settings) -> UpstreamLimits:
    """
    Return the limits for applications that requests are passed on to.
    """
    return UpstreamLimits(
        timeout=settings["upstream-timeout"],
        connections=_share(settings, "upstream-connections"),
        queue=_share(settings, "upstream-queue"),
        tunnels=_share(settings, "upstream-tunnels"),
    )


def read_inbound_limit(settings: Settings) -> int:
    """
    Return how many bytes of incomplete input this process may hold; 0 for no limit.
    """
    return _share(settings, "inbound-memory")


def _share(settings: Settings, name: str) -> int:
    return ceil(int(settings[name]) / int(settings["workers"]))


def _idle_connections(settings: Settings) -> int:
    return _share(settings, "max-idle-connections") or max(
        MIN_IDLE, raise_file_limit() // IDLE_DIVISOR
    )
