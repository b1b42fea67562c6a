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

from rt_twisted.interfaces import Header, Refusal

if TYPE_CHECKING:
    from rt_twisted.front.exchange import HttpExchange
    from rt_twisted.front.h2_exchange import Http2Exchange
    from rt_twisted.front.http import Front

_log = Logger()


def serve(front: Front, exchange: HttpExchange | Http2Exchange) -> None:
    """
    Have *exchange* answered, now or later, whatever goes wrong.
    """
    try:
        result = _act(front, exchange)
    except Refusal as refusal:
        exchange.refuse(refusal)
    except ConnectionLost:
        pass
    except Exception:
        _log.failure("while answering {path}", path=exchange.path)
        exchange.refuse(Refusal(500, "internal error"))
    else:
        if iscoroutine(result):
            result = ensureDeferred(result)
        if isinstance(result, Deferred):
            result.addErrback(_failed, exchange)


def _act(front: Front, exchange: HttpExchange | Http2Exchange) -> Any:
    if exchange.path == "*":
        exchange.answer(204)
        return None
    found = front.routes.find(exchange.method, exchange.path)
    if isinstance(found, tuple):
        action, match = found
        return action.act(exchange, match)
    if found is None:
        if front.site is None:
            raise Refusal(404, "nothing here")
        return exchange.render(front.site, 0)
    if exchange.method != "OPTIONS":
        raise Refusal(405, f"{exchange.method} is not allowed here", [_allow(found)])
    allow = [_allow(found)]
    origin = exchange.header("origin")
    if origin is not None and exchange.header("access-control-request-method"):
        allow += front.cors.preflight(
            origin, found, exchange.header("access-control-request-headers") or ""
        )
    exchange.answer(204, headers=allow)
    return None


def _allow(methods: set[str]) -> Header:
    return ("Allow", ", ".join(sorted(methods | {"OPTIONS"})))


def _failed(failure: Failure, exchange: HttpExchange | Http2Exchange) -> None:
    if failure.check(Refusal):
        exchange.refuse(failure.value)  # type: ignore[arg-type]  # it was checked
    elif not failure.check(ConnectionLost):
        _log.failure("while answering {path}", failure, path=exchange.path)
        exchange.refuse(Refusal(500, "internal error"))
