"""
Tokens: signed grants (JWT, RFC 7519; JWS, RFC 7515).

The key decides which algorithms are accepted, never the token. Imported only where tokens are
used, as PyJWT and its algorithms take several megabytes of memory.
"""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NoReturn

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate
from jwt.algorithms import get_default_algorithms
from jwt.exceptions import PyJWTError
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.access.gate import token_error
from rt_twisted.access.grants import Grant, GrantError, read_grant
from rt_twisted.access.interfaces import ITokenVerifier
from rt_twisted.access.key_sets import KeySet
from rt_twisted.access.weighed_cache import WeighedCache
from rt_twisted.model.errors import HttpError

MAX_TOKEN = 8192  # characters
MAX_TRIED = 16  # keys of key sets, for a token that does not name its own
MAX_KNOWN = 10_000  # tokens that are recognized again
MAX_KNOWN_BYTES = 32 << 20  # of their grants: one may have a thousand patterns
MIN_SECRET = 32  # bytes (RFC 7518, 3.2)
MIN_RSA_BITS = 2048
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_HMAC = (("HS256", 32), ("HS384", 48), ("HS512", 64))  # and the bytes that RFC 7518 requires
FETCH_RETRY = 2  # seconds after which a client tries again while keys are fetched
_NO_KEY = "no key is set for its algorithm and issuer"
_SHOWN = 100  # characters of `kid` and `iss` in the log
# Public keys of SSH and as JSON: taken for a secret, everybody could sign with them.
_PUBLIC = re.compile(
    r"\s*(?:(?:ssh|ecdsa|sk)-\S+ AAAA|---- BEGIN SSH2|\{.*\"(?:RSA|EC|OKP)\")", re.DOTALL
)

_log = Logger()


@dataclass(frozen=True, slots=True)
class TokenKey:
    """
    A key that verifies tokens. Compares by its source.

    Args:
        source: the secret or PEM text; never logged, never shown.
        issuer: the only `iss` whose tokens it verifies; "" for those of no other key.
        algorithms: that it may be used with.
        key: as PyJWT takes it.
        kid: of a key set; a token that names another one is not verified by it.
    """

    source: str = field(repr=False)
    issuer: str
    algorithms: tuple[str, ...] = field(compare=False)
    key: Any = field(repr=False, compare=False)
    kid: str = ""

    @property
    def name(self) -> str:
        """
        Return a name that is the same for equal keys, and does not show the secret.
        """
        return sha256(f"{self.issuer}\0{self.source}".encode(errors="replace")).hexdigest()[:16]

    @classmethod
    def of(cls, source: str, issuer: str = "") -> TokenKey:
        """
        Build a key from an HMAC secret, or the PEM text of a public key or certificate.

        Raises:
            ValueError: the end of the sentence "token-key must be ...".
        """
        if _PUBLIC.match(source):
            raise ValueError("PEM: this is a public key in another form, which is no secret")
        if "-----BEGIN" not in source:
            secret = source.encode(errors="surrogateescape")
            if len(secret) < MIN_SECRET:
                raise ValueError(f"a secret of at least {MIN_SECRET} bytes, or a PEM public key")
            found = tuple([name for name, size in _HMAC if len(secret) >= size])
            return cls(source, issuer, found, secret)
        if "PRIVATE KEY" in source:
            raise ValueError("the public key: this is a private key")
        try:
            if "CERTIFICATE" in source:
                key: Any = load_pem_x509_certificate(source.encode()).public_key()
            else:
                key = load_pem_public_key(source.encode())
        except Exception:  # cryptography raises several, some of them from OpenSSL
            raise ValueError("a public key or certificate that can be read (PEM)") from None
        return cls(source, issuer, algorithms_of(key), key)


def algorithms_of(key: object) -> tuple[str, ...]:
    """
    Return the algorithms that a public *key* of the cryptography library verifies.

    Raises:
        ValueError: none; the end of the sentence "token-key must be ...".
    """
    if isinstance(key, RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise ValueError(f"an RSA key of at least {MIN_RSA_BITS} bits")
        return _RSA
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return (_CURVES[key.curve.name],)
    if isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        return ("EdDSA",)
    raise ValueError("an RSA, P-256, P-384, P-521, Ed25519 or Ed448 key")


@implementer(ITokenVerifier)
class TokenVerifier:
    """
    Verifies tokens, and recognizes those that it has verified.

    Args:
        keys: at least one.
        audiences: one of them must be in `aud`; empty if `aud` is not checked.
        leeway: seconds by which the clocks of issuers may differ.
        now: returns Unix time.
        key_sets: further keys, as a `KeySet` has them.
        count: called for each token that is verified.
    """

    def __init__(
        self,
        keys: Sequence[TokenKey],
        audiences: frozenset[str] = frozenset(),
        leeway: float = 0.0,
        now: Callable[[], float] = time.time,
        key_sets: Sequence[KeySet] = (),
        count: Callable[[], object] = lambda: None,
    ) -> None:
        self._keys = tuple(keys)
        self._audiences = audiences
        self.leeway = leeway
        self._key_sets = tuple(key_sets)
        self._count = count
        issuers = [key.issuer for key in keys] + [one.issuer for one in key_sets]
        self._issuers = frozenset(filter(None, issuers))
        self._versions = self._current_versions
        names = [key.name for key in self._keys] + [one.name for one in self._key_sets]
        self._names = frozenset(names)
        self._known = WeighedCache[Grant](MAX_KNOWN, MAX_KNOWN_BYTES)
        self._key_names = {id(key): key.name for key in self._keys}
        self._algorithms = get_default_algorithms()
        self.now = now

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenVerifier) and self._settings == other._settings

    def __hash__(self) -> int:
        return hash(self._settings)

    @property
    def _settings(self) -> tuple[object, ...]:
        return self._keys, self._audiences, self.leeway, self._key_sets

    @property
    def _current_versions(self) -> tuple[int, ...]:
        return tuple([one.version for one in self._key_sets])

    def verify(self, token: str) -> Grant:
        if len(token) > MAX_TOKEN or not token.isascii():
            self._refuse(f"it is not up to {MAX_TOKEN} characters of ASCII")
        if self._key_sets and self._versions != self._current_versions:
            self._versions = self._current_versions
            self._known.clear()
        digest = sha256(token.encode()).digest()
        grant = self._known.get(digest)
        if grant is None:
            grant = self._read(token)
            self._count()
            self._known.put(digest, grant, grant.size)
        now = self.now()
        if not grant.is_valid_at(now, self.leeway):
            self._refuse("it has expired" if now >= grant.expires else "it is not valid yet")
        return grant

    def _read(self, token: str) -> Grant:
        """
        Verify the signature of *token* and read its claims.
        """
        head, payload, signed, signature = self._parts(token)
        issuer = payload.get("iss", "")
        if type(issuer) is not str:
            issuer = ""
        kid = head.get("kid")
        algorithm = head.get("alg")
        named = issuer if issuer in self._issuers else ""
        if type(algorithm) is not str:
            self._refuse(_NO_KEY, kid, issuer)
        if "crit" in head or "b64" in head:  # an extension that is always critical (RFC 7797, 6)
            self._refuse("it has critical extensions", kid, issuer)
        key_sets = [one for one in self._key_sets if one.issuer == named]
        keys = [key for key in self._keys if key.issuer == named and algorithm in key.algorithms]
        further = [
            key
            for one in key_sets
            for key in one.keys
            if algorithm in key.algorithms and _may_have_signed(key, kid)
        ]
        keys += further[:MAX_TRIED]
        for right in keys:  # each verifies only its own algorithms
            if _is_signed(self._algorithms[algorithm].verify, signed, right.key, signature):
                break
        else:
            if not self._has_ended(payload.get("exp")):
                self._check_fetched(key_sets, kid)
            reason = "its signature is wrong" if keys else _NO_KEY
            self._refuse(reason, kid, issuer)
        if payload.get("exp") is None:
            self._refuse("it has no exp", kid, issuer)
        if self._audiences and not self._audiences.intersection(_audiences(payload)):
            self._refuse("it is for another audience", kid, issuer)
        try:
            return read_grant(payload, self._name_of(right))
        except GrantError as error:
            self._refuse(str(error), kid, issuer)

    def trusts(self, verified_by: str) -> bool:
        """
        Return whether the key that `Grant.verified_by` names is one of the keys.
        """
        return verified_by in self._names

    def _name_of(self, key: TokenKey) -> str:
        name = self._key_names.get(id(key))
        if name is not None:
            return name
        return next(one.name for one in self._key_sets if key in one.keys)

    def _has_ended(self, expires: object) -> bool:
        """
        Return whether a token with this `exp` has expired, even if its signature is right.
        """
        return isinstance(expires, int | float) and expires <= self.now() - self.leeway

    def _check_fetched(self, key_sets: Sequence[KeySet], kid: object) -> None:
        """
        Check that none of *key_sets* may soon have a key for a token with *kid*, which no key
        has verified, and fetch those that have none.

        Raises:
            HttpError: 503, such a set is being fetched, or never was.
        """
        waits = False
        for one in key_sets:
            if not any(_may_have_signed(key, kid) for key in one.keys):
                waits = one.refresh() or one.fetched is None or waits
        if waits:
            raise HttpError(503, "the keys of the issuer are being fetched", retry=FETCH_RETRY)

    def _parts(self, token: str) -> tuple[dict[str, Any], dict[str, Any], bytes, bytes]:
        """
        Return head, payload, what is signed, and the signature (RFC 7515, 5.2).
        """
        signed, _, signature = token.rpartition(".")
        first, dot, second = signed.partition(".")
        if dot and "." not in second:
            try:
                head, payload, found = _load(first), _load(second), _decode(signature)
            except (ValueError, RecursionError):
                pass
            else:
                if type(head) is dict and type(payload) is dict:
                    return head, payload, signed.encode(), found
        self._refuse("it is not a signed JSON object (JWT)")

    def _refuse(self, reason: str, kid: object = None, issuer: object = None) -> NoReturn:
        _log.debug(
            "token refused: {reason}; kid {kid}, iss {iss}",
            reason=reason,
            kid=repr(kid)[:_SHOWN],
            iss=repr(issuer)[:_SHOWN],
        )
        raise token_error(reason)


def _may_have_signed(key: TokenKey, kid: object) -> bool:
    """
    Return whether *key*, of a key set, may have signed a token that names *kid*; None for none.
    """
    return kid is None or not key.kid or key.kid == kid


def _is_signed(
    verify: Callable[[bytes, Any, bytes], bool], signed: bytes, key: Any, signature: bytes
) -> bool:
    try:
        return verify(signed, key, signature)
    except (PyJWTError, ValueError, TypeError):  # a signature of another length, for some keys
        return False


def _decode(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _load(part: str) -> Any:
    return _read_json(_decode(part).decode())


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# json.loads makes a decoder for each text.
_read_json = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _audiences(payload: dict[str, Any]) -> list[str]:
    value = payload.get("aud")
    values = value if type(value) is list else [value]
    return [each for each in values if type(each) is str]
