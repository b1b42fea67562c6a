"""
The memory of the daemon behind RTSP sessions that were broken off in every state.
"""

from __future__ import annotations

import socket
import struct
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from rt_twisted.media.rtp.packet import write_packet
from rt_twisted.rtsp.messages import write_interleaved, write_request
from tests.real.conftest import PATIENCE, Server, StartDaemon
from tests.real.live_programs import STATS, stats, wait_for
from tests.real.test_ingest_bodies import memory
from tests.unit.rtsp.clients import IDR, SDP, SLICE

SESSIONS = 10_000
ROUTES = ("--route=^/cam$ rtsp:cam", "--route=^/empty$ rtsp:empty", "--route=^/in/(.*)$ rtsp:in/$1",
          "--route=^/udp$ interleaved:127.0.0.1:9", STATS)  # fmt: skip
GROWTH = 1_000_000  # bytes in the second half: 200 for each session


class Client:
    """
    A client that asks one request after the other.

    Args:
        port: of the daemon.
        path: of the presentation.
    """

    def __init__(self, port: int, path: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self.url = f"rtsp://127.0.0.1:{port}{path}"
        self.session = ""
        self._cseq = 0

    def request(self, method: str, control: str = "", body: bytes = b"", **headers: str) -> bytes:
        self._cseq += 1
        fields = [("CSeq", str(self._cseq)), *headers.items()]
        if self.session:
            fields.append(("Session", self.session))
        if body:
            fields.append(("Content-Type", "application/sdp"))
        return write_request(method, self.url + control, fields, body)

    def ask(self, method: str, control: str = "", body: bytes = b"", **headers: str) -> None:
        """
        Send a request, and wait for its response.
        """
        self.socket.sendall(self.request(method, control, body, **headers))
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.socket.recv(65536)
            assert part, method
            data += part
        assert data.startswith(b"RTSP/1.0 200 "), data
        for line in data.decode("latin-1").splitlines():
            if line.startswith("Session: "):
                self.session = line.removeprefix("Session: ").partition(";")[0]

    def setup(self, control: str, mode: str = "") -> None:
        self.ask("SETUP", control, Transport=f"RTP/AVP/TCP;unicast;interleaved=0-1{mode}")

    def play(self) -> None:
        self.ask("DESCRIBE")
        self.setup("/trackID=1")
        self.ask("PLAY")

    def record(self) -> None:
        self.ask("ANNOUNCE", body=SDP)
        self.setup("/streamid=0", ";mode=record")
        self.ask("RECORD")

    def picture(self, number: int) -> None:
        payload = SLICE if number % 30 else IDR
        packet = write_packet(96, True, number & 0xFFFF, 3600 * number, 7, payload)
        self.socket.sendall(write_interleaved(0, packet))

    def close(self, reset: bool = False) -> None:
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def silent(client: Client) -> None:
    pass


def half_a_request(client: Client) -> None:
    client.socket.sendall(b"DESCRIBE rtsp://h/cam RTSP/1.0\r\nCSeq: 1\r\nUser-A")


def no_rtsp(client: Client) -> None:
    client.socket.sendall(bytes(range(256)) * 4)


def waits_for_a_publisher(client: Client) -> None:
    client.url = client.url.replace("/cam", "/empty")
    client.socket.sendall(client.request("DESCRIBE"))


def described(client: Client) -> None:
    client.ask("DESCRIBE")


def set_up(client: Client) -> None:
    client.ask("DESCRIBE")
    client.setup("/trackID=1")


def plays(client: Client) -> None:
    client.play()


def paused(client: Client) -> None:
    client.play()
    client.socket.sendall(client.request("PAUSE"))


def torn_down(client: Client) -> None:
    client.play()
    client.socket.sendall(client.request("TEARDOWN"))


def announced(client: Client) -> None:
    client.url = client.url.replace("/cam", "/in/one")
    client.ask("ANNOUNCE", body=SDP)


def half_an_announcement(client: Client) -> None:
    client.socket.sendall(client.request("ANNOUNCE", body=SDP)[:-100])


def records(client: Client) -> None:
    client.url = client.url.replace("/cam", f"/in/{client.socket.getsockname()[1]}")
    client.record()
    for number in range(3):
        client.picture(number)


def records_half_a_packet(client: Client) -> None:
    records(client)
    client.socket.sendall(b"$\0\xff\xff\x80\x60" + bytes(30_000))


def records_garbage(client: Client) -> None:
    records(client)
    client.socket.sendall(bytes(70_000))


def forwards(client: Client) -> None:
    client.url = client.url.replace("/cam", "/udp")
    client.record()
    client.picture(0)


def half_a_tunnel(client: Client) -> None:
    cookie = client.socket.getsockname()[1]
    client.socket.sendall(b"GET /cam HTTP/1.1\r\nHost: h\r\nx-sessioncookie: %d\r\n\r\n" % cookie)
    assert client.socket.recv(4096).startswith(b"HTTP/1.0 200 ")


def a_tunnel(client: Client) -> None:
    half_a_tunnel(client)
    host, port = client.socket.getpeername()
    cookie = client.socket.getsockname()[1]
    with socket.create_connection((host, port), PATIENCE) as post:
        head = b"POST /cam HTTP/1.1\r\nHost: h\r\nContent-Length: 32767\r\nx-sessioncookie: %d\r\n"
        kind = b"Content-Type: application/x-rtsp-tunnelled\r\n\r\n"
        post.sendall(head % cookie + kind + b64encode(client.request("DESCRIBE")))
        assert client.socket.recv(4096).startswith(b"RTSP/1.0 200 ")


STATES: tuple[Callable[[Client], None], ...] = (
    silent, half_a_request, no_rtsp, waits_for_a_publisher, described, set_up, plays, paused,
    torn_down, announced, half_an_announcement, records, records_half_a_packet, records_garbage,
    forwards, half_a_tunnel, a_tunnel,
)  # fmt: skip


@pytest.fixture
def publisher() -> Iterator[Callable[[Server], Client]]:
    """
    Starts the publisher of /cam.
    """
    started: list[Client] = []

    def start(server: Server) -> Client:
        client = Client(server.port, "/cam")
        started.append(client)
        client.record()
        return client

    yield start
    for client in started:
        client.close()


@pytest.mark.limit(300)
def test_memory_is_flat_over_broken_sessions(
    daemon: StartDaemon, publisher: Callable[[Server], Client]
) -> None:
    """
    However a session ends, and in whatever state, nothing of it is left.
    """
    server = daemon(*ROUTES, "--live-grace=1", "--live-bytes=64k", "--linger=1")
    camera = publisher(server)
    found: list[int] = []
    for number in range(SESSIONS):
        camera.picture(number)
        client = Client(server.port, "/cam")
        STATES[number % len(STATES)](client)
        with suppress(OSError):  # the daemon has closed it
            client.close(reset=number // len(STATES) % 2 == 0)
        if number % (SESSIONS // 2) == SESSIONS // 2 - 1:
            wait_for(lambda: stats(server)["live"]["viewers"] == 0)
            found.append(memory(server.pid))

    halfway, last = found
    assert last - halfway < GROWTH, found
    assert stats(server)["live"]["publishers"] >= 1
    assert "Traceback" not in server.log
