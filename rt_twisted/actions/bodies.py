"""
The body of a request, decoded.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred

from rt_twisted.codecs.content_coding import ACCEPTED, decode, read_codings
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.interfaces import IExchange, Refusal


def read_body(exchange: IExchange, limit: int) -> Deferred[bytes]:
    """
    The whole body of *exchange*, without its content codings.

    Args:
        exchange: the request; its body is not read by anybody else.
        limit: bytes, of the body as it comes and of the decoded one.

    Raises:
        Refusal: 415 before anything is read, if it has an unknown coding.
        Refusal (in the Deferred): see `IExchange.read`; 400 or 413, it cannot be decoded.
    """
    try:
        codings = read_codings(exchange.header("content-encoding") or "")
    except RemoteProtocolError as error:
        accepted = [("Accept-Encoding", ACCEPTED)]
        raise Refusal(error.status, error.reason, accepted) from None
    body = exchange.read(limit)
    return body.addCallback(_decoded, codings, limit) if codings else body


def _decoded(body: bytes, codings: list[str], limit: int) -> bytes:
    try:
        return decode(codings, body, limit)
    except RemoteProtocolError as error:
        raise Refusal(error.status, error.reason) from None
