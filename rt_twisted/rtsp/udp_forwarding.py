"""
The action `interleaved`: what a client records is forwarded to UDP targets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar

from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange, IPortProtocol
from rt_twisted.http.stream_handle import PeerInfo, StreamHandle
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.interfaces import DialogueConnection
from rt_twisted.rtsp.port import accept_rtsp
from rt_twisted.rtsp.presentation import Announcement
from rt_twisted.rtsp.requests import RtspExchange
from rt_twisted.rtsp.start import is_rtsp

_TARGET = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|(\d{1,3}(?:\.\d{1,3}){3})):(\d{1,5})")


@implementer(IAction, IPortProtocol)
@dataclass(frozen=True, slots=True)
class InterleavedAction:
    """
    Forward what a client records by UDP: `interleaved:10.0.0.5:5004;[fd00::6]:5006`.

    The n-th track goes to the n-th target by UDP, its RTCP to the port above.

    Args:
        context: the hub and the settings.
        targets: addresses with ports, separated by semicolons.
    """

    context: ActionContext
    targets: str
    places: tuple[tuple[str, int], ...] = field(init=False, compare=False)

    bare: ClassVar[str] = "targets"
    counts_as: ClassVar[str] = PUBLISHES
    methods: ClassVar[Sequence[str]] = ()
    spare_methods: ClassVar[Sequence[str]] = ("GET",)
    port_methods: ClassVar[Sequence[str]] = ("ANNOUNCE",)
    any_codec: ClassVar[bool] = True
    publish: ClassVar[Template] = Template("", ())  # no channel: nothing is published

    def __post_init__(self) -> None:
        places = []
        for target in self.targets.split(";"):
            found = _TARGET.fullmatch(target.strip())
            if found is None or not 0 < int(found[3]) < 65535:
                raise ValueError(f"{target!r} is not ADDRESS:PORT or [IPV6]:PORT")
            places.append((found[1] or found[2], int(found[3])))
        object.__setattr__(self, "places", tuple(places))

    def act(self, exchange: IExchange, match: Match) -> None:
        host = exchange.header("host") or "HOST"
        raise HttpError(404, f"this path is for RTSP: rtsp://{host}{exchange.path}")

    def matches(self, start: bytes) -> bool | None:
        return is_rtsp(start)

    def accept(self, connection: StreamHandle, peer: PeerInfo) -> None:
        accept_rtsp(self.context, connection, peer)

    async def record(
        self,
        exchange: RtspExchange,
        match: Match,
        channel: str,
        tracks: Announcement,
        connection: DialogueConnection,
    ) -> UdpForwarder:
        """
        Begin to forward.

        Raises:
            HttpError: 503, there is no UDP port for it.
        """
        targets: dict[int, tuple[str, int]] = {}
        for (host, port), index in zip(self.places, sorted(tracks.channels), strict=False):
            first, second = tracks.channels[index]
            targets[first] = host, port
            targets[second] = host, port + 1
        try:
            return UdpForwarder(self.context.reactor, targets)
        except CannotListenError:
            raise HttpError(503, "no UDP port is free") from None


class _QuietProtocol(DatagramProtocol):
    """
    A protocol whose start and stop are not logged.
    """

    noisy = False


class UdpForwarder:
    """
    Sends packets to UDP targets, until it is closed.

    Args:
        reactor: the reactor.
        targets: address and port of each channel; the packets of others are left out.

    Raises:
        CannotListenError: there is no UDP port for it.
    """

    times_out = False

    def __init__(self, reactor: Any, targets: dict[int, tuple[str, int]]) -> None:
        self._targets = targets
        self._ports: dict[bool, Any] = {}  # by whether they have IPv6
        for host, _ in targets.values():
            is_v6 = ":" in host
            if is_v6 not in self._ports:
                interface = "::" if is_v6 else ""
                try:
                    port = reactor.listenUDP(0, _QuietProtocol(), interface=interface)
                except CannotListenError:
                    self.close("")
                    raise
                port.stopReading()  # datagrams to it cost nothing
                self._ports[is_v6] = port

    def touch(self, size: int) -> None:
        """
        Do nothing: the session has a timeout.
        """

    def packet(self, channel: int, data: bytes) -> None:
        """
        Send a packet to its target. One that cannot be sent is lost, as by UDP.
        """
        target = self._targets.get(channel)
        if target is not None:
            with suppress(OSError, MessageLengthError):
                self._ports[":" in target[0]].write(data, target)

    def close(self, reason: str) -> None:
        """
        Close the sockets.
        """
        ports, self._ports, self._targets = self._ports, {}, {}
        for port in ports.values():
            port.stopListening()
