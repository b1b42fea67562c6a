"""
Text with variables that are replaced for each request: `channel_$1`, `${qs[name]}`.

The variables are uWSGI's: `$0` to `$9` for the groups of the route's pattern, `${qs[NAME]}`,
`${cookie[NAME]}`, `${HTTP_NAME}` for a header, `${PATH_INFO}` and others of
`request_variables`, and what route lines and the application have set. A variable that the
request does not have is empty. `${grant[NAME]}` is a claim of the client's grant; one that the
grant lacks is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.request_variables import Reader, make_uuid, variable_reader
from rt_twisted.codecs.route_texts import UUID, check_closed, check_group, split_key
from rt_twisted.http.interfaces import IExchange

_VARIABLE = re.compile(r"\$(?:(\d)|\{([^{}]*)\})")
_Part = Callable[[IExchange, Match], str]


@dataclass(frozen=True, slots=True)
class GrantVariable:
    """
    The part of a template that inserts a claim of the client's grant.

    Args:
        name: of the claim.
    """

    name: str

    def __call__(self, exchange: IExchange, match: Match) -> str:
        return match.grant.value(self.name)


@dataclass(frozen=True, slots=True)
class GroupVariable:
    """
    The part of a template that inserts a group of the route's pattern.

    Args:
        number: 0 for all that matched.
    """

    number: int

    def __call__(self, exchange: IExchange, match: Match) -> str:
        return match.groups[self.number] or ""


@dataclass(frozen=True, slots=True)
class RequestVariable:
    """
    The part of a template that inserts a variable of the request.

    Args:
        name: as in `${NAME}`.
        read: returns the value that the request itself has.
    """

    name: str
    read: Reader

    def __call__(self, exchange: IExchange, match: Match) -> str:
        value = match.variables.get(self.name)
        return self.read(exchange) if value is None else value


@dataclass(frozen=True, slots=True)
class Template:
    """
    Parsed text with variables; compares by its source.

    Args:
        source: the text as written in the settings.
        parts: constant pieces, and functions for variables, in order.
    """

    source: str
    parts: tuple[str | _Part, ...] = field(compare=False)

    @property
    def has_grant(self) -> bool:
        """
        Return whether claims of the client's grant are inserted.
        """
        return any(isinstance(part, GrantVariable) for part in self.parts)

    @property
    def is_fixed(self) -> bool:
        """
        Return whether the client can insert nothing: the text is the route's own.
        """
        return all(_is_own(part) for part in self.parts)

    def is_granted(self, match: Match) -> bool:
        """
        Return whether the client of *match* has inserted nothing: the text is the route's own,
        or the application's (`Match.granted`).
        """
        return all(_is_own(part) or _is_granted(part, match) for part in self.parts)

    def expand(self, exchange: IExchange, match: Match) -> str:
        """
        Return the text with the values of *exchange* and *match*.
        """
        return "".join(
            [part if isinstance(part, str) else part(exchange, match) for part in self.parts]
        )


def parse_template(source: str, groups: int) -> Template:
    """
    Parse the text of a template.

    Args:
        source: the text.
        groups: number of groups in the route's pattern.

    Raises:
        ValueError: a group that the pattern lacks, an unknown variable, or a variable
            without closing brace.
    """
    parts: list[str | _Part] = []
    end = 0
    for found in _VARIABLE.finditer(source):
        parts.append(source[end : found.start()])
        digit, name = found.groups()
        parts.append(GroupVariable(check_group(int(digit), groups)) if digit else _variable(name))
        end = found.end()
    parts.append(source[end:])
    check_closed(part for part in parts if isinstance(part, str))
    return Template(source, tuple(part for part in parts if part != ""))


def _is_own(part: str | _Part) -> bool:
    made = isinstance(part, RequestVariable) and part.read is make_uuid
    return made or isinstance(part, str | GrantVariable)


def _is_granted(part: str | _Part, match: Match) -> bool:
    if isinstance(part, GroupVariable):
        return match.by_application
    return isinstance(part, RequestVariable) and part.name in match.granted


def _variable(name: str) -> _Part:
    keyed = split_key(name)
    if keyed is not None and keyed[0] == "grant":
        return GrantVariable(keyed[1])
    return RequestVariable(name, make_uuid if name == UUID else variable_reader(name))
