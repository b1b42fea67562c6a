"""
A client of HTTP/2 on the h2 library, without sockets.
"""

from __future__ import annotations

import json
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from rt_twisted.http.h2 import Http2Connection
from rt_twisted.model.message import Draft
from tests.unit.http.clients import Place, Wire

Codes = h2.errors.ErrorCodes


class Received:
    """
    The frames received on one stream.
    """

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.reset: int | None = None
        self.informed: list[str] = []

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """
    An HTTP/2 client of *place*.

    Args:
        greedy: it opens its windows again for all that it got.
        window: of each of its streams.
    """

    def __init__(self, place: Place, greedy: bool = True, window: int = 65535) -> None:
        self.place = place
        self.greedy = greedy
        self.wire = Wire("192.0.2.1")
        self.server = Http2Connection(place.server.context, self.wire, self.wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.talk = h2.connection.H2Connection(config)
        self.talk.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.streams: dict[int, Received] = {}
        self.goaway_code: int | None = None
        self.talk.initiate_connection()
        self.turn()

    def ask(
        self, path: str, body: bytes | None = None, method: str = "", *headers: tuple[str, str]
    ) -> Received:
        """
        Begin a request, complete unless it has a *body* in parts.
        """
        number = self.begin(
            path, method or ("GET" if body is None else "POST"), body is None, *headers
        )
        if body is not None:
            self.talk.send_data(number, body, end_stream=True)
        self.turn()
        return self.streams[number]

    def begin(self, path: str, method: str, end: bool, *headers: tuple[str, str]) -> int:
        number = self.talk.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "a")]
        self.talk.send_headers(number, [*pseudo, *headers], end_stream=end)
        self.streams[number] = Received()
        return number

    def number(self, stream: Received) -> int:
        return next(number for number, each in self.streams.items() if each is stream)

    def turn(self, turns: int = 4) -> None:
        """
        Pass bytes both ways, and let the clock run.
        """
        for _ in range(turns):
            data = self.talk.data_to_send()
            if data and not self.wire.disconnecting:
                self.server.dataReceived(data)
            self.place.clock.advance(0)
            self._receive()

    def _receive(self) -> None:
        data: bytes = self.wire.value()  # type: ignore[no-untyped-call]  # Twisted's
        self.wire.clear()  # type: ignore[no-untyped-call]  # Twisted's
        for event in self.talk.receive_data(data):
            stream = self.streams.get(getattr(event, "stream_id", None) or 0, Received())
            if isinstance(event, h2.events.ResponseReceived):
                stream.headers = {str(n): str(v) for n, v in event.headers or ()}
            elif isinstance(event, h2.events.InformationalResponseReceived):
                stream.informed = [str(v) for n, v in event.headers or ()]
            elif isinstance(event, h2.events.DataReceived):
                stream.body += event.data or b""
                if self.greedy:
                    self.talk.acknowledge_received_data(
                        event.flow_controlled_length or 0, event.stream_id or 0
                    )
            elif isinstance(event, h2.events.StreamEnded):
                stream.ended = True
            elif isinstance(event, h2.events.StreamReset):
                stream.reset = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goaway_code = event.error_code

    def hang_up(self) -> None:
        self.server.connectionLost(Failure(ConnectionLost()))


def publish(place: Place, text: bytes = b"hello", channel: str = "news") -> None:
    place.hub.publish([Draft(channel, text)])
