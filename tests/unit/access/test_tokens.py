"""
Tokens: which are accepted, and why the others are not.
"""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import provider

from rt_twisted.access.tokens import MAX_KNOWN, MAX_KNOWN_BYTES, TokenKey, TokenVerifier
from rt_twisted.model.errors import HttpError

SECRET = "0123456789abcdef" * 4
NOW = 1_000_000.0
CLAIMS = {"sub": "mia", "exp": NOW + 600}


def pem(private: Any) -> str:
    public = private.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def verifier(*keys: TokenKey, **options: Any) -> TokenVerifier:
    return TokenVerifier(keys or [TokenKey.of(SECRET)], now=lambda: NOW, **options)


def token(claims: dict[str, Any] | None = None, key: Any = SECRET, **options: Any) -> str:
    return jwt.encode(CLAIMS if claims is None else claims, key, **options)


def raw(head: object, payload: bytes, signature: str = "AAAA") -> str:
    parts = (json.dumps(head).encode(), payload)
    return ".".join([*(urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), signature])


def signed(payload: bytes, **head: Any) -> str:
    """
    Return a token with a right signature over any payload.
    """
    return jwt.PyJWS().encode(payload, SECRET, headers=head)


def refusal(token: str, by: TokenVerifier | None = None) -> str:
    """
    Return the reason for which *token* is refused.
    """
    with pytest.raises(HttpError) as refused:
        (by or verifier()).verify(token)
    assert refused.value.status == 401
    assert dict(refused.value.headers)["WWW-Authenticate"].startswith("Bearer")
    return refused.value.reason.removeprefix("the token is not valid: ")


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_secrets_verify_hmac(algorithm: str) -> None:
    """
    A secret of 64 bytes is long enough for each of them.
    """
    assert verifier().verify(token(algorithm=algorithm)).subject == "mia"


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_rsa_keys_verify_both_paddings(rsa_key: rsa.RSAPrivateKey, algorithm: str) -> None:
    """
    PKCS #1 and PSS, with each hash.
    """
    by = verifier(TokenKey.of(pem(rsa_key)))
    assert by.verify(token(key=rsa_key, algorithm=algorithm)).subject == "mia"


@pytest.mark.parametrize(
    ("make", "algorithm"),
    [
        (lambda: ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (lambda: ec.generate_private_key(ec.SECP384R1()), "ES384"),
        (lambda: ec.generate_private_key(ec.SECP521R1()), "ES512"),
        (ed25519.Ed25519PrivateKey.generate, "EdDSA"),
        (ed448.Ed448PrivateKey.generate, "EdDSA"),
    ],
)
def test_curves_verify_their_algorithm(make: Callable[[], Any], algorithm: str) -> None:
    """
    The curve decides the algorithm.
    """
    key = make()
    by = verifier(TokenKey.of(pem(key)))
    assert by.verify(token(key=key, algorithm=algorithm)).subject == "mia"


def test_certificate_is_a_key(rsa_key: rsa.RSAPrivateKey) -> None:
    """
    The public key in it verifies.
    """
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(rsa_key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    text = builder.sign(rsa_key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    by = verifier(TokenKey.of(text))
    assert by.verify(token(key=rsa_key, algorithm="RS256")).subject == "mia"


def test_short_secret_verifies_hs256_only() -> None:
    """
    RFC 7518, 3.2: a key is at least as long as the hash.
    """
    assert TokenKey.of("s" * 32).algorithms == ("HS256",)


def unusable_keys() -> Iterator[tuple[str, str]]:
    yield "short", "at least 32 bytes"
    yield "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "can be read"
    yield "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "can be read"
    small = rsa.generate_private_key(65537, 1024)
    yield pem(small), "at least 2048 bits"
    yield pem(ec.generate_private_key(ec.SECP256K1())), "P-256"
    yield pem(dsa.generate_private_key(1024)), "RSA"
    public = rsa.generate_private_key(65537, 2048).public_key()
    ssh = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    yield from ((ssh, "no secret"), (f" {ssh} mia@shop.example", "no secret"))
    yield json.dumps(jwt.algorithms.RSAAlgorithm.to_jwk(public, as_dict=True)), "no secret"
    private = small.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    yield private.decode(), "private key"


@pytest.mark.parametrize(("source", "reason"), list(unusable_keys()))
def test_unusable_keys_are_refused(source: str, reason: str) -> None:
    """
    A daemon with such a key does not start.
    """
    with pytest.raises(ValueError, match=reason):
        TokenKey.of(source)


def test_public_key_is_no_secret(rsa_key: rsa.RSAPrivateKey) -> None:
    """
    A token that is signed by the text of the public key is refused (algorithm confusion).
    """
    by = verifier(TokenKey.of(pem(rsa_key)))
    head, payload = {"alg": "HS256", "typ": "JWT"}, json.dumps(CLAIMS).encode()
    unsigned = raw(head, payload).rpartition(".")[0]
    algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signature = urlsafe_b64encode(algorithm.sign(unsigned.encode(), pem(rsa_key).encode()))

    assert "no key" in refusal(f"{unsigned}.{signature.rstrip(b'=').decode()}", by)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ("", "not a signed JSON object"),
        ("a.b", "not a signed JSON object"),
        ("a.b.c.d", "not a signed JSON object"),
        ("ä.b.c", "ASCII"),
        ("x" * 8193, "8192"),
        (raw({"alg": "none"}, b'{"exp": 9e9}', ""), "no key"),
        (raw({"alg": "HS256"}, b'{"exp": 9e9}'), "signature"),
        (raw({"alg": ["HS256"]}, b'{"exp": 9e9}'), "no key"),
        (raw({}, b'{"exp": 9e9}'), "no key"),
        (raw([], b"{}"), "not a signed JSON object"),
        (signed(b"[]"), "not a signed JSON object"),
        (signed(b"7"), "not a signed JSON object"),
        (signed(b"\xff"), "not a signed JSON object"),
        (signed(b"[" * 5000), "not a signed JSON object"),
        (signed(b'{"a": ' * 500 + b"1" + b"}" * 500), "no exp"),
        (signed(b'{"exp": NaN}'), "not a signed JSON object"),
        (signed(b'{"exp": Infinity}'), "not a signed JSON object"),
        (signed(b'{"exp": 1e999}'), "exp is not a time"),
        (signed(b'{"exp": 1e308}'), "exp is not a time"),
        (signed(b'{"exp": "1000600"}'), "exp is not a time"),
        (signed(b'{"exp": ' + b"9" * 5000 + b"}"), "not a signed JSON object"),
        (signed(b'{"exp": ' + b"9" * 3000 + b"}"), "exp is not a time"),
        (signed(b'{"exp": null}'), "no exp"),
        (signed(b'{"sub": "mia"}'), "no exp"),
        (signed(b'{"exp": 999990}'), "expired"),
        (signed(b'{"exp": 1000600, "nbf": 1000001}'), "not valid yet"),
        (signed(b'{"exp": 1000600, "sub": []}'), "sub is not"),
        (signed(b'{"exp": 1000600}', crit=["exp"], exp=1), "critical"),
        (signed(b'{"exp": 1000600}', b64=True, crit=["b64"]), "critical"),
        (raw({"alg": "HS256", "b64": False}, b'{"exp": 1000600}'), "critical"),
        (raw({"alg": "HS256", "jwk": {"kty": "oct", "k": "YQ"}}, b'{"exp": 1000600}'), "signature"),
        (raw({"alg": "HS256", "kid": "../../dev/null"}, b'{"exp": 1000600}'), "signature"),
        (raw({"alg": "HS256", "kid": {"a": []}}, b'{"exp": 1000600}'), "signature"),
        (token() + ", Bearer " + token(), "not a signed JSON object"),
    ],
)
def test_bad_tokens_are_refused(made: str, reason: str) -> None:
    """
    Nothing but a token that is right in every part is accepted.
    """
    assert reason in refusal(made)


def test_changed_payload_is_refused() -> None:
    """
    Of a token that was accepted just before, too.
    """
    by = verifier()
    head, _, signature = token().split(".")
    by.verify(token())
    payload = urlsafe_b64encode(json.dumps({**CLAIMS, "sub": "eve"}).encode()).decode().rstrip("=")

    assert "signature" in refusal(f"{head}.{payload}.{signature}", by)


def test_issuers_have_their_own_keys() -> None:
    """
    The key of one issuer signs no tokens of another, nor those of nobody.
    """
    a, b, none = ("a" * 64, "b" * 64, "c" * 64)
    by = verifier(
        TokenKey.of(a, "https://a.example"), TokenKey.of(b, "https://b.example"), TokenKey.of(none)
    )

    assert by.verify(token({**CLAIMS, "iss": "https://a.example"}, a)).subject == "mia"
    assert by.verify(token(CLAIMS, none)).subject == "mia"
    assert "signature" in refusal(token({**CLAIMS, "iss": "https://b.example"}, a), by)
    assert "signature" in refusal(token({**CLAIMS, "iss": "https://a.example"}, none), by)
    assert "signature" in refusal(token(CLAIMS, a), by)


def test_issuer_is_required_where_all_keys_have_one() -> None:
    """
    A token without `iss`, or with another one, is refused.
    """
    by = verifier(TokenKey.of(SECRET, "https://a.example"))

    assert "no key" in refusal(token(), by)
    assert "no key" in refusal(token({**CLAIMS, "iss": "https://b.example"}), by)
    assert "no key" in refusal(signed(json.dumps({**CLAIMS, "iss": 7}).encode()), by)


def test_several_keys_make_a_rotation() -> None:
    """
    The old key and the new one are accepted side by side.
    """
    by = verifier(TokenKey.of("o" * 64), TokenKey.of("n" * 64))

    assert by.verify(token(key="o" * 64)).subject == "mia"
    assert by.verify(token(key="n" * 64)).subject == "mia"


@pytest.mark.parametrize(
    ("audience", "accepted"),
    [("chat", True), (["x", "chat"], True), ("x", False), (None, False), ([7], False)],
)
def test_audience_must_be_ours(audience: object, accepted: bool) -> None:
    """
    If `token-audience` is set; without it `aud` may be anything.
    """
    made = signed(json.dumps({**CLAIMS, "aud": audience}).encode())

    assert verifier().verify(made).subject == "mia"
    by = verifier(audiences=frozenset(("chat", "news")))
    if accepted:
        assert by.verify(made).subject == "mia"
    else:
        assert "audience" in refusal(made, by)


def test_clocks_may_differ_by_the_leeway() -> None:
    """
    A token is accepted a little before `nbf` and after `exp`.
    """
    by = verifier(leeway=10)

    by.verify(token({"exp": NOW - 9}))
    by.verify(token({"exp": NOW + 600, "nbf": NOW + 9}))
    assert "expired" in refusal(token({"exp": NOW - 10}), by)
    assert "not valid yet" in refusal(token({"exp": NOW + 600, "nbf": NOW + 11}), by)


def test_known_token_expires_too() -> None:
    """
    A token that is recognized is not accepted behind its `exp`.
    """
    now = [NOW]
    by = TokenVerifier([TokenKey.of(SECRET)], now=lambda: now[0])
    made = token()

    assert by.verify(made) is by.verify(made)
    now[0] += 601
    assert "expired" in refusal(made, by)


def test_number_of_known_tokens_is_bounded() -> None:
    """
    The oldest is forgotten.
    """
    by = verifier()
    first = token({**CLAIMS, "jti": "first"})
    grant = by.verify(first)
    for number in range(MAX_KNOWN):
        by.verify(token({**CLAIMS, "jti": number}))

    assert by.verify(first) is not grant


def test_bytes_of_known_tokens_are_bounded() -> None:
    """
    Tokens of hundreds of patterns push earlier ones out sooner.
    """
    by = verifier()
    first = token({**CLAIMS, "jti": "first"})
    grant = by.verify(first)
    patterns = [f"r{number}" for number in range(700)]
    large = grant.size
    number = 0
    while large <= MAX_KNOWN_BYTES:
        large += by.verify(token({**CLAIMS, "jti": number, "subscribe": patterns})).size
        number += 1

    assert number < MAX_KNOWN / 20
    assert by.verify(first) is not grant


def test_log_names_no_token() -> None:
    """
    Only the reason, `kid` and `iss` are logged, cut to a bounded length.
    """
    events: list[LogEvent] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        made = token({"iss": "https://x.example", "sub": "mia"}, headers={"kid": "k" * 500})
        refusal(made)
    finally:
        globalLogPublisher.removeObserver(observe)

    logged = [event for event in events if "token refused" in str(event.get("log_format"))]
    assert len(logged) == 1
    text = str(logged[0])
    assert "https://x.example" in text
    assert "k" * 101 not in text
    assert "mia" not in text
    assert not any(part in text for part in made.split(".")[1:])


def test_real_time_is_the_default() -> None:
    """
    Tokens of now are accepted.
    """
    made = token({"exp": time.time() + 60})
    assert TokenVerifier([TokenKey.of(SECRET)]).verify(made).expires > time.time()
