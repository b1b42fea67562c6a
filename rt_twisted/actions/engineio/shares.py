"""
Fair shares of a bounded resource: whose member has to go when it is used up.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Shares(Generic[T]):
    """
    Members grouped by address, each group in the order in which its members were
    added. All methods take constant time.

    When a bounded resource is used up, the member to end is the oldest of the
    address that has most: one address that takes all it can get only takes it
    from itself. Where all members have one address, behind a proxy, it is the
    oldest of all.
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
        Add *member* as the newest of *address*; one that is there already moves.
        """
        self.discard(member)
        group = self._groups.setdefault(address, {})
        group[member] = None
        self._addresses[member] = address
        self._resized(address, len(group) - 1, len(group))
        self._largest = max(self._largest, len(group))

    def discard(self, member: T) -> None:
        """
        Remove *member*, if it is there.
        """
        address = self._addresses.pop(member, None)
        if address is None:
            return
        group = self._groups[address]
        del group[member]
        self._resized(address, len(group) + 1, len(group))
        if not group:
            del self._groups[address]
        if self._largest not in self._sizes:
            self._largest -= 1

    def largest(self) -> T | None:
        """
        The oldest member of the address that has most; None if there is none.
        """
        addresses = self._sizes.get(self._largest)
        return next(iter(self._groups[next(iter(addresses))])) if addresses else None

    def oldest(self, address: str, most: int) -> T | None:
        """
        The oldest member of *address* if it has more than *most*, else None.
        """
        group = self._groups.get(address, {})
        return next(iter(group)) if len(group) > most else None

    def _resized(self, address: str, before: int, after: int) -> None:
        if before:
            addresses = self._sizes[before]
            del addresses[address]
            if not addresses:
                del self._sizes[before]
        if after:
            self._sizes.setdefault(after, {})[address] = None
