"""
URLs of servers that the daemon sends requests to.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.http_url import HttpUrl


@pytest.mark.parametrize(
    ("text", "url", "authority"),
    [
        ("http://a", HttpUrl("http", "a", 80, "", "/"), "a"),
        ("https://a.b:443/x?y=1", HttpUrl("https", "a.b", 443, "", "/x?y=1"), "a.b"),
        ("http://127.0.0.1:8000/", HttpUrl("http", "127.0.0.1", 8000, "", "/"), "127.0.0.1:8000"),
        ("http://[::1]:8000/a", HttpUrl("http", "::1", 8000, "", "/a"), "[::1]:8000"),
        ("http://unix:/run/a.sock:/b", HttpUrl("http", "", 0, "/run/a.sock", "/b"), "localhost"),
        ("http://unix:/run/a.sock", HttpUrl("http", "", 0, "/run/a.sock", "/"), "localhost"),
    ],
)
def test_urls(text: str, url: HttpUrl, authority: str) -> None:
    """
    Host and port, a unix socket, and what is requested there.
    """
    assert HttpUrl.parse(text) == url
    assert url.authority == authority
    assert HttpUrl.parse(str(url)) == url


@pytest.mark.parametrize(
    "text",
    ["", "a", "ftp://a/", "http://", "http://a:0/", "http://a:65536/", "http://a b/", "http://a/\r\n",
     "http://u:p@a/", "http://a/#x", "https://unix:/run/a.sock:/", "http://a/ä", "//a/"],
)  # fmt: skip
def test_wrong_urls(text: str) -> None:
    """
    Logins, fragments and other characters are not sent.
    """
    with pytest.raises(ValueError):
        HttpUrl.parse(text)


@given(st.text(max_size=60))
def test_any_text(text: str) -> None:
    """
    Only ValueError is raised.
    """
    with suppress(ValueError):
        HttpUrl.parse("http://" + text)
