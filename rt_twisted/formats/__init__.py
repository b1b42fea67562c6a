"""
Formats by name: how messages look on each kind of connection. Pure: values in, bytes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any

from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.elementary import ElementaryStream
from rt_twisted.formats.fmp4 import FragmentedMP4
from rt_twisted.formats.icecast import IcecastAudio
from rt_twisted.formats.json_events import JsonEventStream
from rt_twisted.formats.mjpeg import MotionJpeg
from rt_twisted.formats.ogg import OggStream
from rt_twisted.formats.poll import EventPoll, JsonPoll
from rt_twisted.formats.raw import Raw
from rt_twisted.formats.rtp_interleaved import RtpInterleaved
from rt_twisted.formats.sse import EventStream, RawEventStream
from rt_twisted.formats.webm import WebM
from rt_twisted.formats.websocket import JsonFrames, RawFrames
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.load_object import find_object

FORMATS: Mapping[str, Callable[..., Any]] = {
    "elementary": ElementaryStream,
    "fmp4": FragmentedMP4,
    "icecast": IcecastAudio,
    "mjpeg": MotionJpeg,
    "ogg": OggStream,
    "poll-json": JsonPoll,
    "poll-sse": EventPoll,
    "raw": Raw,
    "rtp-interleaved": RtpInterleaved,
    "sse": EventStream,
    "sse-json": JsonEventStream,
    "sseraw": RawEventStream,
    "webm": WebM,
    "websocket-json": JsonFrames,
    "websocket-raw": RawFrames,
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
