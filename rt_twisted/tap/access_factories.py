"""
Access control that the settings describe: keys, tokens, and the application that is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rt_twisted.access.authorizer import Authorizer, Authorizers
from rt_twisted.access.gate import Gate
from rt_twisted.access.key_sets import KeySets
from rt_twisted.access.revocations import Revocations
from rt_twisted.model.load_object import load_object
from rt_twisted.tap.setting_errors import error_at

# By name, as they need PyJWT, which daemons without tokens do not load.
_TOKEN_KEY = "rt_twisted.access.tokens.TokenKey"
_TOKEN_VERIFIER = "rt_twisted.access.tokens.TokenVerifier"
_GRIP_KEY = "rt_twisted.access.grip_key.GripKey"


def make_grip_key(options: Mapping[str, Any]) -> Any:
    """
    Build the `GripKey` of the settings; None without one.
    """
    given = options["grip-key"]
    if given is None:
        return None
    try:
        return load_object(_GRIP_KEY).of(
            given.source, given.issuer, options["token-leeway"], options["grip-ids"]
        )
    except ValueError as error:
        raise error_at(options, "grip-key", -1, f"must be {error}") from None


def make_gate(
    options: Mapping[str, Any],
    authorizers: Authorizers,
    key_sets: KeySets,
    revocations: Revocations,
    count: Callable[[], object] = lambda: None,
) -> Gate:
    """
    Build the access check of subscribers.

    Args:
        options: the settings.
        authorizers: ask applications; they outlive reloads.
        key_sets: those of issuers; they outlive reloads too.
        revocations: of tokens; likewise.
        count: called for each token that is verified.
    """
    keys = []
    for given in options["token-key"]:
        try:
            keys.append(load_object(_TOKEN_KEY).of(given.source, given.issuer))
        except ValueError as error:
            raise error_at(options, "token-key", len(keys), f"must be {error}") from None
    audiences = frozenset(options["token-audience"] or ())
    verifier = None
    found = [key_sets.get(url, issuer) for url, issuer in options["token-jwks"]]
    if keys or found:
        leeway = options["token-leeway"]
        verifier = load_object(_TOKEN_VERIFIER)(
            keys, audiences, leeway, key_sets=found, count=count
        )
    limits = options["authorize-timeout"], options["authorize-concurrency"]

    def find_app(url: str) -> Authorizer:
        return authorizers.get(url, *limits)

    try:
        return Gate(
            options["allow"],
            tokens=verifier,
            cookie=options["token-cookie"],
            query_field=options["token-query"] or "",
            origins=options["origins"] - {"*", "null"},
            app=find_app(options["authorize"]) if options["authorize"] else None,
            find_app=find_app,
            revocations=revocations,
            forwarded=tuple(sorted(map(str.lower, options["authorize-headers"] or ()))),
        )
    except ValueError as error:
        raise error_at(options, "allow", -1, f"= {' '.join(options['allow'])}: {error}") from None
