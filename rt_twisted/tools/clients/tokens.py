"""
Tokens (JWT) of subscribers, and when they are renewed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import jwt

REUSED = 0.25  # of the lifetime: a connection begins with a new token if less is left


class TokenSource:
    """
    Makes the tokens of one subscriber.

    Args:
        secret: signs them (HS256), as the setting `token-key` of the server.
        seconds: that each lives.
        subject: the claim `sub`.
        channels: that they grant.
        now: returns Unix time.
    """

    def __init__(
        self,
        secret: str,
        seconds: float,
        subject: str,
        channels: Sequence[str],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.made = 0  # how many
        self._secret = secret
        self._seconds = seconds
        self._claims = {"sub": subject, "subscribe": list(channels)}
        self._now = now
        self._token = ""
        self._ends = 0.0

    def current(self) -> str:
        """
        Return the token to connect with: the last one, or a new one if little of it is left.
        """
        if self._ends - self._now() < REUSED * self._seconds:
            self.renew()
        return self._token

    def last(self, seconds: float) -> None:
        """
        Make tokens from now on, and with the next connection, that live *seconds*.
        """
        self._seconds = seconds
        self._ends = 0.0

    def renew(self) -> str:
        """
        Make a new token, and return it.
        """
        self._ends = self._now() + self._seconds
        self._token = jwt.encode({**self._claims, "exp": self._ends}, self._secret, "HS256")
        self.made += 1
        return self._token


class TokenRenewal:
    """
    Renews the token of one connection between the server's notice and the end.

    Args:
        tokens: of the subscriber; None if it has none.
        number: of the subscriber: of four, one leaves its connection to end.
        clock: returns seconds.
    """

    def __init__(
        self,
        tokens: TokenSource | None,
        number: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = tokens if number % 4 != 3 else None
        self._clock = clock
        self._due = float("inf")

    def on_notice(self, seconds: float) -> None:
        """
        Handle that the server has announced the end in *seconds*.
        """
        self._due = self._clock() + seconds / 2

    def token_to_send(self) -> str:
        """
        Return a new token, if it is time; "" otherwise.
        """
        if self._tokens is None or self._clock() < self._due:
            return ""
        self._due = float("inf")
        return self._tokens.renew()
