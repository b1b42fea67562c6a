"""
The chain of routes: which action serves a request.

Lines are read in order, as in uWSGI's internal routing, and jumps go forward only. The first
action that serves the request ends the search. Lines that are not actions set variables and
change headers. Finding an action changes nothing: the effects of lines are in the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from rt_twisted.actions.chain_answer import AnswerAction, NoAction
from rt_twisted.actions.chain_run import ChainRun, ChainStep, Groups
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.effects import NO_EFFECTS
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.lazy_action import built
from rt_twisted.actions.request_variables import RoutedRequest, VariableSource
from rt_twisted.codecs.route_lines import METHOD, Chain
from rt_twisted.codecs.route_tests import RouteTest

Found = tuple[Any, Match]

MAX_KNOWN = 1000  # results of searches that are kept...
MAX_KNOWN_PATH = 200  # ...for paths up to this length


@dataclass(frozen=True, slots=True)
class Route:
    """
    One route line: the action for requests whose path matches.

    Args:
        pattern: searched in the percent-decoded path.
        method: the only method; None for all that the action serves.
        action: provides `IAction`.
        line: the route line.
        context: the context that the action was given; None if it has no field for it.
        test: what the request must pass; None for no test.
        fallback: serves only what no other line claims, wherever it stands.
        chain: when the line is read.
    """

    pattern: re.Pattern[str]
    method: str | None
    action: Any
    line: str = ""
    context: ActionContext | None = None
    test: RouteTest | None = None
    fallback: bool = False
    chain: Chain = Chain.REQUEST


@dataclass(frozen=True, slots=True)
class RouteLabel:
    """
    A place to jump to.

    Args:
        name: as in `goto:NAME`.
        chain: in which it is.
    """

    name: str
    chain: Chain = Chain.REQUEST


@dataclass(frozen=True, slots=True)
class RouteJump:
    """
    A line that skips others.

    Args:
        pattern: searched in the path.
        method: the only method; None for all.
        test: what the request must pass; None for no test.
        label: where to go on; "" behind all lines, as with `last:`.
        chain: in which it is.
    """

    pattern: re.Pattern[str]
    method: str | None
    test: RouteTest | None
    label: str
    chain: Chain = Chain.REQUEST

    def check(self, behind: Iterable[RouteEntry]) -> None:
        """
        Check that the label is among the entries *behind* this one.

        Raises:
            ValueError: it is not.
        """
        if self.label and not any(self._is_target(entry) for entry in behind):
            raise ValueError(
                f"no {self.chain.value}route-label {self.label!r} stands behind this line"
            )

    def target(self, entries: Sequence[RouteEntry], start: int) -> int:
        """
        Return the index of the label among *entries*, from *start* on.
        """
        if not self.label:
            return len(entries)
        indexes = range(start, len(entries))
        return next(index for index in indexes if self._is_target(entries[index]))

    def _is_target(self, entry: RouteEntry) -> bool:
        return (
            isinstance(entry, RouteLabel) and entry.name == self.label and entry.chain is self.chain
        )


@dataclass(frozen=True, slots=True)
class RouteStep:
    """
    A line that does something, and lets the search go on.

    Args:
        pattern: searched in the path.
        method: the only method; None for all.
        test: what the request must pass; None for no test.
        step: what it does.
        chain: in which it is.
    """

    pattern: re.Pattern[str]
    method: str | None
    test: RouteTest | None
    step: ChainStep
    chain: Chain = Chain.REQUEST


@dataclass(frozen=True, slots=True)
class HeaderRule:
    """
    A line `collect-header` or `pull-header`: a header of the application sets a variable.

    Args:
        header: its name in lower case.
        variable: the name of the variable.
        pull: whether the header is not sent to the client.
    """

    header: str
    variable: str
    pull: bool

    chain = Chain.RESPONSE


RouteEntry = Route | RouteJump | RouteLabel | RouteStep | HeaderRule
_Line = Route | RouteJump | RouteStep


class ChainEntries:
    """
    The entries of one chain in order.

    Args:
        entries: routes that are fallbacks are moved behind the others: first those of files,
            which do not claim what they do not have.

    Raises:
        ValueError: a jump to a label that does not stand behind it.

    Attributes:
        tested: the methods that tests name.
        is_static: whether a route that is no fallback is reached depends on method and path
            alone.
    """

    def __init__(self, entries: Iterable[RouteEntry]) -> None:
        listed = tuple(entries)
        main = [one for one in listed if not _is_fallback(one)]
        lines = [_as_conditional(one) for one in main]
        # How many lines stand before each entry: labels are not lines.
        before = [0, *accumulate(line is not None for line in lines)]
        self._lines: list[_Line] = [
            *[line for line in lines if line is not None],
            *_fallbacks(listed),
        ]
        self._targets: dict[int, int] = {}  # by the index of a jump in `_lines`
        for index, entry in enumerate(main):
            if isinstance(entry, RouteJump):
                entry.check(main[index:])
                self._targets[before[index]] = before[entry.target(main, index)]
        tests = [line.test for line in self._lines if line.test is not None]
        self.tested = {method for test in tests for method in test.constants(METHOD)}
        has_steps = any(isinstance(line, RouteStep) for line in self._lines)
        self.is_static = not tests and not has_steps

    def __bool__(self) -> bool:
        return bool(self._lines)

    def reached(self, run: ChainRun) -> Iterator[tuple[Route, re.Match[str], Groups]]:
        """
        Yield the routes that the request of *run* reaches and whose pattern and test it
        passes, with the match of the pattern, and the groups.

        Jumps are followed, and steps change *run*, while this is iterated over.
        """
        path, method = run.request.path, run.request.method
        index, lines = 0, self._lines
        while index < len(lines):
            line = lines[index]
            index += 1
            found = line.pattern.search(path)
            if found is None:
                continue
            groups: Groups | None = None
            if line.test is not None:
                groups = line.test.search(run.value)
                if groups is None:
                    continue
            if line.test is None or not line.test.groups:
                groups = (found[0], *found.groups())
            assert groups is not None
            if isinstance(line, Route):
                yield line, found, groups
            elif line.method not in (None, method):
                continue
            elif isinstance(line, RouteJump):
                index = self._targets[index - 1]
            else:
                line.step.apply(run, groups)


class RouteChain:
    """
    The chain that a request passes.

    Args:
        entries: all in order.

    Raises:
        ValueError: a jump to a label that does not stand behind it.
    """

    def __init__(self, entries: Iterable[RouteEntry]) -> None:
        self._chain = ChainEntries(entries)
        # By method and path, and whether it is the request itself that is looked up.
        self._known: dict[tuple[str, str, bool], Found] = {}

    def __bool__(self) -> bool:
        return bool(self._chain)

    def find(
        self, method: str, path: str, exchange: VariableSource | None = None
    ) -> Found | set[str] | None:
        """
        Return the action for a request, and the match of its pattern; see `Routes.find`.
        """
        asked = exchange is not None and (exchange.method, exchange.path) == (method, path)
        known = self._known.get((method, path, asked))
        if known is not None:
            return known
        run, found, allowed = self._walk(method, path, exchange, asked)
        if found is not None:
            return found
        for other in self._chain.tested - {method}:
            if self._walk(other, path, exchange, False)[1] is not None:
                allowed.update((other, "HEAD") if other == "GET" else (other,))
        if asked and not allowed and run.effects is not NO_EFFECTS:
            return NoAction(), Match(("",), path, effects=run.effects)
        return allowed or None

    def _keep(self, key: tuple[str, str, bool], found: Found) -> None:
        if len(key[1]) <= MAX_KNOWN_PATH:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[key] = found

    def _walk(
        self, method: str, path: str, exchange: VariableSource | None, asked: bool
    ) -> tuple[ChainRun, Found | None, set[str]]:
        """
        Return the way of a request through the chain, the action for it, and the methods of
        those that do not serve it.

        If it is not the request itself that is looked up (*asked*), but a method or path for
        another protocol or action, an answer of a line ends the search without an action, and
        actions for any method serve only those that they list.
        """
        # HEAD is served where GET is, if no line names it.
        tested = "GET" if method == "HEAD" and "HEAD" not in self._chain.tested else method
        run = ChainRun(RoutedRequest(tested, path, exchange))
        allowed: set[str] = set()
        spare: Found | None = None
        for route, found, groups in self._chain.reached(run):
            action = built(route.action)
            if route.fallback and not _covers(action, path, found):
                spare = spare or _last_resort(action, method, run, found, groups)
                continue
            if isinstance(action, AnswerAction) and not asked:
                if route.method in (None, method):
                    return run, None, set()
                continue
            if method == "OPTIONS" and allowed and getattr(action, "proxies", False):
                continue  # a route of the daemon has the path: see `http.dispatch`
            if _serves(route, action, method, asked):
                result = action, make_match(run, found, groups)
                if self._chain.is_static and not route.fallback:
                    self._keep((method, path, asked), result)
                return run, result, allowed
            others = getattr(action, "spare_methods", ()) if route.method is None else ()
            if method in others and spare is None:
                spare = action, make_match(run, found, groups)
            methods = action.methods if route.method is None else (route.method,)
            allowed.update(methods, others)
            if "GET" in methods:
                allowed.add("HEAD")
        return run, spare, allowed


def make_match(run: ChainRun, found: re.Match[str], groups: Groups) -> Match:
    """
    Return what an action gets.

    Args:
        run: has the variables, and the effects of the lines before.
        found: the match of the line's pattern in the path.
        groups: `$0` and so on.
    """
    return Match(
        groups,
        run.request.path[found.end() :],
        variables=run.variables,
        granted=run.granted,
        effects=run.effects,
        mount=None if groups[0] == found[0] else found[0],
    )


def _serves(route: Route, action: Any, method: str, asked: bool) -> bool:
    if method in getattr(action, "port_methods", ()):
        return True
    methods = action.methods if route.method is None else (route.method,)
    if not asked:
        methods = [*methods]
    return method in methods or (method == "HEAD" and "GET" in methods)


def _covers(action: Any, path: str, found: re.Match[str]) -> bool:
    """
    Return whether the action of a fallback has what is requested.
    """
    has = getattr(action, "has", None)
    return has is None or bool(has(path, Match((found[0],), path[found.end() :])))


def _last_resort(
    action: Any, method: str, run: ChainRun, found: re.Match[str], groups: Groups
) -> Found | None:
    """
    Return the action of a fallback, if it also serves what no other one has.
    """
    if not getattr(action, "catches_all", False) or method not in (*action.methods, "HEAD"):
        return None
    return action, make_match(run, found, groups)


def _as_conditional(entry: RouteEntry) -> _Line | None:
    return entry if isinstance(entry, Route | RouteJump | RouteStep) else None


def _fallbacks(entries: Iterable[RouteEntry]) -> list[Route]:
    found = [entry for entry in entries if isinstance(entry, Route) and entry.fallback]
    return sorted(found, key=lambda route: not hasattr(route.action, "has"))


def _is_fallback(entry: RouteEntry) -> bool:
    return isinstance(entry, Route) and entry.fallback
