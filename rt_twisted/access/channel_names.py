"""
Rules for channel names: which are valid, and how many one subscriber may have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable

from rt_twisted.model.errors import HttpError


class ChannelNames:
    """
    Checks channel names that clients send.

    Args:
        pattern: a regular expression for the whole name.
        max_channels: of one subscriber.
        check_broker: raises `HttpError` for a name that the broker cannot carry; None
            if it carries every name.
    """

    def __init__(
        self,
        pattern: str,
        max_channels: int,
        check_broker: Callable[[str], None] | None = None,
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

    def with_broker(self, check_broker: Callable[[str], None]) -> ChannelNames:
        """
        Return the same rules with those of another broker.
        """
        return ChannelNames(self._pattern.pattern, self._max_channels, check_broker)

    def check(self, name: str) -> str:
        """
        Return *name* if it is valid.

        Raises:
            HttpError: 400, it is not.
        """
        if not self._pattern.fullmatch(name) or not _is_unicode(name):
            raise HttpError(400, f"a channel cannot be called {name[:100]!r}")
        if self._check_broker is not None:
            self._check_broker(name)
        return name

    def check_all(self, names: Iterable[str], current: Collection[str] = ()) -> list[str]:
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
        for name in distinct:
            self.check(name)
        return distinct


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, from bytes of a URL that are not UTF-8
        return False
    return True
