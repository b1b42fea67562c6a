"""
An RTSP client of a server without sockets.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.media.rtp.packet import write_packet
from rt_twisted.routes import parse_route
from rt_twisted.rtsp.messages import (
    InterleavedPacket,
    MessageParser,
    RtspResponse,
    write_interleaved,
    write_request,
)
from tests.unit.http.clients import Caller, Place

URL = "rtsp://localhost/cam"
SDP = b"""v=0
o=- 0 0 IN IP4 127.0.0.1
s=No Name
c=IN IP4 127.0.0.1
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1; sprop-parameter-sets=Z0LADdoFB+wEQAAAAwBAAAAMo8UKqA==,aM4PyA==
a=control:streamid=0
m=audio 0 RTP/AVP 97
a=rtpmap:97 MPEG4-GENERIC/48000/1
a=fmtp:97 mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3; config=118856E500
a=control:streamid=1
""".replace(b"\n", b"\r\n")
IDR = b"\x65\x88keyframe"
SLICE = b"\x41\x9aslice"


class RtspPlace:
    """
    A server on a clock, with routes.
    """

    def __init__(self, *lines: str, **arguments: Any) -> None:
        self.place = Place(*(lines or ("^/cam$ rtsp:cam",)), **arguments)
        self.hub = self.place.hub
        self.hub.start()
        routes = [parse_route(line, self.place.context) for line in lines or ("^/cam$ rtsp:cam",)]
        self.place.server.context.port_protocols = [
            route.action for route in routes if hasattr(route.action, "accept")
        ]

    def connect(self, address: str = "127.0.0.1") -> RtspClient:
        return RtspClient(self, Caller(self.place.server, address))

    def pass_seconds(self, seconds: int) -> None:
        self.place.clock.pump([1.0] * seconds)

    def turn(self) -> None:
        for _ in range(6):
            self.place.clock.advance(0)


class RtspClient:
    """
    A connection of a client.
    """

    def __init__(self, place: RtspPlace, caller: Caller) -> None:
        self.place = place
        self.caller = caller
        self.packets: list[InterleavedPacket] = []
        self.session = ""
        self._parser = MessageParser()
        self._parser.channels = frozenset(range(256))
        self._cseq = 0
        self._read = 0
        self._sequence = 0

    @property
    def open(self) -> bool:
        return self.caller.open

    def send(self, data: bytes) -> None:
        self.caller.send(data)
        self.place.turn()

    def request(self, method: str, url: str = URL, body: bytes = b"", **headers: str) -> bytes:
        """
        Return a request.
        """
        self._cseq += 1
        fields = [("CSeq", str(self._cseq))]
        if self.session:
            fields.append(("Session", self.session))
        fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
        return write_request(method, url, fields, body)

    def ask(self, method: str, url: str = URL, body: bytes = b"", **headers: str) -> RtspResponse:
        """
        Send a request and return its response.
        """
        self.send(self.request(method, url, body, **headers))
        [response] = self.responses()
        assert response.headers.get("cseq") == str(self._cseq)
        return response

    def responses(self) -> list[RtspResponse]:
        """
        Return the responses that have arrived since the last call.
        """
        written = self.caller.written()
        items = self._parser.feed(written[self._read :])
        self._read = len(written)
        self.packets += [item for item in items if isinstance(item, InterleavedPacket)]
        return [item for item in items if isinstance(item, RtspResponse)]

    def setup(self, control: str, channels: str, mode: str = "") -> RtspResponse:
        """
        Set up a track, and use its session.
        """
        transport = f"RTP/AVP/TCP;unicast;interleaved={channels}{mode}"
        response = self.ask("SETUP", f"{URL}/{control}", Transport=transport)
        self.session = response.headers.get("session", self.session).partition(";")[0]
        return response

    def record(self, sdp: bytes = SDP, tracks: int = 2) -> None:
        """
        Begin to record; all must succeed.
        """
        assert self.ask("ANNOUNCE", body=sdp, Content_Type="application/sdp").status == 200
        for index in range(tracks):
            channels = f"{2 * index}-{2 * index + 1}"
            assert self.setup(f"streamid={index}", channels, ";mode=record").status == 200
        assert self.ask("RECORD", Range="npt=0.000-").status == 200

    def play(self) -> RtspResponse:
        """
        Begin to play both tracks; all must succeed.
        """
        described = self.ask("DESCRIBE", Accept="application/sdp")
        assert described.status == 200
        assert self.setup("trackID=1", "0-1").status == 200
        if b"trackID=2" in described.body:
            assert self.setup("trackID=2", "2-3").status == 200
        return self.ask("PLAY", Range="npt=0-")

    def picture(self, number: int, payload: bytes = SLICE, marker: bool = True) -> None:
        """
        Send a packet of a picture, 40 ms behind the one before.
        """
        packet = write_packet(96, marker, self._sequence, 3600 * number, 7, payload)
        self._sequence += 1
        self.send(write_interleaved(0, packet))

    def sound(self, number: int) -> None:
        """
        Send an AAC frame.
        """
        payload = b"\0\x10" + (6 << 3).to_bytes(2) + b"<aac%d>" % (number % 10)
        self.send(write_interleaved(2, write_packet(97, True, number, 1024 * number, 8, payload)))
