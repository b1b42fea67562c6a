"""
Tracks that a publisher announces by RTSP.
"""

from __future__ import annotations

from twisted.logger import capturedLogs, eventAsText

from rt_twisted.media.sdp import parse_sdp
from rt_twisted.rtsp.presentation import announce

DESCRIPTION = b"""v=0
m=video 0 RTP/AVP 96
a=rtpmap:96 VP8/90000
m=application 0 RTP/AVP 107
a=rtpmap:107 vnd.onvif.metadata/90000
"""


def test_a_path_makes_no_second_log_line() -> None:
    """
    A track that cannot be used is logged; control characters of the path are escaped.
    """
    with capturedLogs() as logged:
        announced = announce("/cam\r\nforged", parse_sdp(DESCRIPTION))
    text = [eventAsText(event) for event in logged]

    assert [track.depacketizer is None for track in announced.tracks] == [False, True]
    assert [line for line in text if "track 2 of '/cam\\r\\nforged' is left out: " in line]
    assert not [line for line in text if "\n" in line]
