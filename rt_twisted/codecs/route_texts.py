"""
Texts of route lines with variables: `room-$1`, `${HTTP_X_USER}`.

They are parsed once, at start. Values of requests are inserted as text, and are not parsed again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

Lookup = Callable[[str], str]  # the value of a variable by its name; "" if it is not set

_VARIABLE = re.compile(r"\$(?:(\d)|\{([^{}]*)\})")
_WITH_KEY = re.compile(r"(\w+)\[(.*)\]", re.DOTALL)
_PLAIN = re.compile(r"(?!\d+\Z|HTTP_\Z)[!-Z^-z|~]+")
_KEYED = ("qs", "cookie", "grant")  # NAME of ${NAME[KEY]}
UUID = "uwsgi[uuid]"
VARIABLES = frozenset(  # those that every request has, if it has a value for them
    "CONTENT_LENGTH CONTENT_TYPE HTTPS PATH_INFO QUERY_STRING REMOTE_ADDR REQUEST_METHOD "
    "REQUEST_SCHEME REQUEST_URI SERVER_NAME SERVER_PORT SERVER_PROTOCOL".split()
)


@dataclass(frozen=True, slots=True)
class Variable:
    """
    The part of a text that inserts a variable.

    Args:
        name: as in `${NAME}`.
    """

    name: str


@dataclass(frozen=True, slots=True)
class VariableText:
    """
    Text with variables.

    Args:
        source: as written in the settings.
        parts: constant pieces, numbers of groups, and variables, in order.
    """

    source: str
    parts: tuple[str | int | Variable, ...]

    def expand(self, lookup: Lookup, groups: Sequence[str | None] = ()) -> str:
        """
        Return the text with the values that *lookup* has, and those of *groups*.
        """
        return "".join(
            [
                part
                if isinstance(part, str)
                else lookup(part.name)
                if isinstance(part, Variable)
                else groups[part] or ""
                for part in self.parts
            ]
        )

    def is_fixed(self, names: Collection[str] = ()) -> bool:
        """
        Return whether nothing is inserted but variables with one of these *names*.
        """
        return all(
            isinstance(part, str) or (isinstance(part, Variable) and part.name in names)
            for part in self.parts
        )


def split_key(name: str) -> tuple[str, str] | None:
    """
    Return NAME and KEY of a variable that is written `NAME[KEY]`; None if it has no key.

    Raises:
        ValueError: there can be no such variable.
    """
    found = _WITH_KEY.fullmatch(name)
    if name.upper() in VARIABLES and name not in VARIABLES:
        raise ValueError(f"unknown variable ${{{name}}}; there is ${{{name.upper()}}}")
    if found is None and _PLAIN.fullmatch(name) and name not in _KEYED:
        return None
    if found is None or (name != UUID and (found[1] not in _KEYED or name == "grant[]")):
        raise ValueError(f"unknown variable ${{{name}}}")
    return found[1], found[2]


def parse_text(source: str, groups: int | None = None) -> VariableText:
    """
    Parse a text that is expanded before the client's grant is known.

    Args:
        source: the text.
        groups: number of groups in the line's pattern; None if a `$1` stays as it is.

    Raises:
        ValueError: a group that the pattern lacks, an unknown variable, a claim of the grant,
            or a variable without closing brace.
    """
    parts: list[str | int | Variable] = []
    end = 0
    for found in _VARIABLE.finditer(source):
        digit, name = found.groups()
        if digit and groups is None:
            continue
        parts.append(source[end : found.start()])
        parts.append(check_group(int(digit), groups or 0) if digit else _variable(name))
        end = found.end()
    parts.append(source[end:])
    check_closed(part for part in parts if isinstance(part, str))
    return VariableText(source, tuple(part for part in parts if part != ""))


def check_group(number: int, groups: int) -> int:
    """
    Return the *number* of a group.

    Raises:
        ValueError: the pattern has fewer *groups*.
    """
    if number > groups:
        raise ValueError(f"${number} needs a pattern with {number} groups, this one has {groups}")
    return number


def check_closed(pieces: Iterable[str]) -> None:
    """
    Check the constant *pieces* of a text.

    Raises:
        ValueError: one has a variable that is not closed.
    """
    if any("${" in piece for piece in pieces):
        raise ValueError("a variable is not closed: ${ needs a }")


def _variable(name: str) -> Variable:
    keyed = split_key(name)
    if keyed is not None and keyed[0] == "grant":
        raise ValueError(f"${{{name}}} is not possible here: the grant is not known yet")
    return Variable(name)
