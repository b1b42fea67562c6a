"""
Finds the patterns that match a text, among many patterns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

from rt_twisted.codecs.wildcards import Wildcard


class WildcardIndex:
    """
    Patterns by the text before their first star.

    A text is matched against the patterns with one of its own prefixes only. So a lookup
    costs a step for each distinct length of these prefixes, and a match for each pattern
    with such a prefix; not one for each pattern.
    """

    __slots__ = ("_by_prefix", "_lengths")

    def __init__(self) -> None:
        self._by_prefix: dict[str, dict[Wildcard, None]] = {}
        self._lengths: Counter[int] = Counter()  # of prefixes: how many there are

    def __bool__(self) -> bool:
        """
        Return whether there is a pattern.
        """
        return bool(self._by_prefix)

    def __iter__(self) -> Iterator[Wildcard]:
        """
        Iterate over all patterns.
        """
        return chain.from_iterable(self._by_prefix.values())

    def add(self, pattern: Wildcard) -> None:
        """
        Add *pattern*; adding it twice is the same as once.
        """
        prefix = pattern.prefix
        if prefix not in self._by_prefix:
            self._by_prefix[prefix] = {}
            self._lengths[len(prefix)] += 1
        self._by_prefix[prefix][pattern] = None

    def discard(self, pattern: Wildcard) -> None:
        """
        Remove *pattern*, if it is there.
        """
        prefix = pattern.prefix
        found = self._by_prefix.get(prefix, {})
        found.pop(pattern, None)
        if not found and self._by_prefix.pop(prefix, None) is not None:
            self._lengths[len(prefix)] -= 1
            if not self._lengths[len(prefix)]:
                del self._lengths[len(prefix)]

    def matching(self, text: str) -> list[Wildcard]:
        """
        Return the patterns that match *text*.
        """
        return [
            pattern
            for length in self._lengths
            if length <= len(text)
            for pattern in self._by_prefix.get(text[:length], ())
            if pattern.matches(text)
        ]

    def matches(self, text: str) -> bool:
        """
        Return whether a pattern matches *text*.
        """
        return bool(self._by_prefix) and bool(self.matching(text))
