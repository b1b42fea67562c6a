"""
AV1 by RTP, judged by the ffmpeg of PyAV: what it publishes by RTSP is played byte for byte.
"""

from __future__ import annotations

import threading
from itertools import islice

import av

from rt_twisted.media.av1 import DELIMITER, split_obus
from rt_twisted.media.timeline import PACKET
from tests.packets.av1_publisher import RATE, publish
from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.live_programs import STATS, is_live, wait_for

SECONDS = 8


def obus_of(unit: bytes) -> list[tuple[int, bytes]]:
    """
    Return the OBUs of a temporal unit, without the delimiter that ffmpeg adds.
    """
    return [(obu.kind, obu.payload) for obu in split_obus(unit) if obu.kind != DELIMITER]


def test_av1_is_published_and_played(daemon: StartDaemon) -> None:
    """
    By RTSP from a keyframe on, each temporal unit as the encoder made it; and as MP4.
    """
    server = daemon("--route=^/cam$ rtsp:cam", "--route=GET ^/cam.mp4$ mp4:cam", STATS)
    url = f"rtsp://127.0.0.1:{server.port}/cam"
    sent: list[bytes] = []
    publisher = threading.Thread(target=publish, args=(url, SECONDS, sent.append))
    publisher.start()
    try:
        wait_for(lambda: is_live(server))
        with av.open(url, options={"rtsp_transport": "tcp"}, timeout=PATIENCE) as container:
            [stream] = container.streams
            assert stream.codec_context.name in ("av1", "libdav1d")
            played = [bytes(packet) for packet in islice(container.demux(stream), 2 * RATE)]
        with av.open(f"{server.url}/cam.mp4", timeout=PATIENCE) as container:
            pictures = [*islice(container.decode(video=0), RATE)]
    finally:
        publisher.join(PATIENCE)

    assert max(map(len, sent)) > 3 * PACKET
    units = [*map(obus_of, sent)]
    first = units.index(obus_of(played[0]))
    assert first % RATE == 0
    assert [*map(obus_of, played)] == units[first : first + len(played)]
    assert pictures[0].key_frame
    assert (pictures[0].width, pictures[0].height) == (160, 120)
