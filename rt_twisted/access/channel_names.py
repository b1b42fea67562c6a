"""
Rules for channel names and patterns: which are valid, and how many one subscriber may have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import is_unnamable

MAX_PATTERNS = 16  # of one route line, and of one subscriber
MAX_PATTERN = 200  # characters of a pattern
MAX_STARS = 8  # of a pattern: redis' own matching takes longer with each

_Name = TypeVar("_Name", str, Selector)


class ChannelNames:
    """
    Checks channel names that clients send, and the patterns of route lines.

    Args:
        pattern: a regular expression for the whole name.
        max_channels: of one subscriber.
        check_broker: raises `HttpError` for a name or pattern that the broker cannot
            carry; None if it carries all.
    """

    def __init__(
        self,
        pattern: str,
        max_channels: int,
        check_broker: Callable[[Selector], None] | None = None,
    ) -> None:
        self._pattern = re.compile(pattern)
        self._max_channels = max_channels
        self._check_broker = check_broker

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChannelNames) and self._rules == other._rules

    def __hash__(self) -> int:
        return hash(self._rules)

    @property
    def _rules(self) -> tuple[object, ...]:
        return self._pattern, self._max_channels, self._check_broker

    @property
    def pattern(self) -> str:
        """
        Return the regular expression of a whole name.
        """
        return self._pattern.pattern

    def with_broker(self, check_broker: Callable[[Selector], None]) -> ChannelNames:
        """
        Return the same rules with those of another broker.
        """
        return ChannelNames(self._pattern.pattern, self._max_channels, check_broker)

    def check(self, name: _Name) -> _Name:
        """
        Return *name* if it is valid.

        Patterns are written in route lines, so they are bounded only.

        Raises:
            HttpError: 400, it is not.
        """
        if isinstance(name, Wildcard):
            _check_pattern(name.source)
        elif (
            not self._pattern.fullmatch(name)
            or not (name.isascii() or _is_unicode(name))
            or is_unnamable(name)
        ):
            raise HttpError(400, f"a channel cannot be called {name[:100]!r}")
        if self._check_broker is not None:
            self._check_broker(name)
        return name

    def check_all(self, names: Iterable[_Name], current: Collection[_Name] = ()) -> list[_Name]:
        """
        Return those of *names* that a subscriber does not have yet, in order and
        without repeats.

        Args:
            names: the channels that it requests.
            current: the channels that it has: distinct, and checked before. They
                count for the limit.

        Raises:
            HttpError: 400, a name is not valid, there is none, or there are too many.
        """
        distinct = list(dict.fromkeys(names))
        if current:
            known = frozenset(current)
            distinct = [name for name in distinct if name not in known]
        elif not distinct:
            raise HttpError(400, "no channel: ask for ?channels=NAME")
        if len(current) + len(distinct) > self._max_channels:
            raise HttpError(400, f"too many channels: {self._max_channels} are allowed")
        if len(distinct) > MAX_PATTERNS:
            patterns = [name for name in distinct if isinstance(name, Wildcard)]
            if len(patterns) > MAX_PATTERNS:
                raise HttpError(400, f"too many patterns: {MAX_PATTERNS} are allowed")
        for name in distinct:
            self.check(name)
        return distinct


def _check_pattern(source: str) -> None:
    if len(source) > MAX_PATTERN or not _is_unicode(source):
        raise HttpError(400, f"a pattern has up to {MAX_PATTERN} characters: {source[:100]!r}")
    if source.count("*") > MAX_STARS:
        raise HttpError(400, f"a pattern has up to {MAX_STARS} stars: {source!r}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, from bytes of a URL that are not UTF-8
        return False
    return True
