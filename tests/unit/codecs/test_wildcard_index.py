"""
The index of patterns.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.wildcard_index import WildcardIndex
from rt_twisted.codecs.wildcards import Wildcard

SHORT = st.text("ab.*", max_size=5)


@given(st.lists(SHORT), st.lists(SHORT), SHORT)
def test_it_finds_what_matches(added: list[str], removed: list[str], text: str) -> None:
    """
    The index finds the patterns that match a text, and no others, each once.
    """
    index = WildcardIndex()
    for source in added:
        index.add(Wildcard.of(source))
    for source in removed:
        index.discard(Wildcard.of(source))
    left = [Wildcard.of(source) for source in set(added) - set(removed)]

    found = index.matching(text)

    assert sorted(map(str, found)) == sorted(str(one) for one in left if one.matches(text))
    assert index.matches(text) is bool(found)
    assert bool(index) is bool(left)


def test_other_prefixes_are_not_matched() -> None:
    """
    A pattern costs nothing for texts that begin otherwise: 100,000 users have a pattern each.
    """
    index = WildcardIndex()
    for number in range(100_000):
        index.add(Wildcard.of(f"user-{number:05}.*"))

    tried = [
        pattern
        for length in index._lengths
        for pattern in index._by_prefix.get("user-01234.mail"[:length], ())
    ]

    assert index.matching("user-01234.mail") == tried == [Wildcard.of("user-01234.*")]
