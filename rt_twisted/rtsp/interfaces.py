"""
What the parts of an RTSP connection use of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rt_twisted.access.keys import Keys
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.template import Template
from rt_twisted.http.stream_handle import PeerInfo
from rt_twisted.hub.duplex import DuplexOwner, DuplexSubscriber
from rt_twisted.model.errors import Header
from rt_twisted.rtsp.messages import MessageParser, RtspRequest
from rt_twisted.rtsp.presentation import Announcement
from rt_twisted.rtsp.requests import RtspExchange
from rt_twisted.rtsp.server import RtspServer


@dataclass(frozen=True, slots=True)
class Reply:
    """
    The response to a request.

    Args:
        status: of RTSP.
        headers: without CSeq and those of the body.
        body: may be empty.
        reason: a sentence for the client, in place of a body.
        closes: the connection is closed behind the response.
        then: called when the response is written.
    """

    status: int = 200
    headers: Sequence[Header] = ()
    body: bytes = b""
    reason: str = ""
    closes: bool = False
    then: Callable[[], object] | None = None


class ConnectionInput(Protocol):
    """
    The receiving side of a connection. Pauses nest.
    """

    def pause_input(self) -> None:
        """
        Receive nothing more until `resume_input`.
        """

    def resume_input(self) -> None:
        """
        Undo one `pause_input`.
        """


class DialogueConnection(ConnectionInput, DuplexOwner, Protocol):
    """
    The connection of a dialogue; see `RtspConnection`.
    """

    server: RtspServer
    parser: MessageParser
    peer: PeerInfo
    subscriber: DuplexSubscriber | None
    closed: bool
    transport: Any
    input: Any

    def response(self, request: RtspRequest, reply: Reply) -> bytes:
        """
        Return the bytes of a response.
        """

    def take_back(self) -> None:
        """
        Receive the input again, once the subscriber has left the hub.
        """

    def begin_handshake(self) -> None:
        """
        Give the client the time of a new connection.
        """

    def abort(self, reason: str) -> None:
        """
        Close the connection at once.
        """


class RecordingSink(Protocol):
    """
    Receives what a client records.

    Attributes:
        times_out: whether it ends the connection by itself if nothing is received.
    """

    times_out: bool

    def touch(self, size: int) -> None:
        """
        Note that *size* bytes were received.
        """

    def packet(self, channel: int, data: bytes) -> None:
        """
        Receive a packet.
        """

    def close(self, reason: str) -> None:
        """
        End the recording.
        """


class RtspRoute(Protocol):
    """
    The action of an `rtsp` route; see `RtspAction`.
    """

    @property
    def context(self) -> ActionContext:
        """
        The hub and the settings.
        """

    @property
    def view_keys(self) -> Keys | None:
        """
        The key of players; None for none.
        """

    @property
    def burst(self) -> float:
        """
        Seconds of the stream that a player is sent at once.
        """

    @property
    def wait(self) -> float:
        """
        Seconds to wait for a publisher.
        """

    @property
    def behind(self) -> int | None:
        """
        Bytes that may wait for a player.
        """

    @property
    def any_codec(self) -> bool:
        """
        Whether tracks of unknown codecs can be recorded.
        """

    @property
    def publish(self) -> Template:
        """
        The channel, as the route line names it.
        """

    async def record(
        self,
        exchange: RtspExchange,
        match: Match,
        channel: str,
        tracks: Announcement,
        connection: DialogueConnection,
    ) -> RecordingSink:
        """
        Begin to record.
        """
