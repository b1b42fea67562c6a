"""
Text with variables that are replaced for each request: `channel_$1`, `${qs[name]}`.

The variables are uWSGI's: `$0` to `$9` for the groups of the route's pattern,
`${qs[NAME]}`, `${cookie[NAME]}`, `${HTTP_NAME}` for a header, `${PATH_INFO}`,
`${QUERY_STRING}`, `${REMOTE_ADDR}`, `${REQUEST_METHOD}`, `${uwsgi[uuid]}`. A
variable that the request does not have is empty. `${grant[NAME]}` is a claim of the client's
grant; one that the grant lacks is an error.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from rt_twisted.actions.interfaces import Match
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


def _make_uuid(exchange: IExchange, match: Match) -> str:
    return str(uuid.uuid4())


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
        return all(
            isinstance(part, str | GrantVariable) or part is _make_uuid for part in self.parts
        )

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
        parts.append(_group(int(digit), groups) if digit else _variable(name))
        end = found.end()
    parts.append(source[end:])
    if any(isinstance(part, str) and "${" in part for part in parts):
        raise ValueError("a variable is not closed: ${ needs a }")
    return Template(source, tuple(part for part in parts if part != ""))


def _group(number: int, groups: int) -> _Part:
    if number > groups:
        raise ValueError(f"${number} needs a pattern with {number} groups, this one has {groups}")
    return lambda exchange, match: match.groups[number] or ""


def _variable(name: str) -> _Part:
    if name.startswith("qs[") and name.endswith("]"):
        field = name[3:-1]
        return lambda exchange, match: (exchange.query().get(field) or [""])[-1]
    if name.startswith("grant[") and name.endswith("]") and len(name) > 7:
        return GrantVariable(name[6:-1])
    if name.startswith("cookie[") and name.endswith("]"):
        cookie = name[7:-1]
        return lambda exchange, match: exchange.cookies().get(cookie, "")
    if name.startswith("HTTP_") and len(name) > 5:
        header = name[5:].replace("_", "-").lower()
        return lambda exchange, match: exchange.header(header) or ""
    try:
        return _VARIABLES[name]
    except KeyError:
        raise ValueError(f"unknown variable ${{{name}}}") from None


_VARIABLES: dict[str, _Part] = {
    "PATH_INFO": lambda exchange, match: exchange.path,
    "QUERY_STRING": lambda exchange, match: exchange.query_string,
    "REMOTE_ADDR": lambda exchange, match: exchange.address,
    "REQUEST_METHOD": lambda exchange, match: exchange.method,
    "uwsgi[uuid]": _make_uuid,
}
