"""
Lists of allowed origins.
"""

from __future__ import annotations

import pytest

from rt_twisted.codecs.origins import is_origin, matches_origin

SHOP = "https://*.shop.example"


@pytest.mark.parametrize(
    ("listed", "origin", "matches"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://b.example", False),
        ("https://a.example", "https://axexample", False),
        ("https://a.example", "https://a.example:8443", False),
        (SHOP, "https://www.shop.example", True),
        (SHOP, "https://a.b.shop.example", True),
        (SHOP, "https://xn--bcher-kva.shop.example", True),
        (SHOP, "https://shop.example", False),
        (SHOP, "https://.shop.example", False),
        (SHOP, "https://evil-shop.example", False),
        (SHOP, "https://evilshop.example", False),
        (SHOP, "https://a.shop.example.evil.example", False),
        (SHOP, "https://evil.example/.shop.example", False),
        (SHOP, "https://evil.example#.shop.example", False),
        (SHOP, "https://evil.example:1.shop.example", False),
        (SHOP, "https://user@a.shop.example", False),
        (SHOP, "https://a.shop.example\n", False),
        (SHOP, "http://a.shop.example", False),
        (SHOP, "https://a.shop.example:8443", False),
        (SHOP, SHOP, False),
        ("https://*.shop.example:8443", "https://a.shop.example:8443", True),
        ("https://*.shop.example:8443", "https://a.shop.example", False),
        ("http://*.localhost:3000", "http://app.localhost:3000", True),
        ("file://", "file://", True),
        ("file://", "file:///etc/passwd", False),
        ("file://", "null", False),
        ("null", "null", True),
        ("null", "file://", False),
        ("capacitor://localhost", "capacitor://localhost", True),
        ("", "https://a.example", False),
        ("", "", False),
        (f"https://a.example {SHOP} null", "https://b.shop.example", True),
    ],
)
def test_origins_match_exactly_or_by_subdomain(listed: str, origin: str, matches: bool) -> None:
    """
    An origin matches as it is written; `*.` matches subdomains at any depth and nothing
    else.
    """
    assert matches_origin(frozenset(listed.split()), origin) is matches


@pytest.mark.parametrize(
    "text",
    ["https://*.shop.example", "http://*.a.b:8080", "file://", "app://x", "https://a.example:1"],
)
def test_valid_entries_of_a_list(text: str) -> None:
    """
    Origins as browsers send them, and patterns for subdomains.
    """
    assert is_origin(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://*", "https://*.example", "https://*.com:1", "https://*shop.example",
        "https://a*.shop.example", "https://a.*.example",
        "https://*.*.example", "*://a.example", "*.shop.example", "https://*.", "file:", "file:///",
        "file://x/y", "https://a.example/", "https://A.example", "a.example", "https://", "**",
    ],
)  # fmt: skip
def test_invalid_entries_of_a_list(text: str) -> None:
    """
    Origins that no browser sends, and stars in other places.
    """
    assert not is_origin(text)


def test_a_long_origin_takes_linear_time() -> None:
    """
    The time to match any text is linear in its length.
    """
    origin = "https://" + "a." * 100_000 + "shop.exampl"
    assert not matches_origin(frozenset([SHOP, "https://*.a.a"]), origin)
