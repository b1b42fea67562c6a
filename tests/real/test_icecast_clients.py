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
from tests.real.test_icecast_links import shoutcast

__all__ = ["shoutcast", "start"]  # fixtures

SOUND = """
settings.server.telnet.set(false)
sound = insert_metadata(id="sound", sine(440.))
thread.run(every=2., {sound.insert_metadata([("title", "By liquidsoap")])})
output.icecast(FORMAT, host="127.0.0.1", port=PORT, password="hackme", mount="MOUNT",
  name="Liquid", sound)
"""
# A sound card that records silence.
ASOUND = """
pcm.nothing { type null }
pcm.!default {
  type plug
  slave.pcm { type file file /dev/null infile /dev/zero format raw slave.pcm nothing }
  hint { show on description "silence" }
}
ctl.!default { type null }
"""
BUTT = """
[main]
server = radio
num_of_srv = 1
srv_ent = radio
icy = about
num_of_icy = 1
icy_ent = about
connect_at_startup = 1
check_for_update = 0
[radio]
address = 127.0.0.1
port = PORT
password = hackme
type = TYPE
mount = live.mp3
usr = source
tls = 0
[about]
desc = Silence
genre = Jazz
url = http://radio.example/
pub = 0
"""
SHOUTCAST, ICECAST = 0, 1  # `type` of butt


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


@pytest.mark.parametrize("kind", [SHOUTCAST, ICECAST])
def test_butt(shoutcast: Station, start: Camera, tmp_path: Path, kind: int) -> None:
    """
    The program with a window sends what a microphone records, to the port that it is given.
    """
    require("butt", "butt")
    (tmp_path / ".asoundrc").write_text(ASOUND)
    settings = tmp_path / "buttrc"
    settings.write_text(BUTT.replace("PORT", str(shoutcast.port)).replace("TYPE", str(kind)))
    screen = start("Xvfb", "xvfb", "-displayfd", "1", "-nolisten", "tcp")
    assert screen.stdout is not None
    shown_at = f"DISPLAY=:{screen.stdout.readline().decode().strip()}"
    control = ("-p", str(free_port()))  # otherwise it has a port that another one may have
    start("env", "coreutils", f"HOME={tmp_path}", shown_at, "butt", *control, "-c", settings)

    wait_for(shoutcast.is_live)
    [shown] = shoutcast.sources()
    assert (shown["server_name"], shown["genre"]) == ("about", "Jazz")
    assert 128 in (shown.get("bitrate"), shown.get("ice-bitrate"))
    received = tmp_path / "received.mp3"
    received.write_bytes(listen(f"{shoutcast.url}/live.mp3", 2)[1])
    probe = [require("ffprobe", "ffmpeg"), "-v", "error", "-show_packets", str(received)]
    done = subprocess.run(probe, capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.count("[PACKET]") > 20
