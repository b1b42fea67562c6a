"""
Source clients of radio stations, unmodified: liquidsoap, mpd and butt.
"""

from __future__ import annotations

import os
import socket
import subprocess
import wave
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, StartDaemon, free_port, require
from tests.real.live_programs import Camera, start, wait_for
from tests.real.test_icecast import ROUTES, Station, listen

__all__ = ["start"]  # a fixture

SOUND = """
settings.server.telnet.set(false)
sound = insert_metadata(id="sound", sine(440.))
thread.run(every=2., {sound.insert_metadata([("title", "By liquidsoap")])})
output.icecast(FORMAT, host="127.0.0.1", port=PORT, password="hackme", mount="MOUNT",
  name="Liquid", sound)
"""


@pytest.fixture
def station(daemon: StartDaemon) -> Station:
    return Station(daemon(*ROUTES).port)


def unprivileged(*command: str) -> Sequence[str]:
    """
    Return a command that runs as another user if the tests are root, which some refuse to be.
    """
    if os.geteuid():
        return command
    return ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command)


def is_titled(station: Station, title: str) -> bool:
    return any(one.get("title") == title for one in station.sources())


@pytest.mark.parametrize(
    ("format", "mount"),
    [("%opus(bitrate=64)", "/live.opus"), ("%vorbis(quality=0.3)", "/live.ogg")],
)
def test_liquidsoap(
    station: Station, start: Camera, tmp_path: Path, format: str, mount: str
) -> None:
    """
    Ogg of liquidsoap has a new link for each title: later listeners get the headers of that.
    """
    program = require("liquidsoap", "liquidsoap")
    script = tmp_path / "radio.liq"
    text = SOUND.replace("FORMAT", format).replace("MOUNT", mount)
    script.write_text(text.replace("PORT", str(station.port)))
    for path in (script, *[one for one in script.parents if "pytest" in str(one)]):
        path.chmod(0o755)
    [first, *rest] = unprivileged(program, str(script))
    start(first, "liquidsoap", *rest)

    wait_for(lambda: is_titled(station, "By liquidsoap"))
    [shown] = station.sources()
    assert shown["server_name"] == "Liquid"
    received = tmp_path / "received.ogg"
    received.write_bytes(listen(station.url + mount, 2)[1])
    probe = [require("ffprobe", "ffmpeg"), "-v", "error", "-show_packets", str(received)]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.count("[PACKET]") > 20


def test_mpd(station: Station, start: Camera, tmp_path: Path) -> None:
    """
    The player sends what it plays, with the title of the file.
    """
    program = require("mpd", "mpd")
    port = free_port()
    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44100)
        file.writeframes(bytes(4 * 44100 * 30))
    settings = tmp_path / "mpd.conf"
    settings.write_text(
        f'music_directory "{tmp_path}"\nbind_to_address "127.0.0.1"\nport "{port}"\n'
        f'pid_file "{tmp_path}/mpd.pid"\naudio_output {{\ntype "shout"\nname "Mine"\n'
        f'host "127.0.0.1"\nport "{station.port}"\nmount "/live.ogg"\npassword "hackme"\n'
        'encoder "vorbis"\nbitrate "128"\nformat "44100:16:2"\n}\n'
    )
    start(program, "mpd", "--no-daemon", "--stderr", str(settings))

    def play() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as control:
                control.sendall(b'update\nadd "tone.wav"\nplay\nstatus\nclose\n')
                with control.makefile("rb") as answers:
                    return b"state: play" in answers.read()
        except OSError:
            return False

    wait_for(play)
    wait_for(lambda: station.is_live("/live.ogg"))
    assert station.sources()[0]["server_name"] == "Mine"
    assert listen(f"{station.url}/live.ogg", 2)[1].startswith(b"OggS")
