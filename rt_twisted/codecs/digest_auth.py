"""
The Digest authentication scheme (RFC 7616, and RFC 2069 without `qop`).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

# Possessive, and only at the start of a word: linear in the text, which strangers send.
_PARAMETER = re.compile(r'(?<![a-zA-Z])([a-zA-Z]++)\s*+=\s*+(?:"((?:[^"\\]|\\.)*+)"|([^\s,"]*+))')
_HASHES = {"MD5": hashlib.md5, "SHA-256": hashlib.sha256}


@dataclass(frozen=True, slots=True)
class DigestAnswer:
    """
    The credentials in an `Authorization` header.

    Args:
        username: as received.
        realm: likewise.
        nonce: of the challenge that it answers.
        uri: that it is for.
        response: the proof, in lower case.
        algorithm: `MD5` or `SHA-256`.
        qop: `auth`; "" for none.
        nc: the number of the request; "" without qop.
        cnonce: of the client; "" without qop.
    """

    username: str
    realm: str
    nonce: str
    uri: str
    response: str
    algorithm: str
    qop: str
    nc: str
    cnonce: str

    def proves(self, method: str, password: bytes) -> bool:
        """
        Return whether the client has *password*, in a time that does not depend on it.
        """
        expected = digest_response(self, method, password)
        return hmac.compare_digest(expected.encode(), self.response.encode(errors="replace"))


def parse_digest(authorization: str | None) -> DigestAnswer | None:
    """
    Return the Digest credentials of an `Authorization` header; None for none, and for
    malformed ones or another algorithm.
    """
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "digest":
        return None
    found = parse_parameters(text)
    algorithm = found.get("algorithm", "MD5").upper() or "MD5"
    qop = found.get("qop", "").lower()
    if algorithm not in _HASHES or qop not in ("", "auth") or not found.get("response"):
        return None
    return DigestAnswer(
        found.get("username", ""),
        found.get("realm", ""),
        found.get("nonce", ""),
        found.get("uri", ""),
        found["response"].lower(),
        algorithm,
        qop,
        found.get("nc", ""),
        found.get("cnonce", ""),
    )


def parse_parameters(text: str) -> dict[str, str]:
    """
    Return the parameters of a challenge or of credentials by their names in lower case.
    """
    found = {}
    for name, quoted, plain in _PARAMETER.findall(text):
        found[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted else plain
    return found


def digest_response(answer: DigestAnswer, method: str, password: bytes) -> str:
    """
    Return the `response` of credentials with *password* (RFC 7616, 3.4.1).

    Args:
        answer: all but the response.
        method: of the request.
        password: of the user.
    """
    make = _HASHES[answer.algorithm]

    def hashed(*parts: bytes) -> bytes:
        return make(b":".join(parts)).hexdigest().encode()

    secret = hashed(_bytes(answer.username), _bytes(answer.realm), password)
    request = hashed(_bytes(method), _bytes(answer.uri))
    middle = [_bytes(answer.nonce)]
    if answer.qop:
        middle += [_bytes(answer.nc), _bytes(answer.cnonce), _bytes(answer.qop)]
    return hashed(secret, *middle, request).decode()


def write_challenge(realm: str, nonce: str, algorithm: str, stale: bool) -> str:
    """
    Return the value of a `WWW-Authenticate` header.
    """
    end = ", stale=true" if stale else ""
    return f'Digest realm="{realm}", nonce="{nonce}", algorithm={algorithm}, qop="auth"{end}'


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
