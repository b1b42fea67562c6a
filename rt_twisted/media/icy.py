"""
Titles, and the blocks by which they reach listeners between the bytes of the audio.

The protocol is SHOUTcast's, and has no specification: after each METAINT bytes of audio
comes one byte n, then n * 16 bytes of text, padded with zeros.
"""

from __future__ import annotations

import codecs
from functools import lru_cache

METAINT = 16_000  # bytes of audio between two blocks, as icecast2 has it
MAX_TITLE = 4080 - len("StreamTitle='';")  # bytes, as n is one byte

# Codecs of Python that are not character sets; the first two need quadratic time.
_NO_CHARSETS = ("punycode", "idna", "unicode-escape", "raw-unicode-escape")
_CONTROLS = dict.fromkeys([*range(32), 127, *range(128, 160)], " ")


def clean_title(title: bytes, charset: str = "") -> str:
    """
    Return the text of a title without control characters, at most MAX_TITLE bytes of UTF-8.

    Args:
        title: as the source or a script sent it.
        charset: that it named; without one, or with an unknown one, the title is UTF-8, or
            Latin-1 if it is not valid UTF-8.
    """
    text = _decode(title, charset)
    text = " ".join(text.translate(_CONTROLS).split())
    return text.encode(errors="replace")[:MAX_TITLE].decode(errors="ignore")


def _decode(title: bytes, charset: str) -> str:
    for encoding in (charset, "utf-8") if charset.isascii() else ("utf-8",):
        if encoding:
            try:
                if codecs.lookup(encoding).name not in _NO_CHARSETS:
                    return title.decode(encoding)
            except (LookupError, ValueError):
                continue
    return title.decode("latin-1")


@lru_cache(maxsize=256)
def title_block(title: str, charset: str = "utf-8") -> bytes:
    """
    Return the block that shows *title*.

    Args:
        title: from `clean_title`; "" for none.
        charset: of the listeners; characters that it lacks become question marks.
    """
    # Players end the title at the first quote with a semicolon; there is no escape.
    text = title.replace("';", "' ;").encode(charset, "replace")
    if len(text) > MAX_TITLE:
        text = text[:MAX_TITLE].decode(charset, "ignore").encode(charset)
    block = b"StreamTitle='%s';" % text
    count = -(-len(block) // 16)
    return bytes([count]) + block.ljust(count * 16, b"\0")
