"""
Players of radio, unmodified, with the daemon and with icecast2.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.real.conftest import PATIENCE, require
from tests.real.live_programs import Camera, start, wait_for
from tests.real.test_icecast import MP3, UPDATE, Station, ffmpeg, station
from tests.real.test_icecast_clients import unprivileged

__all__ = ["start", "station"]  # fixtures
NAMED = (*MP3, "-ice_name", "My Radio")


def test_mpv_plays(station: Station, start: Camera) -> None:
    """
    The player shows the title of the first block.
    """
    program = require("mpv", "mpv")
    ffmpeg(start, station.source_url(), 60, *NAMED)
    wait_for(station.is_live)
    assert station.get(UPDATE, station.title_password)[0] == 200

    wait_for(lambda: "T" in str(station.sources()[0].get("title")))
    command = [program, "--no-config", "--ao=null", "--no-video", "--length=3"]
    played = subprocess.run(
        [*command, f"{station.url}/live.mp3"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert played.returncode == 0, played.stdout
    assert "icy-title: Artist - Tïtle" in played.stdout


def test_vlc_plays(station: Station, start: Camera, tmp_path: Path) -> None:
    """
    The player decodes three seconds, and ends.
    """
    program = require("cvlc", "vlc-bin")
    ffmpeg(start, station.source_url(), 60, *NAMED)
    wait_for(station.is_live)

    for path in (tmp_path, *[one for one in tmp_path.parents if "pytest" in str(one)]):
        path.chmod(0o777)
    played = tmp_path / "played.wav"
    sink = f"#transcode{{acodec=s16l}}:std{{access=file,mux=wav,dst={played}}}"
    options = ("-I", "dummy", "--no-video", "--run-time=3", "--play-and-exit", "--sout", sink)
    command = unprivileged("env", f"HOME={tmp_path}", program, *options)
    done = subprocess.run(
        [*command, f"{station.url}/live.mp3", "vlc://quit"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert played.stat().st_size > 2 * 44_100 * 2, done.stderr.decode(errors="replace")
