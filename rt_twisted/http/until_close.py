"""
Request bodies without a length that run until the client closes its sending side.

By HTTP there are none (RFC 9112, 6.3), but live publishers send them: ffmpeg with
`-chunked_post 0`, and clients of Icecast.
"""

from __future__ import annotations

from rt_twisted.http.context import HttpContext
from rt_twisted.http.interfaces import IExchange

METHODS = ("PUT", "POST", "SOURCE")


def runs_until_close(context: HttpContext, request: IExchange) -> bool:
    """
    Return whether the bytes behind the head of *request* are its body.

    The action has to ask for it (`IAction`, ingest). Elsewhere such bytes are malformed.
    """
    return (
        request.length == 0
        and request.method in METHODS
        and request.header("content-length") is None
        and context.is_ingest(request)
    )
