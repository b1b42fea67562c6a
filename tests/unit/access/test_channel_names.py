"""
Rules for channel names.
"""

from __future__ import annotations

import pytest

from rt_twisted.model.errors import HttpError
from tests.defaults import make_channel_names


@pytest.mark.parametrize(
    "name", ["a", "a.b", "a/b:c", "gr\u00fcn", "x" * 200, "@", "1", "$1", "\u2028", "a'b\"<>"]
)
def test_valid_names(name: str) -> None:
    """
    Nearly every word is a valid name.
    """
    assert make_channel_names().check(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a,b", "a*", "a?", "[a]", "a\\b", "a\n", "\na", "a\0", "\x7f", "x" * 201],
)
def test_invalid_names(name: str) -> None:
    """
    Blanks, control characters, and what patterns and lists are made of are refused.
    """
    with pytest.raises(HttpError) as raised:
        make_channel_names().check(name)

    assert raised.value.status == 400
    assert len(raised.value.reason) < 300
    assert "\n" not in raised.value.reason


def test_a_configured_pattern() -> None:
    """
    A pattern of the settings replaces the default, and must match the whole name.
    """
    names = make_channel_names("[a-z]+", max_channels=2)

    assert names.check("abc") == "abc"
    for name in ("abc1", "1abc", "abc\n"):
        with pytest.raises(HttpError):
            names.check(name)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a"], ["a"]),
        (["b", "a", "b"], ["b", "a"]),
        ([], "no channel: ask for ?channels=NAME"),
        (["a", "b", "c"], "too many channels: 2 are allowed"),
        (["a", ""], "a channel cannot be called ''"),
    ],
)
def test_all_names_of_a_subscriber(names: list[str], found: list[str] | str) -> None:
    """
    The result has no repeats and is in order; none or too many are refused.
    """
    allowed = make_channel_names(max_channels=2)
    if isinstance(found, list):
        assert allowed.check_all(names) == found
        return
    with pytest.raises(HttpError) as raised:
        allowed.check_all(names)
    assert (raised.value.status, raised.value.reason) == (400, found)


def test_current_channels_count_and_are_not_checked_again() -> None:
    """
    Only channels that the subscriber does not have are returned; all of them count.
    """
    allowed = make_channel_names("[a-z]", max_channels=3)

    assert allowed.check_all(["b", "a", "b"], ("OLD", "a")) == ["b"]
    assert allowed.check_all(["a"], ("a", "OLD", "c")) == []
    with pytest.raises(HttpError, match="too many channels"):
        allowed.check_all(["d"], ("a", "b", "c"))
    with pytest.raises(HttpError, match="cannot be called"):
        allowed.check_all(["B"], ("a",))
