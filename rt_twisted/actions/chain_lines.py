"""
Build the entries of route lines that are not actions: jumps, labels, steps and answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from rt_twisted.actions.chain import HeaderRule, Route, RouteEntry, RouteJump, RouteLabel, RouteStep
from rt_twisted.actions.chain_answer import AnswerAction, phrase_of
from rt_twisted.actions.chain_run import AddHeader, AddVariable, ChainStep, LogLine, RemoveHeader
from rt_twisted.actions.template import parse_template
from rt_twisted.codecs.route_lines import Chain, LineWord, RouteLine
from rt_twisted.codecs.route_texts import parse_text

_STATUS = re.compile(r"([2-5][0-9][0-9])(?:\s+(.+))?")
_HEADER = re.compile(r"([\w!#$%&'*+.^`|~-]+)\s*:\s*(.*)", re.ASCII)
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
# Headers that the daemon itself sets, as they frame the response.
_FRAMING = frozenset(
    "connection content-length date keep-alive te trailer transfer-encoding upgrade".split()
)
_ENDS = ("continue", "last")
_MOVED = {"redirect": 302, "redirect-302": 302, "redirect-permanent": 301, "redirect-301": 301}


def build_line(parsed: RouteLine, line: str) -> RouteEntry | None:
    """
    Build the entry of a line.

    Args:
        parsed: the line.
        line: as written, with its word.

    Returns:
        None if the line has an action that is built by its class.

    Raises:
        ValueError: one sentence on what is wrong with the line.
    """
    if parsed.word is LineWord.LABEL:
        return RouteLabel(parsed.arguments, parsed.chain)
    if parsed.word in (LineWord.COLLECT, LineWord.PULL):
        pull = parsed.word is LineWord.PULL
        return HeaderRule(parsed.action, parsed.arguments, pull)
    word, condition = parsed.action, (parsed.pattern, parsed.method, parsed.test)
    if word == "goto" or word in _ENDS:
        return RouteJump(*condition, _label(parsed), parsed.chain)
    if word in _STEPS:
        step = _STEPS[word](word, parsed.arguments, parsed.groups)
        return RouteStep(*condition, step, parsed.chain)
    answer = _answer(parsed)
    if answer is None:
        return None
    return Route(parsed.pattern, parsed.method, answer, line, None, parsed.test, chain=parsed.chain)


def _label(line: RouteLine) -> str:
    if line.action == "goto" and not line.arguments:
        raise ValueError("goto needs the name of a route-label: goto:NAME")
    if line.action == "goto" and "$" in line.arguments:
        raise ValueError("goto needs a fixed name: its label is checked at start")
    if line.action in _ENDS and line.arguments:
        raise ValueError(f"{line.action} takes no argument")
    return line.arguments


def _answer(line: RouteLine) -> AnswerAction | None:
    word, text = line.action, line.arguments.strip()
    if word in _MOVED:
        if not text:
            raise ValueError(f"{word} needs a URL: {word}:URL")
        location = parse_template(text, line.groups)
        if location.has_grant:
            raise ValueError("a redirect cannot use ${grant[...]}: the grant is not known yet")
        return AnswerAction(_MOVED[word], "", location)
    if word not in ("break", "return", "break-with-status"):
        return None
    if word == "break" and not text and line.chain is not Chain.RESPONSE:
        return AnswerAction(404)
    found = _STATUS.fullmatch(text)
    if found is None:
        raise ValueError(f"{word} needs a status from 200 to 599: {word}:403")
    status, reason = int(found[1]), found[2] or phrase_of(int(found[1]))
    # uWSGI's break sends no body. The reason of an error is one here, as of all others.
    return AnswerAction(status, "" if word == "break" and status < 400 else reason)


def _add_variable(word: str, arguments: str, groups: int) -> ChainStep:
    name, equals, text = arguments.partition("=")
    if not equals or not _TOKEN.fullmatch(name):
        raise ValueError("addvar needs a name and a text: addvar:NAME=TEXT")
    return AddVariable(name, parse_text(text, groups))


def _add_header(word: str, arguments: str, groups: int) -> ChainStep:
    found = _HEADER.fullmatch(arguments.strip())
    if found is None:
        raise ValueError("addheader needs a name and a text: addheader:NAME: TEXT")
    return AddHeader(_free(word, found[1]), parse_text(found[2], groups))


def _remove_header(word: str, arguments: str, groups: int) -> ChainStep:
    name = arguments.strip()
    if not _TOKEN.fullmatch(name) or "${" in name:
        raise ValueError(f"{word} needs the name of a header: {word}:NAME")
    return RemoveHeader(_free(word, name).lower())


def _free(word: str, name: str) -> str:
    if name.lower() in _FRAMING:
        raise ValueError(f"{word} cannot change {name}: the daemon sets it")
    return name


def _log_line(word: str, arguments: str, groups: int) -> ChainStep:
    return LogLine(parse_text(arguments, groups))


_STEPS: Mapping[str, Callable[[str, str, int], ChainStep]] = {
    "addvar": _add_variable,
    "addheader": _add_header,
    "delheader": _remove_header,
    "remheader": _remove_header,
    "log": _log_line,
}
