"""
Grants: what the claims of a token permit.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

from rt_twisted.access.grants import ANYONE, Grant, GrantError, read_grant
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.errors import HttpError


def test_absent_claims_grant_nothing() -> None:
    """
    A token without channels and patterns says who the client is, and permits nothing.
    """
    grant = read_grant({"sub": "mia", "exp": 2000})

    assert grant.subject == "mia"
    assert not grant.covers("news")
    assert not grant.permits("news")


def test_claims_are_read() -> None:
    """
    Each claim has its field.
    """
    claims = {
        "sub": "mia",
        "channels": ["news"],
        "subscribe": ["room-*"],
        "publish": ["room-7", "chat-*"],
        "nbf": 1000,
        "exp": 2000.5,
        "jti": "t1",
        "info": {"name": "Mia"},
    }

    grant = read_grant(claims)

    assert (grant.not_before, grant.expires) == (1000.0, 2000.5)
    assert (grant.token_id, grant.info) == ("t1", '{"name":"Mia"}')
    assert [grant.covers(name) for name in ("news", "room-7", "chat-1")] == [True, True, False]
    assert [grant.permits(name) for name in ("news", "room-7", "chat-1")] == [False, True, True]


def test_numbers_are_subjects_too() -> None:
    """
    Some libraries write `sub` and `jti` as numbers.
    """
    grant = read_grant({"sub": 7, "jti": 12})

    assert (grant.subject, grant.token_id, grant.value("sub")) == ("7", "12", "7")


def test_one_name_needs_no_list() -> None:
    """
    A text is a list of one.
    """
    assert read_grant({"channels": "news"}).channels == ("news",)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": "2000"},
        {"exp": True},
        {"exp": 1e308},
        {"exp": math.nan},
        {"exp": -1},
        {"exp": 10**400},
        {"nbf": "now"},
        {"nbf": [1]},
        {"sub": ["mia"]},
        {"sub": "m" * 201},
        {"jti": {}},
        {"channels": {"news": 1}},
        {"channels": [7]},
        {"channels": [""]},
        {"subscribe": ["a"] * 1001},
        {"publish": ["a" * 201]},
        {"info": "x" * 2049},
    ],
)
def test_malformed_claims_are_refused(claims: dict[str, Any]) -> None:
    """
    A claim of another type or size is an error, and never read as something else.
    """
    with pytest.raises(GrantError):
        read_grant(claims)


def test_uncovered_channel_is_refused() -> None:
    """
    The reason names the channel.
    """
    with pytest.raises(HttpError, match="does not cover channel 'secret'") as refused:
        Grant(channels=("news",)).check_subscribe("secret")
    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("granted", "requested", "covered"),
    [
        ("room-*", "room-7-*", True),
        ("*", "*", True),
        ("room-7-*", "room-*", False),
        ("room-7", "room-*", False),
        ("a*z", "a*b*z", True),
    ],
)
def test_patterns_are_covered_by_wider_ones(granted: str, requested: str, covered: bool) -> None:
    """
    A pattern that could match more than the grant does is not covered.
    """
    grant = Grant(subscribe=(Wildcard.of(granted),), channels=("room-*",))

    assert grant.covers(Wildcard.of(requested)) is covered


@pytest.mark.parametrize("name", ["tenant", "exp", "list", "empty"])
def test_missing_value_is_refused(name: str) -> None:
    """
    A claim that is missing, or is no text, never becomes an empty part of a channel's name.
    """
    grant = read_grant({"sub": "mia", "exp": 1.5, "list": ["a"], "empty": ""})

    with pytest.raises(HttpError) as refused:
        grant.value(name)
    assert refused.value.status == 403


def test_validity_has_two_ends() -> None:
    """
    A grant is valid from `nbf` until `exp`, each with the leeway.
    """
    grant = Grant(not_before=100, expires=200)

    assert [grant.is_valid_at(now, 10) for now in (89, 90, 209, 210)] == [False, True, True, False]


def test_anyone_may_subscribe_and_not_publish() -> None:
    """
    Publishing needs a key or a grant in any case.
    """
    assert ANYONE.covers("any channel")
    assert not ANYONE.permits("any channel")
