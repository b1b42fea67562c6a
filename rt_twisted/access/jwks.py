"""
Key sets: the public keys of an issuer as JSON (JWKS, RFC 7517).
"""

from __future__ import annotations

import json
from typing import Any

from jwt import PyJWK
from jwt.exceptions import PyJWTError

from rt_twisted.access.tokens import TokenKey, algorithms_of

MAX_KEYS = 100  # of one set; further ones are ignored


def parse_key_set(data: bytes, issuer: str) -> tuple[TokenKey, ...]:
    """
    Return the keys of a set that verify signatures.

    Symmetric keys, keys for encryption, RSA keys that are too short, and those that cannot be
    read are ignored.

    Args:
        data: the JSON text.
        issuer: the only `iss` whose tokens the keys verify; "" for those of no other key.

    Raises:
        ValueError: it is not a key set.
    """
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("it is not JSON") from None
    keys = found.get("keys") if type(found) is dict else None
    if type(keys) is not list:
        raise ValueError('it is not an object with "keys"')
    read = [_read(key, issuer) for key in keys[:MAX_KEYS] if type(key) is dict]
    return tuple([key for key in read if key is not None])


def _read(fields: dict[str, Any], issuer: str) -> TokenKey | None:
    """
    Return the key with *fields*; None if it is ignored.
    """
    operations = fields.get("key_ops")
    if fields.get("kty") == "oct" or fields.get("use", "sig") != "sig":
        return None
    if operations is not None and (type(operations) is not list or "verify" not in operations):
        return None
    try:
        # The algorithm is decided here: PyJWK needs one, and takes any.
        named = {name: value for name, value in fields.items() if name != "alg"}
        made = PyJWK(named, _any(fields)).key
        public = made.public_key() if hasattr(made, "public_key") else made
        algorithms = algorithms_of(public)
        source = json.dumps(fields, sort_keys=True)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if fields.get("alg") is not None:
        algorithms = tuple([name for name in algorithms if name == fields["alg"]])
    kid = fields.get("kid")
    name = kid if type(kid) is str else ""
    return TokenKey(source, issuer, algorithms, public, name) if algorithms else None


def _any(fields: dict[str, Any]) -> str:
    """
    Return an algorithm that keys of this type can have.
    """
    kinds = {"RSA": "RS256", "OKP": "EdDSA"}
    curves = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
    if fields.get("kty") == "EC":
        return curves[fields["crv"]]
    return kinds[fields["kty"]]
