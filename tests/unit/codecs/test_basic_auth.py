"""
Passwords in `Authorization: Basic`.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.basic_auth import basic_password


@pytest.mark.parametrize(
    ("header", "password"),
    [
        ("Basic c291cmNlOmhhY2ttZQ==", b"hackme"),
        ("basic  c291cmNlOmhhY2ttZQ== ", b"hackme"),
        ("Basic OmE6Yg==", b"a:b"),
        ("Basic dTo=", b""),
        ("Basic dTrDpA==", "ä".encode()),
        ("Basic dXNlcg==", None),  # no colon
        ("Basic c291cmNlOmhhY2ttZQ", None),  # no padding
        ("Basic !", None),
        ("Basic ä", None),
        ("Basic", None),
        ("Bearer c291cmNlOmhhY2ttZQ==", None),
        ("", None),
        (None, None),
    ],
)
def test_the_password_is_found(header: str | None, password: bytes | None) -> None:
    """
    The password is what follows the first colon; malformed credentials are none.
    """
    assert basic_password(header) == password


@given(st.text())
def test_any_text_is_accepted(text: str) -> None:
    """
    Credentials that are not Base64 raise nothing.
    """
    basic_password("Basic " + text)
