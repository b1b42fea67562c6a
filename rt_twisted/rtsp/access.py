"""
Access to RTSP streams: keys in the URL, or by Basic or Digest.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence

from rt_twisted.access.keys import Key, Keys
from rt_twisted.codecs.basic_auth import CHALLENGE
from rt_twisted.codecs.digest_auth import parse_digest, write_challenge
from rt_twisted.model.errors import Header, HttpError
from rt_twisted.rtsp.requests import RtspExchange

REALM = "live"
NONCE_SECONDS = 300.0  # for which a nonce can be used


class RtspAccess:
    """
    Authorizes requests of all RTSP connections of this process.

    Args:
        clock: returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._secret = secrets.token_bytes(16)

    def authorize(self, exchange: RtspExchange, keys: Keys, channels: Sequence[str]) -> Key:
        """
        Check that a client may publish to *channels*, or play them.

        Args:
            exchange: the request.
            keys: without any, only this machine may.
            channels: may be empty.

        Returns:
            The key that was found.

        Raises:
            HttpError: 401 with challenges, for no credentials or wrong ones; 403, see
                `Keys.authorize`.
        """
        answer = parse_digest(exchange.header("authorization")) if len(keys) else None
        if answer is None:
            try:
                return keys.authorize_live(exchange, channels)
            except HttpError as error:
                if error.status != 401:
                    raise
                raise HttpError(401, error.reason, self.challenges(exchange)) from None
        key = keys.find(lambda secret: answer.proves(exchange.method, secret))
        if key is None or not exchange.is_about(answer.uri):
            raise HttpError(401, "wrong key", self.challenges(exchange))
        if not self._is_fresh(answer.nonce, exchange.address):
            raise HttpError(401, "the nonce is too old", self.challenges(exchange, stale=True))
        for channel in channels:
            key.check(channel)
        return key

    def challenges(self, exchange: RtspExchange, stale: bool = False) -> list[Header]:
        """
        Return the challenges for a client.

        ffmpeg takes the last challenge of a kind, and until version 8 it has no SHA-256.
        """
        nonce = self._nonce(self._clock(), exchange.address)
        algorithms = ["MD5", "SHA-256"]
        if (exchange.header("user-agent") or "").startswith("Lavf"):
            algorithms.remove("SHA-256")
        basic = CHALLENGE[1].replace("publish", REALM)
        digests = [write_challenge(REALM, nonce, each, stale) for each in algorithms]
        return [("WWW-Authenticate", value) for value in (*digests, basic)]

    def _nonce(self, now: float, address: str) -> str:
        """
        Return a nonce that is of no use to another *address*, which may have seen it.
        """
        time = f"{int(now):x}"
        proof = hmac.new(self._secret, f"{time} {address}".encode(), hashlib.sha256).hexdigest()[
            :32
        ]
        return f"{time}-{proof}"

    def _is_fresh(self, nonce: str, address: str) -> bool:
        time, _, _ = nonce.partition("-")
        try:
            made = int(time[:16], 16)
        except ValueError:
            return False
        ours = self._nonce(made, address).encode()
        is_ours = hmac.compare_digest(ours, nonce.encode(errors="replace"))
        return is_ours and 0 <= self._clock() - made <= NONCE_SECONDS
