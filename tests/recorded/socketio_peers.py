"""
Socket.IO clients that write each packet into a transcript.

How packets are spread over the answers to polls is a matter of time, so it is
left out; the first request of each kind is recorded in full.
"""

from __future__ import annotations

import re
from collections import deque

from tests.real.conftest import Server
from tests.recorded.peers import HttpPeer, WebSocketPeer
from tests.recorded.transcript import Transcript

NAMED = re.compile(r'"(sid|pid)":"([^"]+)"')


def name_ids(transcript: Transcript, text: str) -> str:
    """
    Replace the ids that *text* gives out in the transcript; the first of them.
    """
    found = NAMED.findall(text)
    for kind, value in found:
        transcript.identify(value, kind.upper())
    return found[0][1] if found else ""


class PollingPeer:
    """
    A session by long-polling.

    Args:
        server: to connect to.
        transcript: of the dialogue.
        revision: of Engine.IO, 3 or 4.
        query: of the first request, behind what it must have.
        path: where Socket.IO is served.
    """

    def __init__(
        self,
        server: Server,
        transcript: Transcript,
        revision: int = 4,
        query: str = "",
        path: str = "/socket.io/",
    ) -> None:
        self._server = server
        self._transcript = transcript
        self._revision = revision
        self._packets: deque[str] = deque()
        self._posted = self._polled = False
        self.target = f"{path}?EIO={revision}&transport=polling"
        with HttpPeer(server, transcript) as http:
            response = http.ask(f"GET {self.target}{query}")
        self.sid = name_ids(transcript, response.body.decode(errors="replace"))
        self.target += f"&sid={self.sid}"
        self._take(response.body)
        self._packets.popleft()  # the handshake, which is recorded

    def send(self, *packets: str) -> None:
        """
        Post *packets* in one request body, and record them.
        """
        body = "\x1e".join(packets)
        if self._revision == 3:
            body = "".join(f"{len(packet)}:{packet}" for packet in packets)
        quiet = None if self._posted else self._transcript
        self._posted = True
        if quiet is None:
            for packet in packets:
                self._transcript.sent(f"{packet}\n")
        kind = "Content-Type: text/plain;charset=UTF-8"
        with HttpPeer(self._server, quiet) as http:
            response = http.ask(f"POST {self.target}", kind, body=body)
        assert (response.status, response.body) == (200, b"ok"), response

    def receive(self, count: int = 1) -> str:
        """
        The next packet, or the last of the next *count* ones.
        """
        packet = ""
        for _ in range(count):
            while not self._packets:
                self._poll()
            packet = self._packets.popleft()
            name_ids(self._transcript, packet)
            self._transcript.received(f"{packet}\n")
        return packet

    def _poll(self) -> None:
        hidden = Transcript()
        with HttpPeer(self._server, hidden) as http:
            response = http.ask(f"GET {self.target}", hide=True)
        assert response.status == 200, response
        if not self._polled:
            self._polled = True
            self._transcript.add(str(hidden))
        self._take(response.body)

    def _take(self, body: bytes) -> None:
        if self._revision == 4:
            self._packets.extend(body.decode().split("\x1e"))
            return
        while body:
            if body[0] < 2:  # the binary form: a flag, digits, 0xff
                digits, _, rest = body[1:].partition(b"\xff")
                size = int("".join(str(digit) for digit in digits))
                raw, body = rest[:size], rest[size:]
                self._packets.append(raw.decode(errors="backslashreplace"))
            else:
                text = body.decode()
                length, _, text = text.partition(":")
                self._packets.append(text[: int(length)])
                body = text[int(length) :].encode()


class SocketPeer:
    """
    A session by websocket, from its beginning or upgraded.

    Args:
        http: the connection.
        revision: of Engine.IO, 3 or 4.
        query: behind what it must have, such as `&sid=...`.
        path: where Socket.IO is served.
    """

    def __init__(
        self, http: HttpPeer, revision: int = 4, query: str = "", path: str = "/socket.io/"
    ) -> None:
        self._http = http
        self._socket = WebSocketPeer(http, f"{path}?EIO={revision}&transport=websocket{query}")

    def send(self, *packets: str | bytes) -> None:
        """
        Send packets, one a frame.
        """
        for packet in packets:
            self._socket.send(packet)

    def receive(self, count: int = 1) -> str:
        """
        The next packet, or the last of the next *count* ones.
        """
        text = ""
        for _ in range(count):
            text = self._socket.receive().decode(errors="backslashreplace")
            name_ids(self._http.transcript, text)
        return text

    def close(self) -> None:
        """
        Leave as a page that is closed does, and wait until the daemon has noticed.
        """
        self._socket.send(b"\x03\xe9", 8)
        self._socket.receive()
        self._socket.end()

    def end(self) -> None:
        """
        Receive up to the close frame, and wait for the end.
        """
        self._socket.end_after_frames()
