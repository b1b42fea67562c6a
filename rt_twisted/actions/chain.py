"""
The chain of routes: which action serves a request.

Lines are read in order, as in uWSGI's internal routing, and jumps go forward only. The first
action that serves the request ends the search.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import Match
from rt_twisted.codecs.route_lines import METHOD, PATH, RouteTest


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
    """

    pattern: re.Pattern[str]
    method: str | None
    action: Any
    line: str = ""
    context: ActionContext | None = None
    test: RouteTest | None = None
    fallback: bool = False


@dataclass(frozen=True, slots=True)
class RouteLabel:
    """
    A place to jump to.

    Args:
        name: as in `goto:NAME`.
    """

    name: str


@dataclass(frozen=True, slots=True)
class RouteJump:
    """
    A line that skips others.

    Args:
        pattern: searched in the path.
        method: the only method; None for all.
        test: what the request must pass; None for no test.
        label: where to go on; "" behind all lines, as with `last:`.
    """

    pattern: re.Pattern[str]
    method: str | None
    test: RouteTest | None
    label: str

    def check(self, behind: Iterable[RouteEntry]) -> None:
        """
        Check that the label is among the entries *behind* this one.

        Raises:
            ValueError: it is not.
        """
        if self.label and not any(_is_label(entry, self.label) for entry in behind):
            raise ValueError(f"no route-label {self.label!r} stands behind this line")


RouteEntry = Route | RouteJump | RouteLabel


class RouteChain:
    """
    All entries in order.

    Args:
        entries: routes that are fallbacks are moved behind the others.

    Raises:
        ValueError: a jump to a label that does not stand behind it.
    """

    def __init__(self, entries: Iterable[RouteEntry]) -> None:
        listed = tuple(entries)
        self.entries = listed
        main = [one for one in listed if not _is_fallback(one)]
        self._entries = (*main, *filter(_is_fallback, listed))
        self._targets: dict[int, int] = {}  # by the index of a jump
        for index, entry in enumerate(main):
            if isinstance(entry, RouteJump):
                entry.check(main[index:])
                self._targets[index] = _target(entry.label, main, index)
        tests = [one.test for one in main if not isinstance(one, RouteLabel) and one.test]
        self._tested = {method for test in tests for method in test.constants(METHOD)}

    @property
    def routes(self) -> Sequence[Route]:
        """
        Return the routes without labels and jumps, in the order of their lines.
        """
        return [one for one in self.entries if isinstance(one, Route)]

    def find(self, method: str, path: str) -> tuple[Any, Match] | set[str] | None:
        """
        Return the action for a request, and the match of its pattern; see `Routes.find`.
        """
        found, allowed = self._walk(method, path)
        if found is not None:
            return found
        for other in self._tested - {method}:
            if self._walk(other, path)[0] is not None:
                allowed.update((other, "HEAD") if other == "GET" else (other,))
        return allowed or None

    def _walk(self, method: str, path: str) -> tuple[tuple[Any, Match] | None, set[str]]:
        """
        Return the action for a request, and the methods of those that do not serve it.
        """
        # HEAD is served where GET is, if no line names it.
        tested = "GET" if method == "HEAD" and "HEAD" not in self._tested else method
        variables = {METHOD: tested, PATH: path}
        allowed: set[str] = set()
        spare_route: tuple[Any, Match] | None = None
        index, entries = 0, self._entries
        while index < len(entries):
            entry = entries[index]
            index += 1
            if isinstance(entry, RouteLabel):
                continue
            found = entry.pattern.search(path)
            if found is None or (entry.test is not None and not entry.test.holds(variables)):
                continue
            if isinstance(entry, RouteJump):
                if entry.method in (None, tested):
                    index = self._targets[index - 1]
                continue
            action = entry.action
            if method in getattr(action, "port_methods", ()):
                return (action, _match(found, path)), allowed
            methods = action.methods if entry.method is None else (entry.method,)
            if method in methods or (method == "HEAD" and "GET" in methods):
                return (action, _match(found, path)), allowed
            spare = getattr(action, "spare_methods", ()) if entry.method is None else ()
            if method in spare and spare_route is None:
                spare_route = action, _match(found, path)
            allowed.update(methods, spare)
            if "GET" in methods:
                allowed.add("HEAD")
        return spare_route, allowed


def _target(label: str, entries: Sequence[RouteEntry], start: int) -> int:
    if not label:
        return len(entries)
    return next(index for index in range(start, len(entries)) if _is_label(entries[index], label))


def _is_fallback(entry: RouteEntry) -> bool:
    return isinstance(entry, Route) and entry.fallback


def _is_label(entry: RouteEntry, name: str) -> bool:
    return isinstance(entry, RouteLabel) and entry.name == name


def _match(found: re.Match[str], path: str) -> Match:
    return Match((found[0], *found.groups()), path[found.end() :])
