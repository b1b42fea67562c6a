"""
What clients accept, and what they have already.
"""

from __future__ import annotations

import pytest

from rt_twisted.codecs.negotiation import accepts_gzip, has_tag


@pytest.mark.parametrize(
    ("header", "accepts"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, GZIP ; q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("gzipped", False),
        ("gzip;q=x", False),
        (",;=" * 10000, False),
    ],
)
def test_accept_encoding(header: str | None, accepts: bool) -> None:
    """
    RFC 9110, 12.5.3.
    """
    assert accepts_gzip(header) is accepts


@pytest.mark.parametrize(
    ("header", "has"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"x", "b"', True),
        ("*", True),
        (None, False),
        ("", False),
        ('"c"', False),
        ("a", False),
        ('"' * 10000, False),
    ],
)
def test_if_none_match(header: str | None, has: bool) -> None:
    """
    RFC 9110, 13.1.2.
    """
    assert has_tag(header, '"a"', '"b"') is has
