"""
How connections and requests of RTMP are recognized; without the modules that serve them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from rt_twisted.actions.chain import Route
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.lazy_action import LazyAction
from rt_twisted.model.load_object import load_part

VERSION = b"\x03"  # the first byte of a connection

_TUNNEL = "rt_twisted.rtmp.tunnel_action.RtmpTunnelAction"
_PATH = re.compile(r"^/(open|send|idle|close)/(?:([\w-]{1,100})(?:/\d+)?)?$")


def is_rtmp(start: bytes) -> bool:
    """
    Return whether a connection that begins with *start* is RTMP.
    """
    return start[:1] == VERSION


def tunnel_route(context: ActionContext) -> Route:
    """
    Return the route of the paths that RTMPT has. It serves what no other line claims.

    Args:
        context: of an `rtmp:` route.
    """
    lazy = LazyAction("rtmpt", partial(_build_tunnel, context))
    return Route(_PATH, None, lazy, fallback=True)


def _build_tunnel(context: ActionContext) -> Any:
    return load_part(_TUNNEL)(context)
