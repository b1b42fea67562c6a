"""
Members grouped by client address, to choose which one must free a bounded resource.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class AddressGroups(Generic[T]):
    """
    Members grouped by address, each group in the order in which members were added.

    All methods take constant time. When a bounded resource is used up, end the
    oldest member of the largest group: an address that takes as much as it can get
    then displaces only its own members. Where all members share one address, behind
    a proxy, this is the oldest member of all.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[T, None]] = {}
        self._sizes: dict[int, dict[str, None]] = {}  # addresses by their number of members
        self._largest = 0
        self._addresses: dict[T, str] = {}

    def __len__(self) -> int:
        return len(self._addresses)

    def __contains__(self, member: T) -> bool:
        return member in self._addresses

    def add(self, member: T, address: str) -> None:
        """
        Add *member* as the newest of *address*; a known member moves there.
        """
        self.discard(member)
        group = self._groups.setdefault(address, {})
        group[member] = None
        self._addresses[member] = address
        self._resize(address, len(group) - 1, len(group))
        self._largest = max(self._largest, len(group))

    def discard(self, member: T) -> None:
        """
        Remove *member*, if it is present.
        """
        address = self._addresses.pop(member, None)
        if address is None:
            return
        group = self._groups[address]
        del group[member]
        self._resize(address, len(group) + 1, len(group))
        if not group:
            del self._groups[address]
        if self._largest not in self._sizes:
            self._largest -= 1

    def oldest_of_largest(self) -> T | None:
        """
        Return the oldest member of the largest group; None without members.
        """
        addresses = self._sizes.get(self._largest)
        return next(iter(self._groups[next(iter(addresses))])) if addresses else None

    def _resize(self, address: str, before: int, after: int) -> None:
        if before:
            addresses = self._sizes[before]
            del addresses[address]
            if not addresses:
                del self._sizes[before]
        if after:
            self._sizes.setdefault(after, {})[address] = None
