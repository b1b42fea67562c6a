"""
How connections of RTSP are recognized; without the modules that serve them.
"""

from __future__ import annotations

METHODS = (
    "OPTIONS", "DESCRIBE", "ANNOUNCE", "SETUP", "PLAY", "PAUSE", "RECORD", "TEARDOWN",
    "GET_PARAMETER", "SET_PARAMETER",
)  # fmt: skip

_STARTS = tuple([f"{method} ".encode() for method in METHODS])


def is_rtsp(start: bytes) -> bool | None:
    """
    Return whether a connection that begins with *start* is RTSP; None if that is not decided.
    """
    if not start.startswith(_STARTS):
        return None if any(each.startswith(start) for each in _STARTS) else False
    line, newline, _ = start.partition(b"\n")
    return b" RTSP/" in line if newline else None
