"""
Tests of the choice of the member that frees a bounded resource.
"""

from __future__ import annotations

import random

from rt_twisted.net.address_groups import AddressGroups


def test_the_oldest_member_of_the_largest_group_is_chosen() -> None:
    """
    A member that is added again counts as the newest of its address.
    """
    groups: AddressGroups[str] = AddressGroups()
    assert groups.oldest_of_largest() is None
    for member in ("a1", "b1", "a2", "a3", "b2"):
        groups.add(member, member[0])
    assert groups.oldest_of_largest() == "a1"

    groups.add("a1", "a")
    assert groups.oldest_of_largest() == "a2"

    for member in ("a2", "a3", "a1", "a1"):
        groups.discard(member)
    assert groups.oldest_of_largest() == "b1"
    assert ("a1" in groups, "b1" in groups, len(groups)) == (False, True, 2)


def test_groups_match_a_simple_count_after_random_changes() -> None:
    """
    The bookkeeping agrees with counting, whatever is added and removed.
    """
    chance = random.Random(5)
    groups: AddressGroups[int] = AddressGroups()
    present: dict[int, str] = {}
    for _ in range(5000):
        member, address = chance.randrange(40), chance.choice("abcd")
        present.pop(member, None)
        if chance.random() < 0.6:
            groups.add(member, address)
            present[member] = address
        else:
            groups.discard(member)
        assert len(groups) == len(present)
        found = groups.oldest_of_largest()
        if found is None:
            assert not present
            continue
        sizes = {each: list(present.values()).count(each) for each in "abcd"}
        assert sizes[present[found]] == max(sizes.values())
        assert found == next(each for each in present if present[each] == present[found])
