"""
The command `python -m rt_twisted.token`: tokens made and explained by the settings.
"""

# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rt_twisted.access.jwks import parse_key_set
from rt_twisted.access.key_sets import MAX_SET, TIMEOUT
from rt_twisted.access.tokens import TokenKey, TokenVerifier, algorithms_of
from rt_twisted.model.errors import HttpError
from rt_twisted.tap.options import Options
from rt_twisted.tap.values import seconds

LONGEST = 86400.0  # seconds: a token that is made by hand does not stay


@dataclass(frozen=True, slots=True)
class NamedKey:
    """
    A key of the settings, and what the output calls it.

    Args:
        name: such as `token-key 1`.
        key: verifies tokens.
    """

    name: str
    key: TokenKey


def main(arguments: Sequence[str]) -> int:
    """
    Run the command.

    Args:
        arguments: of the command line. Those that are not the command's are settings.

    Returns:
        The exit status: 1 for a token that is refused, or that cannot be made.
    """
    parser = argparse.ArgumentParser(
        prog="python -m rt_twisted.token",
        description="Make or explain a token by the settings; others, such as --token-key, are "
        "settings of the daemon.",
    )
    parser.add_argument("--config", "-c", help="file with the settings of the daemon")
    parser.add_argument("--sub", default="", help="who the client is")
    for name, text in (
        ("channel", "to subscribe to, or with --explain, that is checked"),
        ("subscribe", "pattern of channels to subscribe to"),
        ("publish", "pattern of channels to publish to"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], help=f"{text}; repeatable")
    parser.add_argument("--for", dest="time", default="1h", help="how long it is valid, to 1d")
    parser.add_argument("--key", help="file with a private key (PEM); else the first secret signs")
    parser.add_argument("--issuer", default="", help="iss; else that of the key")
    parser.add_argument("--explain", metavar="TOKEN", help="say what a token permits, and why not")
    given, settings = parser.parse_known_args(arguments)
    options = Options()
    if given.config:
        settings.append(f"--config={given.config}")
    options.parseOptions(settings)
    if given.explain:
        return explain(given.explain.strip(), options, given.channel)
    try:
        print(make(given, options))
    except (OSError, ValueError) as error:
        print(f"no token: {error}")
        return 1
    return 0


def make(given: Any, options: Any) -> str:
    """
    Return a token.

    Args:
        given: of the command line.
        options: the settings.

    Raises:
        ValueError: one sentence on why there is none.
    """
    valid = seconds(given.time)
    if not 0 < valid <= LONGEST:
        raise ValueError("--for is a time of up to 1d")
    now = int(time.time())
    claims: dict[str, Any] = {"iat": now, "exp": now + int(valid), "jti": secrets.token_hex(8)}
    named = {
        "sub": given.sub,
        "channels": given.channel,
        "subscribe": given.subscribe,
        "publish": given.publish,
        "aud": list(options["token-audience"] or ())[:1],
    }
    claims.update({name: value for name, value in named.items() if value})
    if given.key:
        key: Any = load_pem_private_key(Path(given.key).read_bytes(), None)
        algorithm, issuer = algorithms_of(key.public_key())[0], given.issuer
    else:
        found = [one for one in options["token-key"] if "-----BEGIN" not in one.source]
        if not found:
            raise ValueError("no token-key is a secret; sign with --key FILE")
        key, algorithm, issuer = found[0].source, "HS256", given.issuer or found[0].issuer
        TokenKey.of(key)
    if issuer:
        claims["iss"] = issuer
    return str(jwt.encode(claims, key, algorithm))


def explain(token: str, options: Any, channels: Sequence[str]) -> int:
    """
    Print what *token* says, which key verifies it, and what it permits.

    Returns:
        0 if the daemon accepts it for all of *channels*, else 1.
    """
    try:
        print("head:", json.dumps(jwt.get_unverified_header(token)))
        claims = jwt.decode(token, options={"verify_signature": False})
        print("claims:", json.dumps(claims))
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        print(f"this is not a token: {error}")
        return 1
    expires = claims.get("exp")
    if isinstance(expires, int | float):
        print(f"exp: in {expires - time.time():.0f} seconds")
    keys, audiences = _keys(options), frozenset(options["token-audience"] or ())
    leeway = options["token-leeway"]
    for named in keys:
        kid = jwt.get_unverified_header(token).get("kid")
        if named.key.kid and kid is not None and kid != named.key.kid:
            print(f"{named.name}: has another kid")
            continue
        try:
            TokenVerifier([named.key], audiences, leeway).verify(token)
        except HttpError as error:
            print(f"{named.name}: {error.reason}")
        else:
            print(f"{named.name}: verifies it")
    try:
        grant = TokenVerifier([named.key for named in keys], audiences, leeway).verify(token)
    except HttpError as error:
        print(f"refused: {error.reason}")
        return 1
    permitted = True
    for channel in channels:
        covered, may_publish = grant.covers(channel), grant.permits(channel)
        print(f"channel {channel}: subscribe {_word(covered)}, publish {_word(may_publish)}")
        permitted = permitted and covered
    print("accepted" if permitted else "refused: a channel is not covered")
    return 0 if permitted else 1


def _word(permitted: bool) -> str:
    return "yes" if permitted else "no"


def _keys(options: Any) -> list[NamedKey]:
    found = [
        NamedKey(f"token-key {number}", TokenKey.of(one.source, one.issuer))
        for number, one in enumerate(options["token-key"], 1)
    ]
    for url, issuer in options["token-jwks"]:
        try:
            with urlopen(url, timeout=TIMEOUT) as response:
                keys = parse_key_set(response.read(MAX_SET), issuer)
        except (OSError, ValueError) as error:
            print(f"{url}: {error}")
            continue
        found += [NamedKey(f"{url} {key.kid or '-'}", key) for key in keys]
    return found
