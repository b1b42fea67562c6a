"""
The dialogue of one RTSP connection: what its requests do (RFC 2326, 10).
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost

from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.subscription import end_with_grant, when_admitted
from rt_twisted.codecs.addresses import limit_key
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats import build_format
from rt_twisted.formats.rtp_interleaved import RtpInterleaved
from rt_twisted.http.stream_handle import Find
from rt_twisted.hub.duplex import DuplexSubscriber
from rt_twisted.hub.first_message import first_message
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.media.rtp.numbers import numbers_of
from rt_twisted.media.sdp import parse_sdp
from rt_twisted.media.unit import Head, read
from rt_twisted.metrics.responses import PUBLISHES, SUBSCRIBERS, count_refusal
from rt_twisted.model.errors import Header, HttpError, Unavailable
from rt_twisted.model.message import Message, Sync
from rt_twisted.rtsp.fields import (
    TransportSpecification,
    choose_transport,
    find_track,
    free_channels,
    session_of,
)
from rt_twisted.rtsp.granting import play_permitted, publish_permitted
from rt_twisted.rtsp.interfaces import DialogueConnection, RecordingSink, Reply, RtspRoute
from rt_twisted.rtsp.messages import InterleavedPacket
from rt_twisted.rtsp.playing import rtp_info
from rt_twisted.rtsp.presentation import Announcement, Offer, announce, no_encoding, offer
from rt_twisted.rtsp.requests import RtspExchange
from rt_twisted.rtsp.server import MAX_IDLE_SESSIONS, SESSION_SECONDS
from rt_twisted.rtsp.session import RtspState, next_state
from rt_twisted.rtsp.start import METHODS

_PUBLIC = ("Public", ", ".join(METHODS))
_COUNT_AS = {
    "DESCRIBE": SUBSCRIBERS,
    "PLAY": SUBSCRIBERS,
    "ANNOUNCE": PUBLISHES,
    "RECORD": PUBLISHES,
}


@dataclass(frozen=True, slots=True)
class Named:
    """
    The presentation that a connection has named last.

    Args:
        route: of its path.
        match: what the pattern of the route matched, with the grant of the client.
        channel: of the route.
        tracks: that are published or played.
        url: of the request that named it, without a slash at the end.
    """

    route: RtspRoute
    match: Match
    channel: str
    tracks: Announcement | Offer
    url: str


class Dialogue:
    """
    Answers the requests of one connection, one after the other.

    Args:
        connection: of the client.
        find: returns the action for a method and a path.
    """

    def __init__(self, connection: DialogueConnection, find: Find | None) -> None:
        self._state = RtspState.INIT
        self._connection = connection
        self._find = find
        self._session = secrets.token_hex(8)
        self._named: Named | None = None
        self._recording: RecordingSink | None = None
        self._waiting: Deferred[Message | None] | None = None  # for a publisher

    @property
    def state(self) -> RtspState:
        """
        Return the state of the session.
        """
        return self._state

    @property
    def times_out(self) -> bool:
        """
        Return whether what is recorded ends by itself if the client sends nothing.
        """
        return self._recording is not None and self._recording.times_out

    def _enter(self, state: RtspState) -> None:
        """
        Change the state. Sessions that do nothing are counted, and bounded for each address.

        Raises:
            RemoteProtocolError: 453, the client has too many of them.
        """
        idle = self._connection.server.idle_sessions
        address = limit_key(self._connection.peer.host)
        change = (state is RtspState.READY) - (self._state is RtspState.READY)
        if change > 0 and self._state is RtspState.INIT and idle[address] >= MAX_IDLE_SESSIONS:
            raise RemoteProtocolError("the client has too many sessions", 453)
        self._state = state
        if change:
            idle[address] += change
            if not idle[address]:
                del idle[address]

    def release(self) -> None:
        """
        Release what is counted, and end a wait for a publisher: the connection is lost.
        """
        self._enter(RtspState.INIT)
        if self._waiting is not None:
            self._waiting.cancel()

    def touch(self, size: int) -> None:
        """
        Note that the client has sent *size* bytes.
        """
        if self._recording is not None:
            self._recording.touch(size)

    def packet(self, packet: InterleavedPacket) -> None:
        """
        Receive a packet: of a publisher, or the report of a player, which is not used.
        """
        if self._recording is not None:
            self._recording.packet(packet.channel, packet.data)

    def end(self, reason: str) -> None:
        """
        End what the connection publishes; it is lost, or about to be closed.
        """
        recording, self._recording = self._recording, None
        if recording is not None:
            recording.close(reason)

    async def answer(self, exchange: RtspExchange) -> Reply | None:
        """
        Return the response to a request; None if it has been written.

        Raises:
            HttpError: the status and the reason of a refusal.
            RemoteProtocolError: likewise.
            ConnectionLost: the client has disconnected.
        """
        method = _HANDLERS.get(exchange.method)
        if method is None:
            raise RemoteProtocolError(f"{exchange.method[:32]} is not implemented", 501)
        session = exchange.header("session")
        if session is not None and session_of(session) != self._session:
            raise RemoteProtocolError("there is no such session on this connection", 454)
        if exchange.header("require"):
            unsupported = exchange.header("require") or ""
            return Reply(551, [("Unsupported", unsupported)])
        following = next_state(self.state, exchange.method)
        try:
            reply = await method(self, exchange)
        except HttpError as error:
            self._count(exchange, error.status)
            raise
        if not self._connection.closed:
            self._enter(following)
        return reply

    def _count(self, exchange: RtspExchange, status: int) -> None:
        """
        Count a refusal. A client that is only asked for credentials is not refused yet.
        """
        if status == 401 and exchange.header("authorization") is None:
            return
        found = self._find(exchange.method, exchange.path) if self._find is not None else None
        route = self._named.route if self._named is not None else None
        if isinstance(found, tuple):
            route = found[0]
        if route is not None:
            count_refusal(route.context.metrics, _COUNT_AS.get(exchange.method, ""), status)

    async def _on_options(self, exchange: RtspExchange) -> Reply:
        return Reply(headers=[_PUBLIC, *self._session_header()])

    async def _on_parameter(self, exchange: RtspExchange) -> Reply:
        if exchange.request.body.strip():
            raise RemoteProtocolError("there are no parameters", 451)
        return Reply(headers=self._session_header())

    async def _on_describe(self, exchange: RtspExchange) -> Reply:
        named = await self._offer(exchange, exchange.path)
        if self.state is RtspState.INIT:
            self._named = named
        assert isinstance(named.tracks, Offer)
        host = self._connection.transport.getHost()
        address = str(getattr(host, "host", "127.0.0.1")).removeprefix("::ffff:")
        body = named.tracks.describe(address, str(int(self._session[:12], 16)))
        base = named.url if "?" in named.url else f"{named.url}/"
        headers = [("Content-Base", base), ("Content-Type", "application/sdp")]
        return Reply(headers=headers, body=body)

    async def _offer(self, exchange: RtspExchange, path: str) -> Named:
        """
        Return what the client may play at *path*.

        Raises:
            ConnectionLost: the client has disconnected.
        """
        route, match = self._route("DESCRIBE", path)
        access = self._connection.server.access
        channel, match = await play_permitted(access, exchange, route, match)
        context = route.context
        context.hub.admit("")
        self._waiting = first_message(
            context.hub, context.reactor, channel, RtpInterleaved(), route.wait
        )
        try:
            first = await self._waiting
        except CancelledError:
            raise ConnectionLost from None
        finally:
            self._waiting = None
        head = read(first) if first is not None else None
        if not isinstance(head, Head):
            raise HttpError(404, f"channel {channel!r} has no publisher")
        url = exchange.request.url.rstrip("/")
        return Named(route, match, channel, offer(path, channel, head), url)

    async def _on_announce(self, exchange: RtspExchange) -> Reply:
        route, match = self._route("ANNOUNCE", exchange.path)
        access = self._connection.server.access
        channel = ""
        if route.publish.source:
            channel, match = await publish_permitted(access, exchange, route, match)
        else:
            access.authorize(exchange, route.context.publish_keys, [])
        kind = (exchange.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/sdp":
            raise RemoteProtocolError("ANNOUNCE needs a body of application/sdp", 415)
        encoding_of = getattr(route, "encoding_of", no_encoding)
        description = parse_sdp(exchange.request.body)
        max_unit = route.context.max_unit
        tracks = announce(exchange.path, description, route.any_codec, encoding_of, max_unit)
        url = exchange.request.url.rstrip("/")
        self._named = Named(route, match, channel, tracks, url)
        return Reply()

    async def _on_setup(self, exchange: RtspExchange) -> Reply:
        wanted = choose_transport(exchange.header("transport") or "")
        named = self._named
        if named is None:
            path = exchange.path.rpartition("/")[0] or "/"
            named = self._named = await self._offer(exchange, path)
        tracks = named.tracks
        index = find_track(exchange.url, tracks.path, tracks.controls)
        if index is None and exchange.path == tracks.path:
            raise RemoteProtocolError("SETUP needs the URL of one track", 459)
        if index is None:
            raise RemoteProtocolError("there is no such track", 404)
        channels = self._channels(tracks, index, wanted)
        tracks.channels[index] = channels
        self._connection.parser.channels = frozenset(
            [number for pair in tracks.channels.values() for number in pair]
        )
        transport = f"RTP/AVP/TCP;unicast;interleaved={channels[0]}-{channels[1]}"
        if isinstance(tracks, Announcement):
            transport += ";mode=record"
        else:
            source = numbers_of(named.channel, tracks.tracks[index].id).source
            transport += f";ssrc={source:08X}"
        return Reply(headers=[("Transport", transport), *self._session_header(True)])

    def _channels(
        self, tracks: Announcement | Offer, index: int, wanted: TransportSpecification
    ) -> tuple[int, int]:
        others = [
            number for other, pair in tracks.channels.items() if other != index for number in pair
        ]
        if wanted.channels is None or set(wanted.channels) & set(others):
            return free_channels(others)
        return wanted.channels

    async def _on_record(self, exchange: RtspExchange) -> Reply:
        named = self._named
        if named is None or not isinstance(named.tracks, Announcement):
            raise RemoteProtocolError("RECORD needs an ANNOUNCE", 455)
        if self._recording is not None:
            return Reply(headers=self._session_header())
        self._recording = await named.route.record(
            exchange, named.match, named.channel, named.tracks, self._connection
        )
        return Reply(headers=self._session_header())

    async def _on_play(self, exchange: RtspExchange) -> Reply | None:
        named = self._named
        if named is None or not isinstance(named.tracks, Offer):
            raise RemoteProtocolError("PLAY needs a DESCRIBE", 455)
        if self._connection.subscriber is not None:
            return Reply(headers=self._session_header())
        context, tracks = named.route.context, named.tracks
        format = build_format("rtp-interleaved", channel=named.channel, tracks=tracks.wire_tracks())

        def join(address: str, numbers: str) -> None:
            headers = [*self._session_header(), ("Range", "npt=now-"), ("RTP-Info", numbers)]
            response = self._connection.response(exchange.request, Reply(headers=headers))
            self._join(named, format, address, response)

        try:
            retained = await context.hub.live.newest_messages(named.channel)
        except Unavailable:
            retained = []
        numbers = rtp_info(named.url, named.channel, format.tracks, retained)
        joined: Any = when_admitted(
            context, exchange.as_exchange(), lambda address: join(address, numbers)
        )
        if joined is not None:
            await joined
        return None

    def _join(self, named: Named, format: Any, address: str, response: bytes) -> None:
        connection, route = self._connection, named.route
        if connection.closed:
            return
        hub = route.context.hub
        limits = route.context.backlog_limits_for(SlowConsumerPolicy.SYNC)
        if route.behind is not None:
            limits = replace(limits, bytes=route.behind)
        duplex = DuplexSubscriber(hub, connection, connection.transport, format, limits, address)
        connection.subscriber = duplex
        self._enter(RtspState.PLAYING)
        hub.join(duplex.subscriber, [named.channel], Sync(route.burst), response)
        end_with_grant(route.context, duplex.subscriber, named.match.grant)

    async def _on_pause(self, exchange: RtspExchange) -> Reply:
        return Reply(headers=self._session_header(), then=self._stop)

    async def _on_teardown(self, exchange: RtspExchange) -> Reply:
        return Reply(headers=self._session_header(), then=self._forget)

    def _stop(self) -> None:
        """
        Stop to play or to publish; the tracks stay set up.
        """
        self.end("the publisher has ended")
        duplex = self._connection.subscriber
        if duplex is not None and duplex.subscriber.behind:
            self._connection.abort("the client did not take the response")
        elif duplex is not None:
            duplex.detach(DisconnectReason.CLIENT)
            self._connection.take_back()

    def _forget(self) -> None:
        self._stop()
        self._named = None
        self._session = secrets.token_hex(8)
        self._connection.parser.channels = frozenset()
        self._connection.begin_handshake()

    def _route(self, method: str, path: str) -> tuple[RtspRoute, Match]:
        find = self._find or (lambda method, path: None)
        found = find(method, path)
        if isinstance(found, tuple):
            return found
        other = "ANNOUNCE" if method == "DESCRIBE" else "DESCRIBE"
        if isinstance(find(other, path), tuple):
            raise HttpError(405, f"this path is not for {method}", [("Allow", other)])
        raise HttpError(404, "no rtsp route has this path")

    def _session_header(self, created: bool = False) -> list[Header]:
        if not created and self.state is RtspState.INIT:
            return []
        return [("Session", f"{self._session};timeout={SESSION_SECONDS:g}")]


# Not in each dialogue: its own bound methods would be reference cycles.
_HANDLERS: Mapping[str, Callable[[Dialogue, RtspExchange], Awaitable[Reply | None]]] = {
    "OPTIONS": Dialogue._on_options,
    "DESCRIBE": Dialogue._on_describe,
    "ANNOUNCE": Dialogue._on_announce,
    "SETUP": Dialogue._on_setup,
    "PLAY": Dialogue._on_play,
    "PAUSE": Dialogue._on_pause,
    "RECORD": Dialogue._on_record,
    "TEARDOWN": Dialogue._on_teardown,
    "GET_PARAMETER": Dialogue._on_parameter,
    "SET_PARAMETER": Dialogue._on_parameter,
}
