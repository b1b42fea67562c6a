"""
Wildcard patterns, in which `*` stands for any characters.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Wildcard:
    """
    A parsed pattern; compares by its source.

    A regular expression with several `.*` backtracks: its time grows with a power of the
    text's length. This matcher does not, so it is safe for text that clients send.

    Args:
        source: the pattern as it was written.
        pieces: the text between the stars; one piece if there is no star.
    """

    source: str
    pieces: tuple[str, ...] = field(compare=False)

    @classmethod
    def of(cls, source: str) -> Wildcard:
        """
        Parse *source*. Only `*` is special; it cannot be escaped.
        """
        first, *others = source.split("*")
        if not others:
            return cls(source, (first,))
        middle = (piece for piece in others[:-1] if piece)
        return cls(source, (first, *middle, others[-1]))

    def __str__(self) -> str:
        return self.source

    @property
    def prefix(self) -> str:
        """
        Return the text before the first star, with which all matching texts begin.
        """
        return self.pieces[0]

    def matches(self, text: str) -> bool:
        """
        Return whether the pattern matches the whole of *text*, in linear time.

        Each piece is searched from the end of the piece before it, and its first
        occurrence is used. A later one could only leave less room for the other pieces,
        so the search never goes back.
        """
        first = self.pieces[0]
        if len(self.pieces) == 1:
            return text == first
        last = self.pieces[-1]
        at, end = len(first), len(text) - len(last)
        if at > end or not text.startswith(first) or not text.endswith(last):
            return False
        for piece in self.pieces[1:-1]:
            found = text.find(piece, at, end)
            if found < 0:
                return False
            at = found + len(piece)
        return True


Selector = str | Wildcard  # what a subscriber names: one channel, or a pattern of channels
