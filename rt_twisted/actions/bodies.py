"""
The body of a request, decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import isawaitable

from twisted.internet.defer import Deferred

from rt_twisted.codecs.content_coding import ACCEPTED, decode, read_codings
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.query import parse_fields
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


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
        raise HttpError(error.status, error.reason, accepted) from None
    body = exchange.read(limit)
    return body.addCallback(_decoded, codings, limit) if codings else body


def _decoded(body: bytes, codings: list[str], limit: int) -> bytes:
    try:
        return decode(codings, body, limit)
    except RemoteProtocolError as error:
        raise HttpError(error.status, error.reason) from None


async def with_fields(
    exchange: IExchange, limit: int, act: Callable[[Mapping[str, list[str]]], object]
) -> None:
    """
    Call *act* with the fields of a POST: those of its body, then those of its URL.

    Args:
        exchange: the request.
        limit: bytes of the body.
        act: answers; may return something to wait for.

    Raises:
        Refusal: the body cannot be read; see `read_body` and `parse_fields`.
    """
    body = await read_body(exchange, limit)
    try:
        fields = parse_fields(exchange.header("content-type") or "", body)
    except RemoteProtocolError as error:
        raise HttpError(error.status, error.reason) from None
    result = act({**exchange.query(), **fields})
    if isawaitable(result):
        await result
