"""
Formats by name: how messages look on each kind of connection. Pure: values in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from rt_twisted.formats.chunked import Chunked
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.load_object import find_object

# The dotted names of their classes: a module is imported when its format is used.
FORMATS: Mapping[str, str] = {
    "elementary": "rt_twisted.formats.elementary.ElementaryStream",
    "fmp4": "rt_twisted.formats.fmp4.FragmentedMP4",
    "icecast": "rt_twisted.formats.icecast.IcecastAudio",
    "mjpeg": "rt_twisted.formats.mjpeg.MotionJpeg",
    "ogg": "rt_twisted.formats.ogg.OggStream",
    "poll-json": "rt_twisted.formats.poll.JsonPoll",
    "poll-sse": "rt_twisted.formats.poll.EventPoll",
    "raw": "rt_twisted.formats.raw.Raw",
    "rtp-interleaved": "rt_twisted.formats.rtp_interleaved.RtpInterleaved",
    "sse": "rt_twisted.formats.sse.EventStream",
    "sse-json": "rt_twisted.formats.json_events.JsonEventStream",
    "sseraw": "rt_twisted.formats.sse.RawEventStream",
    "webm": "rt_twisted.formats.webm.WebM",
    "websocket-json": "rt_twisted.formats.websocket.JsonFrames",
    "websocket-raw": "rt_twisted.formats.websocket.RawFrames",
}


def find_format(name: str) -> Callable[..., Any]:
    """
    Return the class of the format *name*.

    Args:
        name: a key of FORMATS, or a dotted name such as `my.module.Ndjson`.

    Raises:
        ValueError: there is no such format, or its module cannot be imported.
    """
    found = find_object("format", FORMATS, name)
    if not callable(found):
        raise ValueError(f"{name} cannot be called")
    return found  # type: ignore[no-any-return]  # it is callable


def options_of(name: str) -> frozenset[str]:
    """
    Return the names of the options that the format *name* has: its fields.

    Raises:
        ValueError: see `find_format`.
    """
    found: Any = find_format(name)
    if not is_dataclass(found):
        return frozenset()
    return frozenset([field.name for field in fields(found) if field.init])


@lru_cache(maxsize=1024)
def build_format(name: str, framed: bool = False, **options: object) -> Any:
    """
    Build the format *name*; the same object again for the same arguments.

    Args:
        name: see `find_format`.
        framed: whether each frame needs a chunk of its own (HTTP/1.1).
        options: hashable; those that the format does not have are left out.

    Returns:
        An `IFormat`.

    Raises:
        ValueError: see `find_format`.
    """
    known = options_of(name)
    used = {option: value for option, value in options.items() if option in known}
    format: IFormat = find_format(name)(**used)
    return Chunked(format) if framed else format
