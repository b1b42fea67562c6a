"""
One request on its way through a chain of routes: its variables, and what lines do to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rt_twisted.actions.effects import NO_EFFECTS, ChainEffects, header_value, printable
from rt_twisted.actions.request_variables import RoutedRequest, variable_reader
from rt_twisted.codecs.route_texts import VariableText
from rt_twisted.model.errors import Header, HttpError

MAX_LOG = 1000  # characters of a line of `log:`

Groups = Sequence[str | None]
_NO_VARIABLES: Mapping[str, str] = {}


class ChainRun:
    """
    The variables of one request, and the effects of the lines so far.

    Args:
        request: of the client.
        variables: that are set already.
        granted: the names of those whose values are not the client's.

    Attributes:
        variables: those that lines and the application have set, by name.
        granted: the names of those into which the client has inserted nothing.
    """

    __slots__ = ("_added", "_error", "_logged", "_removed", "granted", "request", "variables")

    def __init__(
        self,
        request: RoutedRequest,
        variables: Mapping[str, str] = _NO_VARIABLES,
        granted: frozenset[str] = frozenset(),
    ) -> None:
        self.request = request
        self.variables = variables
        self.granted = granted
        self._added: tuple[Header, ...] = ()
        self._removed: frozenset[str] = frozenset()
        self._logged: tuple[str, ...] = ()
        self._error: HttpError | None = None

    @property
    def effects(self) -> ChainEffects:
        """
        Return what the lines have done.
        """
        error = self._error or self.request.error
        if not (self._added or self._removed or self._logged or error):
            return NO_EFFECTS
        return ChainEffects(self._added, self._removed, self._logged, error)

    def value(self, name: str) -> str:
        """
        Return the value of the variable *name*; "" if it is not set.
        """
        value = self.variables.get(name)
        return variable_reader(name)(self.request) if value is None else value

    def set(self, name: str, value: str, granted: bool) -> None:
        """
        Set the variable *name*.

        Args:
            name: of the variable.
            value: of it.
            granted: the client has inserted nothing.
        """
        self.variables = {**self.variables, name: value}
        self.granted = self.granted | {name} if granted else self.granted - {name}

    def add_header(self, name: str, value: str) -> None:
        """
        Send a header with the response.
        """
        try:
            self._added = (*self._added, (name, header_value(value)))
        except HttpError as error:
            self._error = error

    def remove_headers(self, names: Collection[str]) -> None:
        """
        Do not send the headers with *names*, in lower case, of the response.
        """
        self._removed |= frozenset(names)

    def log(self, line: str) -> None:
        """
        Write a line to the log.
        """
        self._logged = (*self._logged, printable(line[:MAX_LOG]))


class ChainStep(Protocol):
    """
    What a line does that is not an action.
    """

    def apply(self, run: ChainRun, groups: Groups) -> None:
        """
        Do it for the request of *run*; `$1` and so on are *groups*.
        """


@dataclass(frozen=True, slots=True)
class AddVariable:
    """
    The step `addvar:NAME=TEXT`.

    Args:
        name: NAME.
        text: TEXT.
    """

    name: str
    text: VariableText

    def apply(self, run: ChainRun, groups: Groups) -> None:
        run.set(self.name, self.text.expand(run.value, groups), self.text.is_fixed(run.granted))


@dataclass(frozen=True, slots=True)
class AddHeader:
    """
    The step `addheader:NAME: TEXT`.

    Args:
        name: NAME.
        text: TEXT.
    """

    name: str
    text: VariableText

    def apply(self, run: ChainRun, groups: Groups) -> None:
        run.add_header(self.name, self.text.expand(run.value, groups))


@dataclass(frozen=True, slots=True)
class RemoveHeader:
    """
    The step `delheader:NAME`.

    Args:
        name: NAME in lower case.
    """

    name: str

    def apply(self, run: ChainRun, groups: Groups) -> None:
        run.remove_headers((self.name,))


@dataclass(frozen=True, slots=True)
class LogLine:
    """
    The step `log:TEXT`.

    Args:
        text: TEXT.
    """

    text: VariableText

    def apply(self, run: ChainRun, groups: Groups) -> None:
        run.log(self.text.expand(run.value, groups))
