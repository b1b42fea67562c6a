"""
Wildcard patterns of settings.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.wildcards import Wildcard


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "any\nthing", True),
        ("**", "", True),
        ("news", "news", True),
        ("news", "newsx", False),
        ("order-*", "order-", True),
        ("order-*", "order", False),
        ("*-news", "x-news", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("ab*bc", "abc", False),
        ("*ab*ab*", "abab", True),
        ("*ab*ab*", "abb", False),
        ("a*b*c", "abcbc", True),
        ("a*bc*c", "abc", False),
        ("[a-c].+", "b.x", False),
        ("[a-c].+", "[a-c].+", True),
        ("ü*\U0001f600", "üx\U0001f600", True),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, text: str, matches: bool) -> None:
    """
    A star matches nothing, one or many characters; all else matches itself.
    """
    assert Wildcard.of(pattern).matches(text) is matches


@given(st.text("ab*", max_size=8), st.text("ab\n", max_size=12))
def test_result_equals_a_regular_expression(pattern: str, text: str) -> None:
    """
    The result is that of `.*` for each star.
    """
    expression = ".*".join(map(re.escape, pattern.split("*")))

    found = re.fullmatch(expression, text, re.DOTALL)

    assert Wildcard.of(pattern).matches(text) is (found is not None)


def test_pieces_are_searched_once_and_forwards() -> None:
    """
    The matcher never goes back: it searches once for each piece.
    """

    class Text(str):
        searches: list[int] = []

        def find(self, *arguments: Any) -> int:
            self.searches.append(arguments[1])
            return super().find(*arguments)

    text = Text("-" * 10_000)

    assert not Wildcard.of("*-*-*-*-*-*x-*-*").matches(text)
    assert len(text.searches) <= 8
    assert text.searches == sorted(text.searches)


def test_patterns_compare_by_their_source() -> None:
    """
    A reload detects a changed pattern.
    """
    assert Wildcard.of("a*b") == Wildcard.of("a*b")
    assert Wildcard.of("a*b") != Wildcard.of("a*b*")
