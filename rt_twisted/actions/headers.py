"""
Response headers that several actions send.
"""

from __future__ import annotations

from collections.abc import Sequence

from rt_twisted.model.errors import Header

NO_STORE: Sequence[Header] = (("Cache-Control", "no-store"),)
LIVE_HEADERS: Sequence[Header] = (
    *NO_STORE,
    ("X-Accel-Buffering", "no"),  # nginx would hold pictures back
)
STREAM_HEADERS: Sequence[Header] = (
    ("Cache-Control", "no-cache, no-transform"),
    ("X-Accel-Buffering", "no"),  # nginx would hold events back
)
