"""
Claims of a node whose broker grants none.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from rt_twisted.brokers.interfaces import ClaimTaken, IClaim, IClaims


@implementer(IClaim)
class LocalClaim:
    """
    A claim that holds until it is lost or released.

    Args:
        held: all claims of the node, by name.
        name: what is claimed.
    """

    def __init__(self, held: dict[str, LocalClaim], name: str) -> None:
        self.lost: Deferred[str] = Deferred()
        self._held = held
        self._name = name

    def release(self) -> None:
        if self._held.get(self._name) is self:
            del self._held[self._name]


@implementer(IClaims)
class LocalClaims:
    """
    Grants each name to one run of this node.
    """

    def __init__(self) -> None:
        self._held: dict[str, LocalClaim] = {}

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[LocalClaim]:
        before = self._held.get(name)
        if before is not None and not takeover:
            return fail(ClaimTaken(name))
        claim = self._held[name] = LocalClaim(self._held, name)
        if before is not None:
            before.lost.callback("another publisher has taken over")
        return succeed(claim)

    def is_claimed(self, name: str) -> Deferred[bool]:
        return succeed(name in self._held)
