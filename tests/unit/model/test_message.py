"""
Positions as readers send them back.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.model.message import LARGEST_OFFSET, NOWHERE, Position


@given(st.from_regex(r"[0-9a-z]{1,12}", fullmatch=True), st.integers(0, LARGEST_OFFSET))
def test_what_was_written_is_read(epoch: str, offset: int) -> None:
    """
    A cursor survives the way to the browser and back.
    """
    position = Position(epoch, offset)

    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "e.",
        ".7",
        "e7",
        "e.x",
        "e.-1",
        "e.+1",
        "e. 1",
        "e.1 ",
        "e.1.5x",
        "a b.1",
        "e\n.1",
        "e.\u0661",
        "e." + "9" * 20,
        "0f8fad5b-d9cb-469f-a165-70867728950e",
    ],
)
def test_anything_else_is_nowhere(text: str) -> None:
    """
    A foreign id, such as another server's, is a position no log knows.
    """
    assert Position.parse(text) == NOWHERE


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    """
    Whatever a client sends is a position or nowhere.
    """
    assert Position.parse(text).offset <= LARGEST_OFFSET


def test_positions_have_up_to_19_digits() -> None:
    """
    More are no position of ours; the largest ones are clamped.
    """
    assert Position.parse("e." + "9" * 19) == Position("e", LARGEST_OFFSET)
    for text in (
        "e" + "." + "1" * 20,
        "e." + "0" * 20,
        "e.1x",
        ".1",
        "e!.1",
        "e.\u00b2",
        "e.",
        "1",
    ):
        assert Position.parse(text) == NOWHERE, text
