"""
What the lines of a route chain do to a response, beside choosing its action.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from twisted.logger import Logger

from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header, HttpError

_log = Logger()

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ChainEffects:
    """
    Headers and log lines of one request.

    Args:
        added: headers that are sent with the response.
        removed: the lower-case names of headers that are not.
        logged: lines for the log.
        error: why the lines cannot be applied to this request; None if they can.
    """

    added: tuple[Header, ...] = ()
    removed: frozenset[str] = frozenset()
    logged: tuple[str, ...] = ()
    error: HttpError | None = None

    def apply(self, exchange: IExchange) -> None:
        """
        Write the log lines, and change the headers that *exchange* will be answered with.

        Raises:
            HttpError: 400, the request has what cannot be in a header, or too many fields.
        """
        if self is NO_EFFECTS:
            return
        self.log()
        if self.error is not None:
            raise self.error
        for name in self.removed:
            exchange.remove_header(name)
        for name, value in self.added:
            exchange.add_header(name, value)

    def log(self) -> None:
        """
        Write the log lines.
        """
        for line in self.logged:
            _log.info("route: {line}", line=line)

    def edit(self, headers: Iterable[Header]) -> list[Header]:
        """
        Return *headers* without those that are removed, and with those that are added.
        """
        kept = [each for each in headers if each[0].lower() not in self.removed]
        return [*kept, *self.added]


NO_EFFECTS = ChainEffects()


def printable(text: str) -> str:
    """
    Return *text* with control characters escaped, for one line of a log.
    """
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def header_value(text: str) -> str:
    """
    Return *text* as the value of a header: octets as ISO 8859-1, other characters as UTF-8.

    Raises:
        HttpError: 400, it has control characters.
    """
    if _CONTROL.search(text):
        raise HttpError(400, "a control character cannot be in a header")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode("latin-1")
    return text
