"""
Claims in redis: keys with an owner, which expire unless the owner's node renews them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.interfaces import ClaimTaken, IClaim
from rt_twisted.brokers.redis.copies import encode
from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError
from rt_twisted.brokers.redis.publisher import Call
from rt_twisted.brokers.redis.scripts import CLAIM
from rt_twisted.model.errors import Unavailable

_log = Logger()

EXPIRE = 4.0  # seconds after which the claims of a node that ended are free
RENEW = 1.0  # seconds between two renewals


@implementer(IClaim)
class RedisClaim:
    """
    A claim that is renewed until it is lost or released.

    Args:
        claims: renews and releases it.
        name: what is claimed.
        token: of the owner.
    """

    def __init__(self, claims: RedisClaims, name: str, token: str) -> None:
        self.lost: Deferred[str] = Deferred()
        self.name = name
        self.token = token
        self._claims = claims

    def release(self) -> None:
        self._claims.release(self)


class RedisClaims:
    """
    The claims of this node.

    Args:
        clock: the reactor.
        call: runs a script.
    """

    def __init__(self, clock: Any, call: Call) -> None:
        self._call = call
        self._held: dict[str, RedisClaim] = {}
        self._renewing = False
        self._loop = LoopingCall(self._renew)
        self._loop.clock = clock

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[RedisClaim]:
        """
        Claim *name*; see `IClaims.claim`.
        """
        return ensureDeferred(self._claim(name, run, takeover))

    async def _claim(self, name: str, run: str, takeover: bool) -> RedisClaim:
        try:
            [granted] = await self._run(EXPIRE, takeover, (name, run))
        except (RedisUnavailable, ResponseError) as error:
            raise Unavailable(f"redis: {error}") from None
        if not granted:
            raise ClaimTaken(name)
        before = self._held.get(name)
        claim = self._held[name] = RedisClaim(self, name, run)
        if before is not None:
            before.lost.callback("another publisher has taken over")
        if not self._loop.running:
            self._loop.start(RENEW, now=False)
        return claim

    def is_claimed(self, name: str) -> Deferred[bool]:
        """
        Return whether *name* is claimed; see `IClaims.is_claimed`.
        """
        return ensureDeferred(self._is_claimed(name))

    async def _is_claimed(self, name: str) -> bool:
        try:
            [is_free] = await self._run(0, False, (name, ""))  # an empty run releases nothing
        except (RedisUnavailable, ResponseError) as error:
            raise Unavailable(f"redis: {error}") from None
        return not is_free

    def release(self, claim: RedisClaim) -> None:
        """
        Release *claim*, if it is held.
        """
        if self._forget(claim):
            done = ensureDeferred(self._run(0, False, (claim.name, claim.token)))
            # While redis is away the claim expires.
            done.addErrback(lambda failure: failure.trap(RedisUnavailable, ResponseError))

    def stop(self) -> None:
        """
        Release all claims: the daemon is stopping.
        """
        for claim in tuple(self._held.values()):
            self.release(claim)

    def _forget(self, claim: RedisClaim) -> bool:
        if self._held.get(claim.name) is not claim:
            return False
        del self._held[claim.name]
        if not self._held and self._loop.running:
            self._loop.stop()
        return True

    def _renew(self) -> None:
        if not self._renewing:
            self._renewing = True
            ensureDeferred(self._renew_all()).addErrback(
                lambda failure: _log.failure("while renewing claims", failure)
            )

    async def _renew_all(self) -> None:
        claims = tuple(self._held.values())
        try:
            pairs = [(claim.name, claim.token) for claim in claims]
            granted = await self._run(EXPIRE, False, *pairs)
        except (RedisUnavailable, ResponseError):
            return  # it is tried again; a claim that expired meanwhile may be free still
        finally:
            self._renewing = False
        for claim, mine in zip(claims, granted, strict=True):
            if not mine and self._forget(claim):
                claim.lost.callback("another publisher has taken over")

    async def _run(self, age: float, take: bool, *pairs: tuple[str, str]) -> Any:
        words = [encode(word) for pair in pairs for word in pair]
        return await self._call(CLAIM, int(age * 1000), int(take), *words)
