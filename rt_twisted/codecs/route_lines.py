"""
uWSGI's route lines, as in its internal routing: parsed here, built by `rt_twisted.routes`.

A line is a word of the settings and its text. `route = [METHOD] REGEX ACTION` is for paths that
match, `route-if = TEST ACTION` for requests that pass a test, `route-run = ACTION` for all that
come so far. `route-label = NAME` is where `goto:NAME` jumps to, `last:` jumps behind all lines.
`static-map = /PREFIX=PATH` serves files for paths that no other line claims.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

METHOD = "REQUEST_METHOD"
PATH = "PATH_INFO"
BUILT_IN = "built-in"  # a line of `route` that stands for the built-in routes
VARIABLES = (METHOD, PATH)  # those that a test may compare

_METHOD = re.compile(r"[A-Z]+")
_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_ANY = re.compile("")
# Tests of uWSGI that are not built; each name ends at the first colon.
_NOT_BUILT = frozenset(
    "contains empty endswith exists isdir isexec isfile islink ishigher ishigherequal islower "
    "islowerequal regexp startswith".split()
)


class LineWord(Enum):
    """
    The words of route lines; the values are names of settings.
    """

    ROUTE = "route"
    IF = "route-if"
    RUN = "route-run"
    LABEL = "route-label"
    STATIC_MAP = "static-map"


class RouteTest(Protocol):
    """
    The test of a `route-if` line.
    """

    def holds(self, variables: Mapping[str, str]) -> bool:
        """
        Return whether a request with *variables* passes.
        """

    def constants(self, variable: str) -> Collection[str]:
        """
        Return the texts that *variable* alone is compared with.
        """


@dataclass(frozen=True, slots=True)
class VariableText:
    """
    Text with variables.

    Args:
        parts: constant pieces, and names of variables with True beside them.
    """

    parts: tuple[tuple[str, bool], ...]

    def expand(self, variables: Mapping[str, str]) -> str:
        """
        Return the text with the values of *variables*.
        """
        return "".join([variables[text] if named else text for text, named in self.parts])


@dataclass(frozen=True, slots=True)
class EqualTest:
    """
    The test `equal:A;B`: both texts are the same.

    Args:
        left: A.
        right: B.
    """

    left: VariableText
    right: VariableText

    def holds(self, variables: Mapping[str, str]) -> bool:
        return self.left.expand(variables) == self.right.expand(variables)

    def constants(self, variable: str) -> Collection[str]:
        sides = (self.left, self.right)
        named = any(side.parts == ((variable, True),) for side in sides)
        return [
            side.expand({})
            for side in sides
            if named and not any(is_name for _, is_name in side.parts)
        ]


@dataclass(frozen=True, slots=True)
class RouteLine:
    """
    A parsed route line.

    Args:
        word: of the setting.
        pattern: searched in the path; one that matches all paths if the line has none.
        method: the only method; None for all.
        test: what the request must pass; None for no test.
        action: the word of the action; "" for a label.
        arguments: the text behind the action's colon; the name of a label; the path of a
            static-map.
    """

    word: LineWord
    pattern: re.Pattern[str] = _ANY
    method: str | None = None
    test: RouteTest | None = None
    action: str = ""
    arguments: str = ""


def parse_line(word: LineWord, text: str) -> RouteLine:
    """
    Parse the text of a route line.

    Args:
        word: of the setting.
        text: its value.

    Raises:
        ValueError: one sentence on what is wrong with the line.
    """
    return _PARSERS[word](text.strip())


def split_word(line: str) -> tuple[LineWord, str]:
    """
    Return the word and the text of a line `WORD TEXT`; without a known word it is a `route`.
    """
    word, _, text = line.partition(" ")
    for one in LineWord:
        if one is not LineWord.ROUTE and word == one.value:
            return one, text
    return LineWord.ROUTE, line


def join_word(word: LineWord, text: str) -> str:
    """
    Return a line that `split_word` splits into *word* and *text*.
    """
    return text if word is LineWord.ROUTE else f"{word.value} {text}"


def _parse_route(text: str) -> RouteLine:
    words = text.split(None, 1)
    method = None
    if len(words) == 2 and _METHOD.fullmatch(words[0]) and len(words[1].split(None, 1)) == 2:
        method = words[0]
        words = words[1].split(None, 1)
    if len(words) < 2:
        raise ValueError(f"a route is '[METHOD] REGEX ACTION[:ARGUMENTS]', or {BUILT_IN}")
    try:
        pattern = re.compile(words[0])
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ValueError(f"{words[0]!r} is not a regular expression: {error}") from None
    return RouteLine(LineWord.ROUTE, pattern, method, None, *_split_action(words[1]))


def _parse_if(text: str) -> RouteLine:
    words = text.split(None, 1)
    if len(words) < 2:
        raise ValueError("a route-if is 'TEST:ARGUMENTS ACTION[:ARGUMENTS]'")
    name, _, arguments = words[0].partition(":")
    if name in _NOT_BUILT:
        raise ValueError(f"the test {name!r} is not built yet")
    if name not in _TESTS:
        raise ValueError(f"there is no test {name!r}; there is: {', '.join(_TESTS)}")
    test = _TESTS[name](arguments)
    return RouteLine(LineWord.IF, _ANY, None, test, *_split_action(words[1]))


def _parse_run(text: str) -> RouteLine:
    if not text:
        raise ValueError("a route-run is 'ACTION[:ARGUMENTS]'")
    return RouteLine(LineWord.RUN, _ANY, None, None, *_split_action(text))


def _parse_label(text: str) -> RouteLine:
    if not text:
        raise ValueError("a route-label needs a name")
    return RouteLine(LineWord.LABEL, arguments=text)


def _parse_static_map(text: str) -> RouteLine:
    prefix, equals, path = text.partition("=")
    prefix, path = prefix.strip(), path.strip()
    if not equals or not path or not prefix.startswith("/"):
        raise ValueError("a static-map is '/PREFIX=PATH'")
    # At a whole segment, unlike uWSGI: /files does not match /files-of-others.
    stem = prefix.rstrip("/")
    pattern = re.compile(f"^{re.escape(stem)}(?=/|$)" if stem else "^/")
    return RouteLine(LineWord.STATIC_MAP, pattern, None, None, "static", path)


def _split_action(text: str) -> tuple[str, str]:
    action, _, arguments = text.strip().partition(":")
    return action, arguments


def _parse_equal(arguments: str) -> RouteTest:
    left, semicolon, right = arguments.partition(";")
    if not semicolon:
        raise ValueError("equal needs two texts: equal:A;B")
    return EqualTest(_parse_text(left), _parse_text(right))


def _parse_text(source: str) -> VariableText:
    parts: list[tuple[str, bool]] = []
    end = 0
    for found in _VARIABLE.finditer(source):
        parts.append((source[end : found.start()], False))
        if found[1] not in VARIABLES:
            known = " and ".join(f"${{{name}}}" for name in VARIABLES)
            raise ValueError(f"a test cannot use ${{{found[1]}}}, only {known}")
        parts.append((found[1], True))
        end = found.end()
    parts.append((source[end:], False))
    if any("${" in text for text, named in parts if not named):
        raise ValueError("a variable is not closed: ${ needs a }")
    return VariableText(tuple(part for part in parts if part[0]))


_TESTS: Mapping[str, Callable[[str], RouteTest]] = {"equal": _parse_equal}
_PARSERS: Mapping[LineWord, Callable[[str], RouteLine]] = {
    LineWord.ROUTE: _parse_route,
    LineWord.IF: _parse_if,
    LineWord.RUN: _parse_run,
    LineWord.LABEL: _parse_label,
    LineWord.STATIC_MAP: _parse_static_map,
}
