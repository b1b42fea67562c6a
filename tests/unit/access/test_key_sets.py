"""
Key sets: which keys verify tokens, and when sets are fetched.
"""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from rt_twisted.access.jwks import parse_key_set
from rt_twisted.access.key_sets import AGAIN, USUAL, KeySet, KeySets
from rt_twisted.access.tokens import MAX_TRIED, TokenKey, TokenVerifier
from rt_twisted.model.errors import HttpError
from tests.unit.access.test_authorizer import FakeClient

NOW = 1_000_000.0
SECRET = "0123456789abcdef" * 4
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    kinds: list[tuple[type, Any]] = [
        (rsa.RSAPrivateKey, RSAAlgorithm),
        (ec.EllipticCurvePrivateKey, ECAlgorithm),
        (ed25519.Ed25519PrivateKey, OKPAlgorithm),
    ]
    [algorithm] = [found for kind, found in kinds if isinstance(key, kind)]
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(key: Any, algorithm: str, kid: str | None = None, **claims: Any) -> str:
    headers = {"kid": kid} if kid else None
    return jwt.encode({"sub": "mia", "exp": NOW + 60, **claims}, key, algorithm, headers)


def test_keys_of_all_types() -> None:
    """
    The type of the key decides the algorithms, `alg` may name one of them.
    """
    found = parse_key_set(
        key_set(jwk(RSA, "r"), jwk(EC, "e"), jwk(ED, "d"), jwk(RSA, "p", alg="PS256")), ""
    )
    assert [(key.kid, key.algorithms) for key in found] == [
        ("r", ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        ("e", ("ES256",)),
        ("d", ("EdDSA",)),
        ("p", ("PS256",)),
    ]


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "kid": "o"},
        {"kty": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY", "alg": "HS256"},
        jwk(rsa.generate_private_key(65537, 1024), "short"),
        jwk(RSA, "enc", use="enc"),
        jwk(RSA, "ops", key_ops=["encrypt"]),
        jwk(RSA, "alg", alg="HS256"),
        jwk(EC, "alg", alg="none"),
        {"kty": "RSA"},
        {"kty": "EC", "crv": 7},
        {"kty": ["RSA"]},
        {},
    ],
)
def test_other_keys_are_ignored(key: dict[str, Any]) -> None:
    """
    The rest of the set is used.
    """
    found = parse_key_set(key_set(key, jwk(EC, "good")), "")
    assert [each.kid for each in found] == ["good"]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"keys": 7}', b"[" * 100_000, b"\xff"])
def test_what_is_no_set(data: bytes) -> None:
    """
    One sentence for the log.
    """
    with pytest.raises(ValueError):
        parse_key_set(data, "")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(
    st.sampled_from(["kty", "crv", "n", "e", "x", "y", "k", "use", "alg", "kid", "key_ops"]), inner)
))  # fmt: skip
def test_any_key(value: Any) -> None:
    """
    Nothing else is raised.
    """
    parse_key_set(json.dumps({"keys": [value, {**jwk(EC, "x"), "crv": value}]}).encode(), "")


class Fetching:
    """
    A key set of an issuer, and a verifier with it.
    """

    def __init__(self, issuer: str = "") -> None:
        self.clock = Clock()
        self.client = FakeClient()
        client: Any = self.client
        url = "https://id.example/jwks.json"
        self.set = KeySet(client, self.clock, url, issuer, parse_key_set)
        self.verifier = TokenVerifier(
            [TokenKey.of(SECRET)], now=lambda: NOW + self.clock.seconds(), key_sets=[self.set]
        )
        self.set.start()

    def status(self, token: str) -> int:
        try:
            self.verifier.verify(token)
        except HttpError as error:
            return error.status
        return 200


def test_tokens_wait_for_the_first_fetch() -> None:
    """
    503 until the keys are there; tokens of other keys are verified.
    """
    fetching = Fetching("https://id.example/")
    mine = token(EC, "ES256", "e", iss="https://id.example/")
    assert fetching.status(mine) == 503
    assert fetching.status(token(SECRET, "HS256")) == 200
    fetching.client.respond(200, key_set(jwk(EC, "e")))
    assert fetching.status(mine) == 200
    assert fetching.status(token(EC, "ES256", "e")) == 401  # without its issuer
    assert fetching.status(token(SECRET, "HS256", iss="https://id.example/")) == 401
    assert fetching.status(token(EC, "ES256", iss="https://id.example/")) == 200


def test_own_keys_wait_for_no_set() -> None:
    """
    Neither for the first fetch nor while a set is fetched for an unknown key.
    """
    fetching = Fetching()
    mine, other = token(SECRET, "HS256"), token(SECRET, "HS256", "mine")
    assert fetching.status(mine) == fetching.status(other) == 200
    assert fetching.status(token(EC, "ES256", "e")) == 503
    fetching.client.respond(200, key_set(jwk(EC, "e")))
    fetching.clock.advance(AGAIN)
    assert fetching.status(token(ED, "EdDSA", "unknown")) == 503
    assert fetching.status(token(SECRET, "HS256", "mine", jti="2")) == 200
    assert fetching.status(token(EC, "ES256", "e")) == 200
    # The key decides the algorithm: the public key of a set is no secret.
    public = jwk(EC, "e")["x"]
    assert fetching.status(token(public, "HS256", "e")) == 401
    assert fetching.status(token(None, "none", "e")) == 401


def test_a_set_waits_for_no_other_set() -> None:
    """
    The token is verified by the set that has its key, whatever the others lack.
    """
    one, other = Fetching(), Fetching()
    now = one.verifier.now
    other.verifier = TokenVerifier([], now=now, key_sets=[one.set, other.set])
    other.client.respond(200, key_set(jwk(EC, "e")))
    assert other.status(token(EC, "ES256", "e")) == 200
    assert other.status(token(ED, "EdDSA", "d")) == 503


def test_a_token_that_has_expired_fetches_nothing() -> None:
    """
    No key makes it valid.
    """
    fetching = Fetching()
    fetching.client.respond(200, key_set(jwk(EC, "e")))
    fetching.clock.advance(AGAIN)
    assert fetching.status(token(ED, "EdDSA", "d", exp=NOW + AGAIN)) == 401
    assert not fetching.client.sent
    assert fetching.status(token(ED, "EdDSA", "d", exp=NOW + AGAIN + 1)) == 503
    assert fetching.status(token(ED, "EdDSA", "d", exp=10**400)) == 503


def test_a_token_without_kid_is_tried_by_few_keys() -> None:
    """
    So that tokens with wrong signatures do not cost a hundred verifications each; with its kid
    each key counts.
    """
    fetching = Fetching()
    many = [ec.generate_private_key(ec.SECP256R1()) for _ in range(MAX_TRIED + 4)]
    fetching.client.respond(200, key_set(*[jwk(key, f"{n}") for n, key in enumerate(many)]))
    assert fetching.status(token(many[0], "ES256")) == 200
    assert fetching.status(token(many[-1], "ES256")) == 401
    assert fetching.status(token(many[-1], "ES256", str(len(many) - 1))) == 200


def test_unknown_keys_are_fetched_every_ten_seconds() -> None:
    """
    A thousand tokens with unknown `kid`s are one request.
    """
    fetching = Fetching()
    fetching.client.respond(200, key_set(jwk(EC, "old")))
    fetching.clock.advance(AGAIN)
    other = [token(ED, "EdDSA", f"new{number}") for number in range(1000)]
    assert [fetching.status(each) for each in other] == [503] * 1000
    assert len(fetching.client.sent) == 1
    fetching.client.respond(200, key_set(jwk(EC, "old"), jwk(ED, "new7")))
    assert [fetching.status(each) for each in other].count(200) == 1
    assert [fetching.status(each) for each in other].count(401) == 999
    assert not fetching.client.sent


def test_removed_keys_verify_nothing() -> None:
    """
    Tokens that were verified by them are not recognized any more.
    """
    fetching = Fetching()
    fetching.client.respond(200, key_set(jwk(EC, "a")), cache_control="max-age=1")
    mine = token(EC, "ES256", "a")
    assert fetching.status(mine) == 200
    fetching.clock.advance(59)
    assert not fetching.client.sent
    fetching.clock.advance(1)
    fetching.client.respond(200, key_set(jwk(ED, "b")), cache_control="public, max-age=999999")
    assert fetching.status(mine) == 401
    fetching.clock.advance(86399)
    assert not fetching.client.sent
    fetching.clock.advance(1)
    assert len(fetching.client.sent) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (302, b""), (200, b"x"), (200, b'{"keys": []}'), (200, b"x" * 300_000)],
)
def test_the_last_good_set_stays(status: int, body: bytes) -> None:
    """
    While the server is away, redirects, or sends something else.
    """
    fetching = Fetching()
    fetching.client.respond(200, key_set(jwk(EC, "a")))
    fetching.clock.advance(USUAL)
    fetching.client.respond(status, body)
    assert fetching.status(token(EC, "ES256", "a", exp=NOW + 10_000)) == 200
    fetching.clock.advance(AGAIN)
    assert len(fetching.client.sent) == 1
    assert fetching.set.age == USUAL + AGAIN
    fetching.client.respond(200, key_set(jwk(EC, "a")))
    assert fetching.set.age == 0
    fetching.set.stop()


def test_age_of_the_oldest_set() -> None:
    """
    One that was never fetched has the age of the wish for it; one of former settings has none.
    """
    clock: Any = MemoryReactorClock()
    sets = KeySets(clock)
    assert sets.age() == 0
    key = ("http://192.0.2.1/a", "")
    sets.get(*key)
    sets.startService()
    sets.use({key})
    clock.advance(7)
    assert sets.age() == 7
    sets.use(set())
    assert sets.age() == 0
    sets.stopService()


def test_sets_of_the_settings() -> None:
    """
    They are fetched while the service runs and the settings name them.
    """
    clock: Any = Clock()
    sets = KeySets(clock)
    first = sets.get("https://id.example/a", "")
    assert sets.get("https://id.example/a", "") is first
    assert sets.get("https://id.example/a", "x") is not first
    sets.use({("https://id.example/a", "")})
    assert not first.fetching
    with pytest.raises(ValueError):
        sets.get("nonsense", "")
