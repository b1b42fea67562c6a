"""
Read the bodies and parameters of requests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from inspect import isawaitable

from twisted.internet.defer import Deferred

from rt_twisted.actions.body_decoding import BodyDecoding
from rt_twisted.actions.context import ActionContext
from rt_twisted.codecs.content_coding import ACCEPT_ENCODING, read_codings
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.query import parse_fields
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


def read_body(exchange: IExchange, context: ActionContext, limit: int) -> Deferred[bytes]:
    """
    Read the whole body of *exchange* and decode its content codings.

    Args:
        exchange: the request; its body is read here only.
        context: bounds what is decoded in one turn of the reactor.
        limit: bytes, both of the body as received and of the decoded body.

    Returns:
        A Deferred of the body. It fails with HttpError: see `IExchange.read`; 400 or
        413 if the body cannot be decoded, 503 if too much waits for that.

    Raises:
        HttpError: 415 for an unknown coding, before anything is read.
    """
    header = exchange.header("content-encoding")
    if not header:
        return exchange.read(limit)
    try:
        codings = read_codings(header)
    except RemoteProtocolError as error:
        accepted = [("Accept-Encoding", ACCEPT_ENCODING)]
        raise HttpError(error.status, error.reason, accepted) from None
    body = exchange.read(limit)
    if not codings:
        return body
    return body.addCallback(lambda read: BodyDecoding(context, codings, read, limit).start())


def call_with_body(
    exchange: IExchange, context: ActionContext, limit: int, act: Callable[[bytes], object]
) -> object:
    """
    Call *act* with the body as `read_body` would, most often without a Deferred.

    Args:
        exchange: the request; its body is read here only.
        context: as of `read_body`.
        limit: as of `read_body`.
        act: answers the request; may return and raise what `IAction.act` may.

    Returns:
        What `IAction.act` may return.

    Raises:
        HttpError: see `read_body`.
    """
    if exchange.header("content-encoding"):
        return read_body(exchange, context, limit).addCallback(act)
    return exchange.call_with_body(limit, act)


def with_parameters(
    exchange: IExchange, context: ActionContext, act: Callable[..., object], *arguments: object
) -> object:
    """
    Call *act* with *arguments* and the parameters of a request.

    They are those of its URL; for POST those of its body come before them.

    Args:
        exchange: the request.
        context: has the limit of the body.
        act: answers the request; returns what `IAction.act` may return.
        arguments: come before the parameters.

    Returns:
        What `IAction.act` may return.

    Raises:
        HttpError: the body cannot be read; see `read_body` and `parse_fields`.
            Raised by the returned coroutine.
    """
    if exchange.method == "POST":
        return _with_body(exchange, context, partial(act, *arguments))
    return act(*arguments, exchange.query())


async def _with_body(
    exchange: IExchange, context: ActionContext, act: Callable[[Mapping[str, list[str]]], object]
) -> None:
    body = await read_body(exchange, context, context.max_body)
    try:
        fields = parse_fields(exchange.header("content-type") or "", body)
    except RemoteProtocolError as error:
        raise HttpError(error.status, error.reason) from None
    result = act({**exchange.query(), **fields})
    if isawaitable(result):
        await result
