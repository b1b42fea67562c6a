"""
Publish keys in `Sec-WebSocket-Protocol`, the only header that a page can set.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import Error

KEY_PREFIX = "key."  # of a subprotocol that contains a publish key
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


def offered_key(offer: str | None) -> bytes | None:
    """
    Return the publish key in `Sec-WebSocket-Protocol`, the only header that a page can set.

    The key is offered as a subprotocol: `key.` and the key in base64url without padding (RFC 4648,
    section 5).

    Returns:
        None without a key, or if it is malformed, which `negotiate` refuses.
    """
    if not offer or KEY_PREFIX not in offer:
        return None
    for name in split_list(offer):
        if name.startswith(KEY_PREFIX):
            return read_key(name)
    return None


def read_key(name: str) -> bytes | None:
    """
    Return the key in the subprotocol *name*, which begins with KEY_PREFIX; None if malformed.
    """
    text = name.removeprefix(KEY_PREFIX)
    if not _BASE64URL.fullmatch(text):
        return None
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except Error:
        return None


def split_list(value: str | None) -> list[str]:
    """
    Return the entries of a header that is a list (RFC 9110, 5.6.1).
    """
    return [item.strip() for item in (value or "").split(",")]
