"""
Whose member has to go when a bounded resource is used up.
"""

from __future__ import annotations

import random

from rt_twisted.actions.engineio.shares import Shares


def test_an_address_takes_from_itself() -> None:
    """
    The oldest member of the address that has most is named; one that was added
    again is the newest.
    """
    shares: Shares[str] = Shares()
    assert shares.largest() is None
    for member in ("a1", "b1", "a2", "a3", "b2"):
        shares.add(member, member[0])
    assert shares.largest() == "a1"

    shares.add("a1", "a")
    assert shares.largest() == "a2"
    assert (shares.oldest("a", 2), shares.oldest("a", 3), shares.oldest("c", 0)) == (
        "a2",
        None,
        None,
    )

    for member in ("a2", "a3", "a1", "a1"):
        shares.discard(member)
    assert shares.largest() == "b1"
    assert ("a1" in shares, "b1" in shares, len(shares)) == (False, True, 2)


def test_any_order_of_changes() -> None:
    """
    The bookkeeping agrees with counting, whatever comes and goes.
    """
    chance = random.Random(5)
    shares: Shares[int] = Shares()
    there: dict[int, str] = {}
    for _ in range(5000):
        member, address = chance.randrange(40), chance.choice("abcd")
        there.pop(member, None)
        if chance.random() < 0.6:
            shares.add(member, address)
            there[member] = address
        else:
            shares.discard(member)
        assert len(shares) == len(there)
        found = shares.largest()
        if found is None:
            assert not there
            continue
        metrics = {each: list(there.values()).count(each) for each in "abcd"}
        assert metrics[there[found]] == max(metrics.values())
        assert found == next(each for each in there if there[each] == there[found])
