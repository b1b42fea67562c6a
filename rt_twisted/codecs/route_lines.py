"""
uWSGI's route lines, as in its internal routing: parsed here, built by `rt_twisted.routes`.

A line is a word of the settings and its text. `route = [METHOD] REGEX ACTION` is for paths that
match, `route-host` and others for another text of the request, `route-if = TEST ACTION` for
requests that pass a test, `route-run = ACTION` for all that come so far. `route-label = NAME` is
where `goto:NAME` jumps to. With `response-` or `final-` in front a line is about responses of the
application. `internal-route` is for the paths that such a response names.
`static-map = /PREFIX=PATH` serves files for paths that no other line claims, and `wsgi-file` is
the application for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from rt_twisted.codecs.route_tests import (
    CompareTest,
    NotTest,
    RegexpTest,
    RouteTest,
    compile_pattern,
    parse_test,
)
from rt_twisted.codecs.route_texts import Variable, VariableText, parse_text

METHOD = "REQUEST_METHOD"
PATH = "PATH_INFO"
BUILT_IN = "built-in"  # a line of `route` that stands for the built-in routes
STATUS = "response status"  # not a name that a line can write

_METHOD = re.compile(r"[A-Z]+")
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, 5.6.2
_ANY = re.compile("")
# Actions whose arguments may have blanks, so that a word in front may be no method.
_WITH_BLANKS = re.compile(r"(?:break|return|redirect|log|add|del|rem)[\w-]*:")
_PASSWORD = re.compile(r"(password|view_key)=(?:\\.|[^,\\])*")
_URL_LOGIN = re.compile(r"://[^,]*@")


class Chain(Enum):
    """
    When a line is read; the values are the prefixes of its word.
    """

    REQUEST = ""
    RESPONSE = "response-"
    FINAL = "final-"
    INTERNAL = "internal-"


class LineWord(Enum):
    """
    The words of route lines, without a prefix.
    """

    ROUTE = "route"
    URI = "route-uri"
    HOST = "route-host"
    QUERY = "route-qs"
    ADDRESS = "route-remote-addr"
    AGENT = "route-user-agent"
    REFERER = "route-referer"
    STATUS = "route-status"
    IF = "route-if"
    IF_NOT = "route-if-not"
    RUN = "route-run"
    LABEL = "route-label"
    STATIC_MAP = "static-map"
    CHECK_STATIC = "check-static"
    WSGI_FILE = "wsgi-file"
    MODULE = "module"
    COLLECT = "collect-header"
    PULL = "pull-header"


_SUBJECTS: Mapping[LineWord, str] = {
    LineWord.URI: "REQUEST_URI",
    LineWord.HOST: "HTTP_HOST",
    LineWord.QUERY: "QUERY_STRING",
    LineWord.ADDRESS: "REMOTE_ADDR",
    LineWord.AGENT: "HTTP_USER_AGENT",
    LineWord.REFERER: "HTTP_REFERER",
}
_FALLBACKS = (
    LineWord.STATIC_MAP,
    LineWord.CHECK_STATIC,
    LineWord.WSGI_FILE,
    LineWord.MODULE,
)
_NOT_SERVING = (LineWord.LABEL, LineWord.COLLECT, LineWord.PULL)
_PASSING = frozenset(  # actions behind which other lines are looked at, or none
    "addheader addvar continue delheader goto last log remheader".split()
)
_ALONE = frozenset(word for word in LineWord if not word.value.startswith("route"))


def _all_words() -> dict[str, tuple[Chain, LineWord]]:
    words: dict[str, tuple[Chain, LineWord]] = {
        word.value: (Chain.REQUEST, word) for word in LineWord if word is not LineWord.STATUS
    }
    for chain in (Chain.RESPONSE, Chain.FINAL):
        words |= {
            chain.value + word.value: (chain, word) for word in LineWord if word not in _ALONE
        }
    words["internal-route"] = (Chain.INTERNAL, LineWord.ROUTE)
    return words


WORDS: Mapping[str, tuple[Chain, LineWord]] = _all_words()  # by the name of the setting


@dataclass(frozen=True, slots=True)
class RouteLine:
    """
    A parsed route line.

    Args:
        word: of the setting, without its prefix.
        pattern: searched in the path; one that matches all paths if the line has none.
        method: the only method; None for all.
        test: what the request must pass; None for no test.
        action: the word of the action; "" for a label; of `collect-header` and `pull-header`
            the name of the header in lower case.
        arguments: the text behind the action's colon; the name of a label; the path of a
            static-map; the variable that gets the header.
        chain: when it is read.
    """

    word: LineWord
    pattern: re.Pattern[str] = _ANY
    method: str | None = None
    test: RouteTest | None = None
    action: str = ""
    arguments: str = ""
    chain: Chain = Chain.REQUEST

    @property
    def is_fallback(self) -> bool:
        """
        Return whether the line serves only what no other line claims, wherever it stands.
        """
        return self.word in _FALLBACKS

    @property
    def is_about_responses(self) -> bool:
        """
        Return whether the line is read when an application has answered.
        """
        return self.chain is not Chain.REQUEST or self.word in (LineWord.COLLECT, LineWord.PULL)

    @property
    def may_serve(self) -> bool:
        """
        Return whether the line may answer a request of a client.
        """
        passes = self.word in _NOT_SERVING or self.action in _PASSING
        return self.chain is Chain.REQUEST and not passes

    @property
    def groups(self) -> int:
        """
        The number of groups that the action can insert.
        """
        return self.test.groups if self.test is not None else self.pattern.groups


def parse_line(word: str, text: str) -> RouteLine:
    """
    Parse the text of a route line.

    Args:
        word: of the setting, one of `WORDS`.
        text: its value.

    Raises:
        ValueError: one sentence on what is wrong with the line.
    """
    chain, kind = WORDS[word]
    return _PARSERS[kind](kind, chain, text.strip())


def split_word(line: str) -> tuple[str, str]:
    """
    Return the word and the text of a line `WORD TEXT`; without a known word it is a `route`.
    """
    word, _, text = line.partition(" ")
    if word in WORDS and word != LineWord.ROUTE.value:
        return word, text
    return LineWord.ROUTE.value, line


def is_for_responses(line: str) -> bool:
    """
    Return whether a line is about responses of applications.
    """
    chain, word = WORDS[split_word(line)[0]]
    return chain is not Chain.REQUEST or word in (LineWord.COLLECT, LineWord.PULL)


def join_word(word: str, text: str) -> str:
    """
    Return a line that `split_word` splits into *word* and *text*.
    """
    return text if word == LineWord.ROUTE.value else f"{word} {text}"


def _parse_route(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    words = text.split(None, 1)
    method = None
    if len(words) == 2 and _METHOD.fullmatch(words[0]) and not _WITH_BLANKS.match(words[1]):
        further = words[1].split(None, 1)
        if len(further) == 2:
            method, words = words[0], further
    if len(words) < 2:
        other = f", or {BUILT_IN}" if chain is Chain.REQUEST else ""
        raise ValueError(f"{_a(chain, kind)} is '[METHOD] REGEX ACTION[:ARGUMENTS]'{other}")
    action = _split_action(words[1])
    return RouteLine(kind, compile_pattern(words[0]), method, None, *action, chain)


def _parse_subject(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    words = text.split(None, 1)
    if len(words) < 2:
        raise ValueError(f"{_a(chain, kind)} is 'REGEX ACTION[:ARGUMENTS]'")
    subject = VariableText("", (Variable(_SUBJECTS[kind]),))
    test = RegexpTest(subject, compile_pattern(words[0]))
    return RouteLine(kind, _ANY, None, test, *_split_action(words[1]), chain)


def _parse_status(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    words = text.split(None, 1)
    if len(words) < 2 or not re.fullmatch("[1-5][0-9][0-9]", words[0]):
        raise ValueError(f"{_a(chain, kind)} is 'STATUS ACTION[:ARGUMENTS]'")
    status = VariableText("", (Variable(STATUS),))
    test = CompareTest(str.__eq__, status, parse_text(words[0]))
    return RouteLine(kind, _ANY, None, test, *_split_action(words[1]), chain)


def _parse_if(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    words = text.split(None, 1)
    if len(words) < 2:
        raise ValueError(f"{_a(chain, kind)} is 'TEST:ARGUMENTS ACTION[:ARGUMENTS]'")
    test = parse_test(words[0])
    if kind is LineWord.IF_NOT:
        test = NotTest(test)
    return RouteLine(kind, _ANY, None, test, *_split_action(words[1]), chain)


def _parse_run(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    if not text:
        raise ValueError(f"{_a(chain, kind)} is 'ACTION[:ARGUMENTS]'")
    return RouteLine(kind, _ANY, None, None, *_split_action(text), chain)


def _parse_label(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    if not text:
        raise ValueError(f"{_a(chain, kind)} needs a name")
    return RouteLine(kind, arguments=text, chain=chain)


def _parse_header(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    header, _, variable = text.partition(" ")
    variable = variable.strip()
    if not _TOKEN.fullmatch(header) or not _TOKEN.fullmatch(variable):
        raise ValueError(f"a {kind.value} is 'HEADER VARIABLE'")
    return RouteLine(kind, action=header.lower(), arguments=variable)


def _parse_static_map(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    prefix, equals, path = text.partition("=")
    prefix, path = prefix.strip(), path.strip()
    if not equals or not path or not prefix.startswith("/"):
        raise ValueError("a static-map is '/PREFIX=PATH'")
    # At a whole segment, unlike uWSGI: /files does not match /files-of-others.
    stem = prefix.rstrip("/")
    pattern = re.compile(f"^{re.escape(stem)}(?=/|$)" if stem else "^/")
    return RouteLine(kind, pattern, None, None, "static", path)


def _parse_check_static(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    if not text:
        raise ValueError("a check-static needs the path of a folder")
    return RouteLine(kind, re.compile("^/"), None, None, "static", text)


def _parse_application(kind: LineWord, chain: Chain, text: str) -> RouteLine:
    if not text:
        form = "FILE" if kind is LineWord.WSGI_FILE else "MODULE"
        raise ValueError(f"a {kind.value} is '{form}' or '{form}:NAME'")
    escaped = re.sub(r"([\\,])", r"\\\1", text)
    return RouteLine(kind, _ANY, None, None, "wsgi", f"name={escaped}")


def _a(chain: Chain, kind: LineWord) -> str:
    word = chain.value + kind.value
    return f"an {word}" if word[0] == "i" else f"a {word}"


def _split_action(text: str) -> tuple[str, str]:
    action, _, arguments = text.strip().partition(":")
    return action, arguments


_PARSERS: Mapping[LineWord, Callable[[LineWord, Chain, str], RouteLine]] = {
    LineWord.ROUTE: _parse_route,
    **dict.fromkeys(_SUBJECTS, _parse_subject),
    LineWord.STATUS: _parse_status,
    LineWord.IF: _parse_if,
    LineWord.IF_NOT: _parse_if,
    LineWord.RUN: _parse_run,
    LineWord.LABEL: _parse_label,
    LineWord.STATIC_MAP: _parse_static_map,
    LineWord.CHECK_STATIC: _parse_check_static,
    LineWord.WSGI_FILE: _parse_application,
    LineWord.MODULE: _parse_application,
    LineWord.COLLECT: _parse_header,
    LineWord.PULL: _parse_header,
}


def mask_secrets(text: str) -> str:
    """
    Return a route line, or a part of it, without passwords.
    """
    return _URL_LOGIN.sub("://***@", _PASSWORD.sub(r"\1=***", text))
