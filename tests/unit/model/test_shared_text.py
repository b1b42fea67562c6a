"""
Texts that many connections have.
"""

from __future__ import annotations

from rt_twisted.model.shared_text import MAX_LENGTH, MAX_TEXTS, share_text


def copy(text: str) -> str:
    """
    Return an equal text that is another object.
    """
    return "".join([*text])


def test_equal_texts_are_one_object() -> None:
    """
    Long texts are returned as they are.
    """
    agent = copy("Mozilla/5.0")
    assert share_text(agent) is share_text(copy(agent))

    long = "x" * (MAX_LENGTH + 1)
    again = copy(long)
    assert share_text(long) is long
    assert share_text(again) is again


def test_clients_with_ever_other_texts_do_not_fill_the_memory() -> None:
    """
    A text that was not passed for long is forgotten.
    """
    share_text(copy("the first"))
    for number in range(MAX_TEXTS):
        share_text(f"agent {number}")
    again = copy("the first")

    assert share_text(again) is again
