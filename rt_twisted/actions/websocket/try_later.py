"""
Websockets that cannot be opened because the application does not answer.
"""

from __future__ import annotations

from collections.abc import Awaitable

from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.websocket.raw_app import RawApp
from rt_twisted.codecs.websocket import CloseCode, WebSocketHandshake
from rt_twisted.formats import build_format
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError


def close_if_unanswered(
    opening: object,
    endpoint: WebSocketEndpoint,
    exchange: IExchange,
    handshake: WebSocketHandshake,
) -> object:
    """
    Close the websocket with 1013 if the application cannot be asked about its client: the status
    of a handshake is not shown to pages.

    Args:
        opening: what `granted` has returned.
        endpoint: of the route.
        exchange: the request.
        handshake: from `WebSocketEndpoint.check`.

    Returns:
        What `IAction.act` may return.
    """
    if isinstance(opening, Awaitable) and endpoint.context.gate.asks:
        return _open_or_close(opening, endpoint, exchange, handshake)
    return opening


async def _open_or_close(
    opening: Awaitable[object],
    endpoint: WebSocketEndpoint,
    exchange: IExchange,
    handshake: WebSocketHandshake,
) -> object:
    try:
        return await opening
    except HttpError as error:
        if error.status != 503 or exchange.answered:
            raise
        app = RawApp(endpoint.context, ())
        format = build_format("websocket-raw", deflate=handshake.deflate)
        websocket = endpoint.open(exchange, handshake, app, format)
        websocket.close(CloseCode.TRY_LATER, error.reason)
        return None
