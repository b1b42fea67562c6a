"""
The tests of uWSGI's `route-if` and `route-if-not` lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rt_twisted.codecs.route_texts import Lookup, Variable, VariableText, parse_text

Groups = Sequence[str | None]

_PASSED: Groups = ("",)
_ALIASES = {
    "isequal": "equal",
    "eq": "equal",
    "==": "equal",
    "contain": "contains",
    "re": "regexp",
}
# Tests of uWSGI that are not supported.
_NOT_SUPPORTED = frozenset(
    "exists isdir isexec isfile islink ishigher ishigherequal islower islowerequal > >= < <= "
    "ipv4in ipv6in lord".split()
)


class RouteTest(Protocol):
    """
    What a request must pass for a line.
    """

    @property
    def groups(self) -> int:
        """
        The number of groups that `search` returns, beside `$0`.
        """

    def search(self, lookup: Lookup) -> Groups | None:
        """
        Return `$0` and the groups if a request with these variables passes, else None.
        """

    def constants(self, variable: str) -> Collection[str]:
        """
        Return the texts that *variable* alone is compared with.
        """


@dataclass(frozen=True, slots=True)
class CompareTest:
    """
    A test of two texts: `equal:A;B`, `startswith:A;B`, `endswith:A;B`, `contains:A;B`.

    Args:
        compare: returns whether the values pass.
        left: A.
        right: B.
    """

    compare: Callable[[str, str], bool]
    left: VariableText
    right: VariableText

    @property
    def groups(self) -> int:
        return 0

    def search(self, lookup: Lookup) -> Groups | None:
        passed = self.compare(self.left.expand(lookup), self.right.expand(lookup))
        return _PASSED if passed else None

    def constants(self, variable: str) -> Collection[str]:
        sides = (self.left, self.right)
        if self.compare is not str.__eq__ or not any(
            side.parts == (Variable(variable),) for side in sides
        ):
            return ()
        return [side.source for side in sides if side.is_fixed()]


@dataclass(frozen=True, slots=True)
class EmptyTest:
    """
    The test `empty:A`: the text is empty.

    Args:
        text: A.
    """

    text: VariableText

    @property
    def groups(self) -> int:
        return 0

    def search(self, lookup: Lookup) -> Groups | None:
        return None if self.text.expand(lookup) else _PASSED

    def constants(self, variable: str) -> Collection[str]:
        return ()


@dataclass(frozen=True, slots=True)
class RegexpTest:
    """
    The test `regexp:A;REGEX`: the pattern is found in the text. Its groups are `$1` and so on.

    Args:
        text: A.
        pattern: the regular expression.
    """

    text: VariableText
    pattern: re.Pattern[str]

    @property
    def groups(self) -> int:
        return self.pattern.groups

    def search(self, lookup: Lookup) -> Groups | None:
        found = self.pattern.search(self.text.expand(lookup))
        return None if found is None else (found[0], *found.groups())

    def constants(self, variable: str) -> Collection[str]:
        return ()


@dataclass(frozen=True, slots=True)
class NotTest:
    """
    The test of a `route-if-not` line.

    Args:
        test: what must not hold.
    """

    test: RouteTest

    @property
    def groups(self) -> int:
        return 0

    def search(self, lookup: Lookup) -> Groups | None:
        return _PASSED if self.test.search(lookup) is None else None

    def constants(self, variable: str) -> Collection[str]:
        return self.test.constants(variable)


def parse_test(text: str) -> RouteTest:
    """
    Parse a test, `NAME:ARGUMENTS`.

    Raises:
        ValueError: one sentence on what is wrong with it.
    """
    name, _, arguments = text.partition(":")
    name = _ALIASES.get(name, name)
    if name in _NOT_SUPPORTED:
        raise ValueError(f"the test {name!r} is not supported; there is: {', '.join(_NAMES)}")
    if name == "empty":
        return EmptyTest(parse_text(arguments))
    if name not in _NAMES:
        raise ValueError(f"there is no test {name!r}; there is: {', '.join(_NAMES)}")
    left, semicolon, right = arguments.partition(";")
    if not semicolon:
        second = "REGEX" if name == "regexp" else "B"
        raise ValueError(f"{name} needs two texts: {name}:A;{second}")
    if name == "regexp":
        return RegexpTest(parse_text(left), compile_pattern(right))
    return CompareTest(_COMPARISONS[name], parse_text(left), parse_text(right))


def compile_pattern(text: str) -> re.Pattern[str]:
    """
    Compile the regular expression of a line.

    Raises:
        ValueError: it is none.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None


def _contains(whole: str, piece: str) -> bool:
    return piece in whole


_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = {
    "equal": str.__eq__,
    "startswith": str.startswith,
    "endswith": str.endswith,
    "contains": _contains,
}
_NAMES = ("equal", "empty", "startswith", "endswith", "contains", "regexp")
