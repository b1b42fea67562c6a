"""
Revoked tokens: which they are, for how long, and what nodes exchange.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.access.grants import Grant
from rt_twisted.access.revocations import (
    LONGEST,
    MAX_REVOCATIONS,
    Revocation,
    Revocations,
    read_revocations,
)
from rt_twisted.model.errors import HttpError

NOW = 1_000_000.0


def token(**claims: Any) -> Grant:
    return Grant(**{"subject": "mia", "verified_by": "key", **claims})


class Node:
    """
    The revocations of a node at a time that the test sets.
    """

    def __init__(self) -> None:
        self.now = NOW
        self.revocations = Revocations(lambda: self.now)

    def status(self, grant: Grant) -> int:
        try:
            self.revocations.check(grant)
        except HttpError as error:
            return error.status
        return 200

    def revoke(self, **fields: Any) -> None:
        fields = {"until": self.now + 3600, "changed": self.now, **fields}
        self.revocations.merge([Revocation(**fields)])


def test_one_token() -> None:
    """
    By its `jti`, until it has expired.
    """
    node = Node()
    node.revoke(jti="a")
    assert node.status(token(token_id="a")) == 401
    assert node.status(token(token_id="b")) == 200
    assert node.status(token()) == 200
    node.now += 3600
    assert node.status(token(token_id="a")) == 200
    assert len(node.revocations) == 0


def test_all_tokens_of_a_client() -> None:
    """
    Those that were made before a time, and those that do not say when they were.
    """
    node = Node()
    node.revoke(sub="mia", before=NOW)
    assert node.status(token(issued=NOW - 1)) == 401
    assert node.status(token()) == 401
    assert node.status(token(issued=NOW)) == 200
    assert node.status(token(subject="eve")) == 200
    assert node.status(Grant("mia")) == 200  # the application has decided now


def test_tokens_wait_until_the_revocations_are_known() -> None:
    """
    503 on a node that starts.
    """
    node = Node()
    node.revocations.ready = False
    assert node.status(token()) == 503


def test_nodes_exchange_entries() -> None:
    """
    Whatever the order, all have the same; of two entries the later one counts.
    """
    one, other = Node(), Node()
    one.revoke(jti="a")
    other.revoke(jti="b")
    other.now += 1
    other.revoke(jti="a", removed=True)
    first, second = one.revocations.encode(), other.revocations.encode()
    changed = one.revocations.merge(read_revocations(second))
    assert {entry.jti for entry in changed} == {"a", "b"}
    assert other.revocations.merge(read_revocations(first)) == []
    assert [entry.jti for entry in one.revocations.current()] == ["b"]
    assert one.revocations.current() == other.revocations.current()


def test_the_last_act_counts_whatever_the_clocks_are() -> None:
    """
    An act of a node whose clock is behind, or in the same moment, is not ignored.
    """
    node = Node()
    node.revoke(jti="a", changed=NOW + 30)
    revocations = node.revocations
    undone = Revocation(jti="a", until=NOW + 60, changed=NOW, removed=True)
    assert revocations.merge([undone]) == []
    assert revocations.merge([revocations.supersede(undone)])
    assert node.status(token(token_id="a")) == 200
    again = revocations.supersede(Revocation(jti="a", until=NOW + 60, changed=NOW))
    assert revocations.merge([again])
    assert node.status(token(token_id="a")) == 401


def test_who_has_the_latest_entries() -> None:
    """
    Those that are missing elsewhere, or are older there; what is over does not count.
    """
    one, other = Node(), Node()
    one.revoke(jti="a")
    known = read_revocations(one.revocations.encode())
    assert one.revocations.is_ahead_of([]) and not one.revocations.is_ahead_of(known)
    assert not other.revocations.is_ahead_of(known)
    one.now += 1
    one.revoke(jti="a", removed=True)
    assert one.revocations.is_ahead_of(known)
    one.now += 3600
    assert not one.revocations.is_ahead_of([])


def test_entries_are_bounded() -> None:
    """
    A day at most, and a number of them; those that end first are forgotten.
    """
    node = Node()
    node.revoke(jti="long", until=NOW + LONGEST + 3600)
    assert len(node.revocations) == 0
    node.revocations.merge(
        Revocation(jti=str(number), until=NOW + 60 + number, changed=NOW)
        for number in range(MAX_REVOCATIONS + 5)
    )
    assert len(node.revocations) == MAX_REVOCATIONS
    assert node.status(token(token_id="0")) == 200
    assert node.status(token(token_id="5")) == 401


@pytest.mark.parametrize("data", [b"", b"{}", b"[7, {}]", b"[" * 100_000, b'[{"jti": 7}]'])
def test_malformed_entries_are_ignored(data: bytes) -> None:
    """
    Publishers that write to the broker itself cannot stop a node by them.
    """
    assert read_revocations(data) == []


@given(st.lists(st.dictionaries(
    st.sampled_from(["jti", "sub", "before", "until", "changed", "removed"]),
    st.none() | st.text() | st.floats() | st.booleans() | st.integers(),
)))  # fmt: skip
def test_any_entries(values: list[dict[str, Any]]) -> None:
    """
    Nothing is raised, and what is read can be merged.
    """
    Node().revocations.merge(read_revocations(json.dumps(values).encode()))
