"""
The key of GRIP: signs the requests to the application, and verifies those that publish
(https://pushpin.org/docs/protocols/grip/).

Imported only where the setting `grip-key` is set, as PyJWT takes several megabytes of memory.
"""

from __future__ import annotations

import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import NoReturn

import jwt
from jwt.exceptions import PyJWTError

from rt_twisted.model.errors import Header, HttpError

ISSUER = "rt_twisted"  # of signatures, unless the setting has another one
ALGORITHM = "HS256"
MIN_SECRET = 32  # bytes (RFC 7518, 3.2)
MAX_TOKEN = 8192  # characters
VALID_SECONDS = 3600  # for which a signature is valid
RENEW_SECONDS = 600.0  # after which another one is made
FEATURES = "status"  # what a hold supports beside the protocol's first version
_CODED = "base64:"  # as in a GRIP_URL


@dataclass(slots=True, eq=False)
class GripKey:
    """
    The key that the daemon and the application share. Compares by its settings.

    Args:
        secret: of at least MIN_SECRET bytes.
        issuer: the `iss` of signatures.
        leeway: seconds by which the clocks may differ.
        ids: whether events that have no id get one when they are published.
        now: returns Unix time.
    """

    secret: bytes = field(repr=False)
    issuer: str = ISSUER
    leeway: float = 0.0
    ids: bool = True
    now: Callable[[], float] = time.time
    _headers: tuple[Header, ...] = field(default=(), init=False, repr=False)
    _made: float = field(default=float("-inf"), init=False)

    @classmethod
    def of(cls, text: str, issuer: str = "", leeway: float = 0.0, ids: bool = True) -> GripKey:
        """
        Build a key from the text of a setting: a secret, or `base64:` and a coded one.

        Raises:
            ValueError: the end of the sentence "grip-key must be ...".
        """
        try:
            coded = text.removeprefix(_CODED)
            secret = b64decode(coded, validate=True) if coded != text else text.encode()
        except (Base64Error, ValueError):
            raise ValueError("a secret, or base64: and a secret in base64") from None
        if len(secret) < MIN_SECRET:
            raise ValueError(f"a secret of at least {MIN_SECRET} bytes")
        return cls(secret, issuer or ISSUER, leeway, ids)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GripKey) and self._settings == other._settings

    def __hash__(self) -> int:
        return hash(self._settings)

    @property
    def _settings(self) -> tuple[object, ...]:
        return self.secret, self.issuer, self.leeway, self.ids

    def request_headers(self) -> tuple[Header, ...]:
        """
        Return the headers of a request to the application: `Grip-Sig` and `Grip-Feature`.

        A signature is made once in RENEW_SECONDS.
        """
        now = self.now()
        if not 0 <= now - self._made < RENEW_SECONDS:
            claims = {"iss": self.issuer, "exp": int(now) + VALID_SECONDS}
            signature = jwt.encode(claims, self.secret, ALGORITHM)
            self._headers = (("Grip-Sig", signature), ("Grip-Feature", FEATURES))
            self._made = now
        return self._headers

    def request_fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """
        Return `request_headers` as bytes.
        """
        return tuple([(name.encode(), value.encode()) for name, value in self.request_headers()])

    def check_publisher(self, authorization: str | None) -> None:
        """
        Check the header `Authorization` of a request that publishes.

        Raises:
            HttpError: 401, it has no valid token that is signed by this key.
        """
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise HttpError(401, "a token is needed", [("WWW-Authenticate", "Bearer")])
        if compare_digest(token.encode(), self.secret):
            _refuse("it is the key itself: add iss= to the GRIP_URL, and it is signed by the key")
        if len(token) > MAX_TOKEN:
            _refuse(f"it has more than {MAX_TOKEN} characters")
        try:
            claims = jwt.decode(
                token,
                self.secret,
                [ALGORITHM],
                options={"require": ["exp"], "verify_exp": False, "verify_nbf": False,
                         "verify_iat": False, "verify_aud": False, "verify_sub": False,
                         "verify_jti": False},
            )  # fmt: skip
        except (PyJWTError, ValueError, TypeError, RecursionError):
            _refuse("it is not signed by grip-key, or has no exp")
        expires, begins = claims["exp"], claims.get("nbf", 0)
        if type(expires) not in (int, float) or type(begins) not in (int, float):
            _refuse("exp and nbf are times in seconds since 1970")
        if not begins - self.leeway <= self.now() < expires + self.leeway:
            _refuse("it has expired, or is not valid yet")


def _refuse(reason: str) -> NoReturn:
    challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
    raise HttpError(401, f"the token is not valid: {reason}", [challenge])
