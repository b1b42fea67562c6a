"""
Which responses of applications hand their connection over, and to what: by a `response-` or
`final-` line, by `X-Accel-Redirect`, or by GRIP.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from inspect import iscoroutine
from typing import Any, Protocol
from urllib.parse import unquote

from twisted.internet.defer import Deferred

from rt_twisted.access.questions import UnusableAnswer
from rt_twisted.actions.chain_answer import NoAction
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.effects import ChainEffects
from rt_twisted.actions.handed.grip import GripRequest, asks_for_hold, find_hold
from rt_twisted.actions.handed.headers import granted_by, header
from rt_twisted.actions.handed.problems import unusable
from rt_twisted.actions.handed.target import find_target
from rt_twisted.actions.handover import HandedResponse
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.log_once import LogOnce
from rt_twisted.actions.response_chain import ResponseChains
from rt_twisted.codecs.query import MAX_FIELDS, parse_query
from rt_twisted.http.dispatch import settle
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.message import NOWHERE, Position

REDIRECT = "x-accel-redirect"
_ONLY = "a connection is handed over for GET, and by a response with status 200 to 299"

Take = Callable[[], object]


class ResponseRoutes(Protocol):
    """
    The part of `Routes` that is about responses.
    """

    @property
    def responses(self) -> ResponseChains:
        """
        The `response-` and `final-` lines.
        """

    @property
    def has_internal(self) -> bool:
        """
        Whether there are `internal-route` lines.
        """

    def find_internal(self, path: str, exchange: IExchange) -> tuple[Any, Match] | None:
        """
        Return the action of an `internal-route`.
        """


class HandOverOffers:
    """
    The `HandOver` of all actions; outlives a reload.
    """

    hidden: Collection[bytes]

    def __init__(self) -> None:
        self.hidden = ()
        self._decides = False  # some response could hand its connection over, or change
        self._routes: ResponseRoutes | None = None
        self._context: ActionContext | None = None

    def use(self, routes: ResponseRoutes, context: ActionContext) -> None:
        """
        Use the lines and the settings that are in force from now on.
        """
        self._routes = routes
        self._context = context
        self.hidden = routes.responses.pulled
        self._decides = bool(routes.responses) or routes.has_internal or context.grip is not None

    def position(self) -> Position:
        return NOWHERE if self._context is None else self._context.hub.position()

    def offer(self, response: HandedResponse) -> bool:
        if not self._decides:
            return False
        exchange = response.exchange
        try:
            take = self._find(response)
        except Exception as error:
            response.read(0, 0.0)
            take = partial(_fail, error)
        if take is None:
            return False
        settle(exchange, take)
        return True

    def _find(self, response: HandedResponse) -> Take | None:
        routes, context = self._routes, self._context
        if routes is None or context is None:
            return None
        take = self._by_lines(routes, context, response) if routes.responses else None
        if take is None and routes.has_internal:
            take = self._by_redirect(routes, context, response)
        if take is None and context.grip is not None:
            take = self._by_grip(context, response)
        return take

    def _by_lines(
        self, routes: ResponseRoutes, context: ActionContext, response: HandedResponse
    ) -> Take | None:
        exchange = response.exchange
        decision = routes.responses.decide(
            exchange, response.match, response.status, response.headers
        )
        effects, route = decision.effects, decision.route
        if decision.blocked is not None:
            _log_once(context, f"route line {decision.blocked.line!r}: {_ONLY}")
        if route is None:
            effects.apply(exchange)
            return None
        if not decision.hands_over:
            effects.apply(exchange)
            return partial(_answer, response, route.action, decision.match)
        target = find_target(response, route.action, decision.match, removed=effects.removed)
        if target is None:
            _log_once(context, f"route line {route.line!r}: a response names no channel")
            effects.apply(exchange)
            return None
        _apply(effects, exchange)
        return partial(_count_taken, context, "handovers_by_line", partial(target.start, response))

    def _by_redirect(
        self, routes: ResponseRoutes, context: ActionContext, response: HandedResponse
    ) -> Take | None:
        where = header(response.headers, REDIRECT)
        if where is None:
            return None
        if not _may_hand_over(response):
            _log_once(context, f"X-Accel-Redirect: {_ONLY}")
            return None
        exchange = response.exchange
        path, _, query = where.encode("latin-1").decode(errors="replace").partition("?")
        path = unquote(path, errors="replace")
        if any(ord(character) < 32 or ord(character) == 127 for character in path):
            raise unusable(exchange, "the path of X-Accel-Redirect has a control character")
        if query.count("&") >= MAX_FIELDS:
            raise unusable(exchange, "X-Accel-Redirect has too many fields")
        found = routes.find_internal(path, exchange)
        if found is None or isinstance(found[0], NoAction):
            _log_once(context, f"X-Accel-Redirect: no internal-route matches {path[:200]!r}")
            return None
        action, match = found
        fields = parse_query(query)
        named = {f"qs[{name}]": values[-1] for name, values in fields.items()}
        match = replace(
            match,
            variables={**match.variables, **named},
            granted=match.granted | named.keys(),
            by_application=True,
        )
        target = find_target(response, action, match, fields)
        if target is None:
            _log_once(context, f"X-Accel-Redirect: {path[:200]!r} names no channel")
            return None
        _apply(match.effects, exchange)
        start = partial(target.start, response)
        return partial(_count_taken, context, "handovers_by_redirect", start)

    def _by_grip(self, context: ActionContext, response: HandedResponse) -> Take | None:
        if not asks_for_hold(response):
            return None
        if not _may_hand_over(response):
            _log_once(context, f"Grip-Hold: {_ONLY}")
            return None
        hold = find_hold(context, response)
        if hold is not None and not hold.channels:
            _log_once(context, "Grip-Hold: a response names no channel")
            return None
        try:
            grant = granted_by(response.headers, time.time())
        except UnusableAnswer as error:
            raise unusable(response.exchange, str(error)) from None
        return GripRequest(context, response, hold, grant).start


def _fail(error: Exception) -> None:
    raise error


def _apply(effects: ChainEffects, exchange: IExchange) -> None:
    """
    Do what lines have done, but for headers that they remove: those are not of our response.

    Raises:
        HttpError: the request has what cannot be in a header.
    """
    effects.log()
    if effects.error is not None:
        raise effects.error
    for name, value in effects.added:
        exchange.add_header(name, value)


def _count_taken(context: ActionContext, name: str, take: Take) -> object:
    """
    Call *take*, and count the connection when it was taken over: not if the client is refused.

    Args:
        context: has the metrics.
        name: of the counter.
        take: see `IAction.act`.
    """
    result = take()
    if iscoroutine(result) or isinstance(result, Deferred):
        return _count_later(context, name, result)
    _count(context, name)
    return result


async def _count_later(context: ActionContext, name: str, result: Any) -> None:
    await result
    _count(context, name)


def _count(context: ActionContext, name: str) -> None:
    metrics = context.metrics
    setattr(metrics, name, getattr(metrics, name) + 1)


def _answer(response: HandedResponse, action: Any, match: Match) -> object:
    """
    Answer instead of the application.
    """
    response.read(0, 0.0)
    return action.act(response.exchange, match)


def _may_hand_over(response: HandedResponse) -> bool:
    return response.exchange.method in ("GET", "HEAD") and 200 <= response.status < 300


def _log_once(context: ActionContext, line: str) -> None:
    context.shared.get(LogOnce, LogOnce).warn(line)
