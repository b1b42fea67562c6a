"""
RTSP with aiortsp, a client that shares no code with us or with ffmpeg.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

from aiortsp.rtcp.parser import RTCP
from aiortsp.rtsp.connection import RTSPConnection
from aiortsp.rtsp.session import RTSPMediaSession
from aiortsp.transport.tcp import TCPTransport
from dpkt.rtp import RTP

from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.live_programs import STATS, Camera, is_live, start, wait_for
from tests.real.test_rtsp_faults import push

__all__ = ["start"]  # a fixture

IDR, FRAGMENT = 5, 28  # types of NAL units


class Packets:
    """
    Collects what is received, as an RTPTransportClient.
    """

    def __init__(self) -> None:
        self.media: list[RTP] = []
        self.reports: list[RTCP] = []

    def handle_rtp(self, rtp: RTP) -> None:
        self.media.append(rtp)

    def handle_rtcp(self, rtcp: RTCP) -> None:
        self.reports.append(rtcp)

    def handle_closed(self, error: Exception | None) -> None:
        pass

    async def more(self, count: int) -> None:
        """
        Wait for *count* packets.
        """
        wanted = len(self.media) + count
        async with asyncio.timeout(PATIENCE):
            while len(self.media) < wanted:
                await asyncio.sleep(0.05)


def kind_of(packet: RTP) -> int:
    """
    Return the type of the NAL unit in a packet, or of the one of which it has a part.
    """
    kind: int = packet.data[0] & 31
    return packet.data[1] & 31 if kind == FRAGMENT else kind


async def play(port: int) -> tuple[Packets, int, list[int]]:
    """
    Play, keep the session alive, pause, play again, and end the session.

    Returns:
        what was received, how many packets of it before the second PLAY, and all statuses.
    """
    packets = Packets()
    url = f"rtspt://127.0.0.1:{port}/cam"
    async with (
        RTSPConnection("127.0.0.1", port, "any", "see", timeout=PATIENCE) as connection,
        TCPTransport(connection, timeout=PATIENCE) as transport,
    ):
        session = RTSPMediaSession(connection, url, transport=transport)
        await session.setup()
        transport.subscribe(packets)
        responses = [await session.play()]
        await packets.more(60)
        responses += [await session.keep_alive(), await session.pause()]
        first = len(packets.media)
        responses.append(await session.play())
        await packets.more(60)
        responses.append(await session.teardown())
    return packets, first, [response.status for response in responses]


def test_an_independent_client_plays(daemon: StartDaemon, start: Camera) -> None:
    """
    With a key by Digest: packets without a gap from a keyframe on, sender reports, PAUSE and PLAY.
    """
    server = daemon("--route=^/cam$ rtsp:cam,view_key=see", STATS)
    push(start, server, 60)
    wait_for(lambda: is_live(server))

    packets, first, statuses = asyncio.run(play(server.port))

    assert statuses == [200] * 5
    assert packets.reports
    for received in (packets.media[:first], packets.media[first:]):
        assert IDR in [kind_of(each) for each in received if each.ts == received[0].ts]
        numbers = [packet.seq for packet in received]
        assert all((after - before) % 65536 == 1 for before, after in pairwise(numbers))
        assert len({packet.ssrc for packet in received}) == 1
