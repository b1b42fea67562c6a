"""
An exchange finds its action, whatever version of HTTP it came by.
"""

from __future__ import annotations

from inspect import iscoroutine
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.model.errors import Header, HttpError

if TYPE_CHECKING:
    from rt_twisted.http.exchange import HttpExchange
    from rt_twisted.http.h2_exchange import Http2Exchange
    from rt_twisted.http.server import HttpServer

_log = Logger()


def dispatch(server: HttpServer, exchange: HttpExchange | Http2Exchange) -> None:
    """
    Have *exchange* answered, now or later, whatever goes wrong.
    """
    try:
        result = _act(server, exchange)
    except HttpError as refusal:
        exchange.refuse(refusal)
    except ConnectionLost:
        pass
    except Exception:
        _log.failure("while answering {path}", path=exchange.path)
        exchange.refuse(HttpError(500, "internal error"))
    else:
        if iscoroutine(result):
            result = ensureDeferred(result)
        if isinstance(result, Deferred):
            result.addErrback(_failed, exchange)


def _act(server: HttpServer, exchange: HttpExchange | Http2Exchange) -> Any:
    if exchange.path == "*":
        exchange.answer(204)
        return None
    found = server.find(exchange.method, exchange.path)
    if isinstance(found, tuple):
        action, match = found
        return action.act(exchange, match)
    if found is None:
        if server.site is None:
            raise HttpError(404, "nothing here")
        return exchange.render(server.site, 0)
    if exchange.method != "OPTIONS":
        raise HttpError(405, f"{exchange.method} is not allowed here", [_allow(found)])
    allow = [_allow(found)]
    origin = exchange.header("origin")
    if origin is not None and exchange.header("access-control-request-method"):
        allow += server.cors.preflight(
            origin, found, exchange.header("access-control-request-headers") or ""
        )
    exchange.answer(204, headers=allow)
    return None


def _allow(methods: set[str]) -> Header:
    return ("Allow", ", ".join(sorted(methods | {"OPTIONS"})))


def _failed(failure: Failure, exchange: HttpExchange | Http2Exchange) -> None:
    if failure.check(HttpError):
        exchange.refuse(failure.value)  # type: ignore[arg-type]  # it was checked
    elif not failure.check(ConnectionLost):
        _log.failure("while answering {path}", failure, path=exchange.path)
        exchange.refuse(HttpError(500, "internal error"))
