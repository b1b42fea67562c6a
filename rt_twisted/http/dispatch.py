"""
Find the action for an exchange, and have it answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.http.context import HttpContext
from rt_twisted.http.interfaces import TUNNEL, IExchange
from rt_twisted.model.errors import Header, HttpError

_log = Logger()


Found = tuple[Any, Any] | set[str] | None  # see `Find`


def dispatch(context: HttpContext, exchange: IExchange, found: Found = None) -> None:
    """
    Have *exchange* answered, now or later, whatever its action raises.

    Args:
        context: of the server.
        exchange: the request.
        found: what `find_action` has returned; None to search.
    """
    settle(exchange, _act, context, exchange, found)


def settle(exchange: IExchange, act: Callable[..., object], *arguments: Any) -> None:
    """
    Call *act* with *arguments*; answer *exchange* if it raises, or what it returns fails.
    """
    try:
        result = act(*arguments)
    except HttpError as refusal:
        exchange.refuse(refusal)
    except ConnectionLost:
        pass
    except Exception:
        _log.failure("while answering {path!r}", path=exchange.path)
        exchange.refuse(HttpError(500, "internal error"))
    else:
        if result is None:  # it is answered, or will be
            return
        if iscoroutine(result):
            result = ensureDeferred(result)
        if isinstance(result, Deferred):
            result.addErrback(_on_error, exchange)


def refuse(exchange: IExchange, error: Exception) -> None:
    """
    Answer *exchange*, whose body could not be received, because of *error*.
    """
    if isinstance(error, HttpError):
        exchange.refuse(error)


def answers_whole(found: Found) -> bool:
    """
    Return whether the action that was *found* only ever answers by whole responses.
    """
    return isinstance(found, tuple) and bool(getattr(found[0], "answers_whole", False))


def find_action(context: HttpContext, exchange: IExchange) -> Found:
    """
    Return the action for *exchange*, and the match of its pattern; see `Find`.
    """
    found = context.find(exchange.method, exchange.path, exchange)
    if exchange.method == "OPTIONS" and isinstance(found, set):
        # A preflight is about another method, which an application may serve.
        wanted = exchange.header("access-control-request-method")
        served = context.find(wanted, exchange.path, exchange) if wanted else None
        if isinstance(served, tuple) and getattr(served[0], "proxies", False):
            return served
    if exchange.header("x-sessioncookie") is not None:
        # QuickTime's tunnel: whatever other lines the path has.
        tunnelled = context.find(TUNNEL, exchange.path, exchange)
        found = tunnelled if isinstance(tunnelled, tuple) else found
    return found


def _act(context: HttpContext, exchange: IExchange, found: Found) -> Any:
    if exchange.path == "*":
        exchange.answer(204)
        return None
    if found is None:
        found = find_action(context, exchange)
    if isinstance(found, tuple):
        action, match = found
        effects = getattr(match, "effects", None)
        if effects is not None:
            effects.apply(exchange)
        declines = getattr(action, "declines", None)
        if declines is None or not declines(exchange):
            return action.act(exchange, match)
        found = None
    if found is None:
        if context.site is None:
            raise HttpError(404, "not found")
        exchange.render(context.site, 0)
        return None
    if exchange.method != "OPTIONS":
        _, methods = _first_action(context, exchange, found)
        raise not_allowed(exchange.method, methods)
    _answer_options(context, exchange, found)
    return None


def _answer_options(context: HttpContext, exchange: IExchange, methods: set[str]) -> None:
    wanted = exchange.header("access-control-request-method")
    action, allowed = _first_action(context, exchange, methods, wanted)
    headers = [_allow(allowed), *getattr(action, "options_headers", ())]
    origin = exchange.header("origin")
    if origin is not None and wanted:
        requested = exchange.header("access-control-request-headers") or ""
        known = getattr(action, "request_headers", ())
        headers += context.cors.preflight(origin, methods, requested, known)
    exchange.answer(204, headers=headers)


def _first_action(
    context: HttpContext, exchange: IExchange, methods: Collection[str], wanted: str | None = None
) -> tuple[Any, Collection[str]]:
    """
    Return the action for the method *wanted*, or the first of *methods*, and the methods of the
    path; None if there is no such action.
    """
    for method in sorted(methods) if wanted is None else [wanted]:
        found = context.find(method, exchange.path, exchange)
        if isinstance(found, tuple):
            action, match = found
            methods_at = getattr(action, "methods_at", None)
            return action, methods if methods_at is None else methods_at(match)
    return None, methods


def not_allowed(method: str, methods: Collection[str]) -> HttpError:
    """
    Return the refusal of a request by *method*; the path has *methods*.
    """
    return HttpError(405, f"{method} is not allowed here", [_allow(methods)])


def _allow(methods: Collection[str]) -> Header:
    return ("Allow", ", ".join(sorted({*methods, "OPTIONS"})))


def _on_error(failure: Failure, exchange: IExchange) -> None:
    if failure.check(HttpError):
        exchange.refuse(failure.value)  # type: ignore[arg-type]  # it was checked
    elif not failure.check(ConnectionLost):
        _log.failure("while answering {path!r}", failure, path=exchange.path)
        exchange.refuse(HttpError(500, "internal error"))
    _forget_frames(failure.value)


def _forget_frames(error: BaseException | None) -> None:
    """
    Drop the tracebacks of *error* and its causes.

    A coroutine that awaited *error* is in its traceback with the Deferred that has it: a
    reference cycle, from which hang the exchange and its connection.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__context__
