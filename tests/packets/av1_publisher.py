"""
Publish AV1 by RTSP with PyAV: `python -m tests.packets.av1_publisher URL SECONDS`.

Debian's ffmpeg and GStreamer have no RTP payload format for AV1; the ffmpeg of PyAV has.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from random import Random

import av

RATE = 10  # pictures a second, the first of which is a keyframe
_SIZE = 160, 120


def publish(url: str, seconds: float, sent: Callable[[bytes], object]) -> None:
    """
    Publish noise in real time.

    Args:
        url: where.
        seconds: for how long.
        sent: called with each temporal unit.
    """
    options = {"rtsp_transport": "tcp", "strict": "experimental"}
    with av.open(url, "w", format="rtsp", options=options) as container:
        stream = container.add_stream("libsvtav1", rate=RATE)
        stream.width, stream.height = _SIZE
        stream.pix_fmt = "yuv420p"
        parameters = f"keyint={RATE}:pred-struct=1"  # no frame waits for a later one
        stream.options = {"preset": "11", "svtav1-params": parameters}
        for number in range(round(seconds * RATE)):
            for packet in stream.encode(_picture(number)):
                sent(bytes(packet))
                container.mux(packet)
            time.sleep(1 / RATE)


def _picture(number: int) -> av.VideoFrame:
    """
    Return noise, so that a temporal unit takes several packets.
    """
    random = Random(number // 3)
    frame = av.VideoFrame(*_SIZE, "yuv420p")
    for plane in frame.planes:
        plane.update(random.randbytes(plane.line_size * plane.height))
    frame.pts = number
    return frame


if __name__ == "__main__":
    publish(sys.argv[1], float(sys.argv[2]), len)
