"""
Titles and their blocks.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.media.icy import MAX_TITLE, clean_title, title_block


@pytest.mark.parametrize(
    ("sent", "charset", "title"),
    [
        ("Artist - Tïtle".encode(), "", "Artist - Tïtle"),
        ("Tïtle".encode("latin-1"), "", "Tïtle"),
        ("Tïtle".encode("latin-1"), "ISO-8859-1", "Tïtle"),
        ("Tïtle".encode(), "UTF-8", "Tïtle"),
        ("Кино".encode("koi8-r"), "koi8-r", "Кино"),
        ("Tïtle".encode(), "no such", "Tïtle"),
        ("Tïtle".encode(), "base64", "Tïtle"),
        ("Tïtle".encode(), "ï", "Tïtle"),
        (b"Ttle-nna", "punycode", "Ttle-nna"),  # needs quadratic time
        (b"xn--ttle-qpa", "IDNA", "xn--ttle-qpa"),
        (b"\\u0041", "unicode_escape", "\\u0041"),
        (b"a\r\nb\0c\x7f d", "", "a b c d"),
        (b"", "", ""),
    ],
)
def test_titles_are_text(sent: bytes, charset: str, title: str) -> None:
    """
    Character sets are as named, else UTF-8, else Latin-1; control characters are blanks.
    """
    assert clean_title(sent, charset) == title


def test_blocks() -> None:
    """
    The first byte counts groups of 16 bytes.
    """
    assert title_block("") == b"\x01StreamTitle='';\0"
    assert title_block("a' b") == b"\x02StreamTitle='a' b';" + bytes(13)
    assert title_block("ï", "iso8859-1") == b"\x01StreamTitle='\xef';"
    assert b"';" not in title_block("a';StreamUrl='x")[:-10]


@given(st.binary(max_size=9000), st.sampled_from(["utf-8", "iso8859-1", "utf-16", "big5"]))
def test_any_title_fits(sent: bytes, charset: str) -> None:
    """
    A block is as long as its first byte says, whatever the title.
    """
    title = clean_title(sent)
    assert len(title.encode()) <= MAX_TITLE
    assert title.isprintable() or not title.isascii()

    block = title_block(title, charset)

    assert len(block) == 1 + block[0] * 16
