"""
Headers of W3C Trace Context that are passed on.
"""

from __future__ import annotations

import pytest

from rt_twisted.codecs.trace_context import MAX_STATE, trace_headers

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_they_are_passed_on_unchanged() -> None:
    """
    Also those of later versions of the standard, with fields that are not known yet.
    """
    later = f"cc{PARENT[2:]}-what-the-future-will-be-like"
    assert trace_headers(PARENT, None) == (("traceparent", PARENT),)
    assert trace_headers(later, "") == (("traceparent", later),)
    both = (("traceparent", PARENT), ("tracestate", "a=1, b=2"))
    assert trace_headers(PARENT, "a=1, b=2") == both


@pytest.mark.parametrize(
    "parent",
    [None, "", PARENT[:-1], f"{PARENT}x", f" {PARENT}", f"cc{PARENT[2:]}-\t", f"cc{PARENT[2:]}-é"],
)
def test_a_malformed_parent(parent: str | None) -> None:
    """
    Nothing is passed on.
    """
    assert trace_headers(parent, "a=1") == ()


@pytest.mark.parametrize("state", ["a=\r\nX: y", "a=é", "a" * (MAX_STATE + 1)])
def test_a_malformed_state(state: str) -> None:
    """
    The parent is passed on without it.
    """
    assert trace_headers(PARENT, state) == (("traceparent", PARENT),)
