"""
Positions, as clients send them back.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.model.message import MAX_OFFSET, NOWHERE, Mark, Message, Position


@given(st.from_regex(r"[0-9a-z]{1,12}", fullmatch=True), st.integers(0, MAX_OFFSET))
def test_a_position_survives_a_round_trip(epoch: str, offset: int) -> None:
    """
    The text of a position parses to the same position.
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
    A foreign id, such as one of another server, is a position of no log.
    """
    assert Position.parse(text) == NOWHERE


@given(st.text())
def test_any_text_can_be_parsed(text: str) -> None:
    """
    Any text that a client sends is a position or NOWHERE.
    """
    assert Position.parse(text).offset <= MAX_OFFSET


def test_positions_have_up_to_19_digits() -> None:
    """
    Text with more digits is not a position; the largest offsets are clamped.
    """
    assert Position.parse("e." + "9" * 19) == Position("e", MAX_OFFSET)
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


@pytest.mark.parametrize(
    ("event", "mark"),
    [
        (None, Mark.NONE),
        ("alarm", Mark.NONE),
        ("unit", Mark.NONE),
        ("unit/head", Mark.HEAD),
        ("unit/k 1 0 0 33367 0 0", Mark.UNIT),
        ("unit/d 1 33367 33367 33367 1 99", Mark.UNIT),
        ("unit/end", Mark.END),
    ],
)
def test_the_event_type_marks_messages_of_live_streams(event: str | None, mark: Mark) -> None:
    """
    Messages of live streams are ordinary messages; their event type has their kind.
    """
    assert Message("cam", b"", Position("e", 1), event).mark is mark


@pytest.mark.limit(120)
def test_the_type_check_refuses_changes_of_values(tmp_path: Path) -> None:
    """
    Values that are built for each message are immutable by their types: mypy refuses code that
    changes one, and nothing checks it when the code runs.
    """
    api = pytest.importorskip("mypy.api")
    code = tmp_path / "changes.py"
    code.write_text(
        "from rt_twisted.model.message import Draft, Message, Position, PublishResult\n"
        "def change(a: Position, b: Draft, c: PublishResult, d: Message) -> None:\n"
        "    a.offset = 1\n    b.data = b''\n    c.durable = False\n    d.position = a\n"
    )

    output, _, _ = api.run(
        [str(code), "--no-incremental", "--config-file=", "--follow-imports=silent"]
    )

    assert output.count("Cannot assign to final attribute") == 4, output


def test_equal_values_are_one_key() -> None:
    """
    Values compare by their fields, and can be keys.
    """
    message = Message("a", b"x", Position("e", 1))

    assert message == Message("a", b"x", Position("e", 1))
    assert message != Message("a", b"x", Position("e", 2))
    assert len({Position("e", 1), Position("e", 1), Position("f", 1)}) == 2
    assert len({message, Message("a", b"x", Position("e", 1))}) == 1
