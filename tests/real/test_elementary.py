"""
One track of a live stream without a container: ffmpeg publishes, ffprobe decodes.
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.real.conftest import PATIENCE, StartDaemon
from tests.real.live_programs import (
    QUICK,
    STATS,
    Camera,
    is_live,
    output,
    start,
    viewer,
    wait_for,
)
from tests.real.media_programs import AUDIO, VIDEO, decoded

__all__ = ["start", "viewer"]  # fixtures

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p", "-c:a", "aac")
PER_FRAME = ("-f", "mp4", "-movflags", "frag_every_frame+empty_moov+default_base_moof")


@pytest.mark.parametrize("codec", ["libopus", "libvorbis"])
def test_sound_in_ogg(
    codec: str, daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    A client that joins late gets the header pages, and each packet that follows decodes.
    """
    routes = ("--route=^/sound$ stream:cam,as=ogg,burst=1", "--route=^/cam istream:cam")
    server = daemon(*routes, STATS, *QUICK)
    encoded = ("-re", *AUDIO, "-t", "5", "-c:a", codec, "-f", "webm", "-live", "1")
    live = (*encoded, "-cluster_time_limit", "200", "-method", "PUT")
    publisher = start("ffmpeg", "ffmpeg", "-v", "error", *live, f"{server.url}/cam.webm")
    wait_for(lambda: is_live(server))
    time.sleep(1)
    late = viewer(f"{server.url}/sound", "late.ogg")

    assert output(publisher) == ""
    assert output(late) == "200 audio/ogg"
    [frames] = decoded(tmp_path / "late.ogg", "error")
    assert 50 < frames < 500


@pytest.mark.parametrize(("kind", "least"), [("annexb", 25), ("adts", 47)])
def test_a_track_is_decoded_without_its_container(
    kind: str, least: int, daemon: StartDaemon, start: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    A client that joins late receives whole frames from a keyframe on, and nothing else.
    """
    name = {"annexb": "late.h264", "adts": "late.aac"}[kind]
    routes = (f"--route=^/track$ stream:cam,as={kind},burst=1", "--route=^/cam istream:cam")
    server = daemon(*routes, "--route=^/mp3$ stream:cam,as=mp3", STATS, *QUICK)
    encoded = ("-re", *VIDEO, "-re", *AUDIO, "-t", "5", *H264, *PER_FRAME, "-method", "PUT")
    publisher = start("ffmpeg", "ffmpeg", "-v", "error", *encoded, f"{server.url}/cam.mp4")
    wait_for(lambda: is_live(server))
    time.sleep(1)
    late = viewer(f"{server.url}/track", name)

    with pytest.raises(HTTPError) as refused:
        urlopen(f"{server.url}/mp3", timeout=PATIENCE)

    refused.value.close()
    assert refused.value.code == 415
    assert output(publisher) == ""
    assert output(late).startswith("200 ")
    [frames] = decoded(tmp_path / name, "error")  # that it has no duration is a warning
    assert least < frames < 5 * 48
