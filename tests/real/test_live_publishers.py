"""
Programs that publish live streams, each in its own way.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.live_programs import (
    ROUTES,
    STATS,
    Camera,
    output,
    start,
    viewer,
)
from tests.real.media_programs import decoded, probe, require_element

__all__ = ["start", "viewer"]  # fixtures


def test_gstreamer_publishes_by_a_sequence_of_requests(
    daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    Each buffer is a PUT on a connection of its own, with its place in the whole: together
    they are one stream.
    Applications receive its start and its end once.
    """
    require_element("souphttpclientsink")
    server = daemon(
        ROUTES[0], "--route=^/cam.webm$ istream:cam,events=states", "--route=^/states$ sse:states",
        STATS, "--live-timeout=8", "--live-grace=2",
    )  # fmt: skip
    seen = viewer(f"{server.url}/cam.webm", "seen.webm")
    states = viewer(f"{server.url}/states", "states", "--max-time", "15")
    pipeline = (
        "videotestsrc num-buffers=75 is-live=true ! video/x-raw,width=320,height=240,framerate=25/1"
        " ! vp8enc deadline=1 keyframe-max-dist=25 auto-alt-ref=false ! webmmux streamable=true"
        f" ! souphttpclientsink location={server.url}/cam.webm"
    )
    output(start("gst-launch-1.0", "gstreamer1.0-tools", "-q", *pipeline.split()))

    assert output(seen).startswith("200 ")
    packets = probe(tmp_path / "seen.webm")
    assert packets[0].key
    assert decoded(tmp_path / "seen.webm")[0] > 60
    states.communicate(timeout=PATIENCE)
    lines = (tmp_path / "states").read_text().splitlines()
    found = [json.loads(line[6:])["state"] for line in lines if line.startswith("data: {")]
    assert found == ["started", "lost", "ended"]
