"""
The `response-` and `final-` lines: what happens to the response of an application.

They are evaluated when the head of the response is there, first the `response-` lines, then the
`final-` lines. The headers of `collect-header` and `pull-header` are variables by then. The
result says whether one of our actions takes the connection over, and how the headers change.
Evaluation changes nothing, and knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rt_twisted.actions.chain import (
    ChainEntries,
    HeaderRule,
    Route,
    RouteEntry,
    make_match,
)
from rt_twisted.actions.chain_answer import AnswerAction
from rt_twisted.actions.chain_run import ChainRun
from rt_twisted.actions.effects import NO_EFFECTS, ChainEffects
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.request_variables import RoutedRequest, VariableSource
from rt_twisted.codecs.route_lines import STATUS, Chain
from rt_twisted.model.errors import Header

_NONE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class ResponseDecision:
    """
    What the lines make of one response.

    Args:
        match: of the request, with the variables that the response has set.
        route: whose action takes the connection over, or answers instead of the application
            (`AnswerAction`); None to send the response.
        blocked: the route that would take over, if the request were GET or HEAD and the
            response a success; None if there is none.
        effects: headers that are added and removed, those of `pull-header` too.
    """

    match: Match
    route: Route | None = None
    blocked: Route | None = None
    effects: ChainEffects = NO_EFFECTS

    @property
    def hands_over(self) -> bool:
        """
        Return whether one of our actions takes the connection over.
        """
        return self.route is not None and not isinstance(self.route.action, AnswerAction)


class ResponseChains:
    """
    The lines for responses of applications.

    Args:
        entries: all of the settings; those of other chains are ignored.

    Attributes:
        pulled: the headers that `pull-header` lines name, in lower case.

    Raises:
        ValueError: a jump to a label that does not stand behind it.
    """

    def __init__(self, entries: Iterable[RouteEntry]) -> None:
        listed = list(entries)
        rules = [one for one in listed if isinstance(one, HeaderRule)]
        self._pulls = [rule for rule in rules if rule.pull]
        self._collects = [rule for rule in rules if not rule.pull]
        self._pulled = frozenset(rule.header for rule in self._pulls)
        self.pulled = frozenset(name.encode() for name in self._pulled)
        self._chains = [
            ChainEntries(one for one in listed if one.chain is chain)
            for chain in (Chain.RESPONSE, Chain.FINAL)
        ]

    def __bool__(self) -> bool:
        return bool(self._pulls or self._collects or any(self._chains))

    def decide(
        self,
        exchange: VariableSource,
        match: Match,
        status: int,
        headers: Sequence[Header],
        variables: Mapping[str, str] = _NONE,
    ) -> ResponseDecision:
        """
        Evaluate the lines for one response.

        Args:
            exchange: the request.
            match: what the action of the application was called with.
            status: of the response; 200 if the application has sent no head.
            headers: of the response, as sent: repeats, and in any case.
            variables: that the application has set itself.
        """
        own = {**variables, **self._collect(headers), STATUS: str(status)}
        method = exchange.method
        may_hand_over = method in ("GET", "HEAD") and 200 <= status < 300
        if method == "HEAD" and not any("HEAD" in chain.tested for chain in self._chains):
            method = "GET"
        request = RoutedRequest(method, exchange.path, exchange)
        run = ChainRun(request, {**match.variables, **own}, match.granted | own.keys())
        run.remove_headers(self._pulled)
        blocked = None
        for chain, entries in zip((Chain.RESPONSE, Chain.FINAL), self._chains, strict=True):
            for route, found, groups in entries.reached(run):
                if route.method not in (None, method):
                    continue
                answers = isinstance(route.action, AnswerAction)
                if answers and chain is Chain.FINAL:
                    break  # the response is sent by then
                if answers or may_hand_over:
                    chosen = make_match(run, found, groups)
                    return ResponseDecision(chosen, route, blocked, run.effects)
                blocked = blocked or route
        changed = Match(match.groups, match.rest, match.grant, run.variables, run.granted)
        return ResponseDecision(changed, None, blocked, run.effects)

    def _collect(self, headers: Sequence[Header]) -> dict[str, str]:
        """
        Return the variables that *headers* set. Of repeated headers the last counts, and of
        several `pull-header` lines for one header the first.
        """
        values: dict[str, str] = {}
        for name, value in headers:
            lower = name.lower()
            pull = next((rule for rule in self._pulls if rule.header == lower), None)
            if pull is not None:
                values[pull.variable] = value
                continue
            values |= {rule.variable: value for rule in self._collects if rule.header == lower}
        return values
