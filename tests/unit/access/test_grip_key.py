"""
The key of GRIP: what applications verify, and what they sign.
"""

from __future__ import annotations

import time
from base64 import b64encode

import jwt
import pytest

from rt_twisted.access.grip_key import GripKey
from rt_twisted.model.errors import HttpError

SECRET = "s" * 32
OTHER = "o" * 32


def _bearer(claims: dict[str, object], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return f"Bearer {jwt.encode(claims, secret, algorithm)}"


def test_requests_are_signed_and_say_what_is_supported() -> None:
    """
    An application verifies `Grip-Sig` by the shared key; it has an issuer and an end.
    """
    headers = dict(GripKey.of(SECRET, "shop").request_headers())

    claims = jwt.decode(headers["Grip-Sig"], SECRET, ["HS256"])
    assert claims["iss"] == "shop"
    assert 3500 < claims["exp"] - time.time() <= 3600
    assert headers["Grip-Feature"] == "status"


def test_signature_is_renewed_before_it_ends() -> None:
    """
    A signature is used for ten minutes, and never near its end.
    """
    now = 1000.0
    key = GripKey.of(SECRET)
    key.now = lambda: now
    first = key.request_headers()

    now += 599
    assert key.request_headers() is first
    now += 1
    assert key.request_headers() != first


def test_key_in_base64() -> None:
    """
    A key may be written as in a GRIP_URL.
    """
    coded = b64encode(SECRET.encode()).decode()

    assert GripKey.of(f"base64:{coded}") == GripKey.of(SECRET)
    assert GripKey.of(SECRET) != GripKey.of(OTHER)
    assert hash(GripKey.of(SECRET)) == hash(GripKey.of(SECRET))
    assert SECRET not in repr(GripKey.of(SECRET))


@pytest.mark.parametrize("text", ["changeme", "base64:?", "base64:Y2hhbmdlbWU="])
def test_key_that_is_too_short_is_refused(text: str) -> None:
    """
    Pushpin's example key is an error at start.
    """
    with pytest.raises(ValueError):
        GripKey.of(text)


def test_publisher_with_a_token_of_the_key() -> None:
    """
    gripcontrol and @fanoutio/grip sign each request with the shared key.
    """
    GripKey.of(SECRET).check_publisher(_bearer({"iss": "app", "exp": time.time() + 60}))


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic dTpw",
        "Bearer",
        "Bearer x",
        f"Bearer {SECRET}",
        "Bearer " + "x" * 9000,
        "Bearer \u00fc",
        _bearer({"exp": 4e9}, OTHER),
        _bearer({"exp": 4e9}, OTHER * 2, "HS512"),
        _bearer({"iss": "app"}),
        _bearer({"exp": 1}),
        _bearer({"exp": "4000000000"}),
        _bearer({"exp": 4e9, "nbf": 3.9e9}),
        _bearer({"exp": True}),
    ],
)
def test_publisher_without_a_valid_token(authorization: str | None) -> None:
    """
    A request without a token, or with one that is not signed by the key or has ended, is
    refused, and the reason does not have the key.
    """
    with pytest.raises(HttpError) as error:
        GripKey.of(SECRET).check_publisher(authorization)
    assert error.value.status == 401
    assert SECRET not in error.value.reason
