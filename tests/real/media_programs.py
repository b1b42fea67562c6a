"""
Programs that write and judge media files: ffmpeg, ffprobe, mkvmerge.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.real.conftest import PATIENCE, require

VIDEO = ("-f", "lavfi", "-i", "testsrc=size=320x240:rate=25")
AUDIO = ("-f", "lavfi", "-i", "sine=sample_rate=48000")


@dataclass(frozen=True, slots=True)
class Packet:
    """
    What ffprobe says of a packet: stream, seconds, bytes, whether it is a keyframe.
    """

    stream: int
    pts: float
    dts: float | None
    size: int
    key: bool


def encode(path: Path, *arguments: str, seconds: float = 2.0) -> bytes:
    """
    Encode a test picture and a tone with ffmpeg, and return the file.

    Args:
        path: of the file; its name ends with the container.
        arguments: codecs and their options.
        seconds: how long the file is.
    """
    ffmpeg = require("ffmpeg", "ffmpeg")
    command = [ffmpeg, "-y", "-v", "error", *VIDEO, *AUDIO, "-t", str(seconds), *arguments]
    subprocess.run([*command, str(path)], check=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    return path.read_bytes()


def probe(path: Path) -> list[Packet]:
    """
    Return the packets of a file in order.
    """
    entries = "packet=stream_index,pts_time,dts_time,size,flags"
    found = json.loads(
        _run("ffprobe", "-v", "error", "-of", "json", "-show_entries", entries, path)
    )
    return [
        Packet(
            packet["stream_index"],
            float(packet["pts_time"]),
            float(packet["dts_time"]) if "dts_time" in packet else None,
            int(packet["size"]),
            "K" in packet["flags"],
        )
        for packet in found["packets"]
    ]


def decoded(path: Path, level: str = "warning") -> list[int]:
    """
    Return how many frames of each stream ffprobe decodes.

    Raises:
        AssertionError: it prints something of *level*, or worse.
    """
    found = _probed(path, level, "stream=nb_read_frames", "-count_frames")
    return [int(stream["nb_read_frames"]) for stream in found["streams"]]


def identified(path: Path) -> list[str]:
    """
    Return the codecs that mkvmerge finds in a file.

    Raises:
        AssertionError: it warns.
    """
    found = json.loads(_run("mkvmerge", "-J", path))
    assert (found["warnings"], found["errors"]) == ([], [])
    return [track["codec"] for track in found["tracks"]]


def _probed(path: Path, level: str, entries: str, *options: str) -> Any:
    show = ("-of", "json", "-show_entries", entries)
    return json.loads(_run("ffprobe", "-v", level, *options, *show, path))


def _run(program: str, *arguments: str | Path) -> str:
    package = {"ffprobe": "ffmpeg", "mkvmerge": "mkvtoolnix"}[program]
    done = subprocess.run(
        [require(program, package), *map(str, arguments)],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )
    assert done.stderr == "", done.stderr
    return done.stdout


def require_element(name: str) -> None:
    """
    Skip the test without an element of GStreamer; fail it under CI.
    """
    found = subprocess.run(
        [require("gst-inspect-1.0", "gstreamer1.0-tools"), name], capture_output=True
    )
    if found.returncode:
        require(f"the element {name}", "gstreamer1.0-plugins-good")
