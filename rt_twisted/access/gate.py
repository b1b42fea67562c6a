"""
The access check: which proof a client needs, where it is found, and the grant that it yields.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol

from rt_twisted.access.grants import ANY_PUBLISHER, ANYONE, Grant
from rt_twisted.codecs.origins import matches_origin
from rt_twisted.codecs.websocket import offered_key
from rt_twisted.model.errors import HttpError

_WORDS = ("anyone", "token")


def token_error(reason: str) -> HttpError:
    """
    Return the error for a token that is not valid (RFC 6750, 3.1).

    Args:
        reason: the end of "the token is not valid: ...".
    """
    challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
    return HttpError(401, f"the token is not valid: {reason}", [challenge])


class TokenRequest(Protocol):
    """
    The part of a request in which a token is found: an `IExchange`, or a copy of it.
    """

    @property
    def method(self) -> str:
        """
        The request method, in upper case.
        """

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case); None if it was not sent.
        """

    def query(self) -> Mapping[str, list[str]]:
        """
        Return the fields of the query.
        """

    def cookies(self) -> Mapping[str, str]:
        """
        Return the cookies by name.
        """


@dataclass(frozen=True, slots=True)
class Gate:
    """
    What the clients of a route need.

    Args:
        allow: `token`, `anyone`, or both: a client without a token is then anyone. A token
            that is not valid is refused, whatever else is listed.
        own: whether the route line itself says so.
        tokens: an `ITokenVerifier`; None if no key is set.
        cookie: name of the cookie that may contain a token; "" for none.
        field: name of the field of a query that may contain one; "" for none.
        origins: whose pages may publish by a token in a cookie.
    """

    allow: tuple[str, ...] = ("anyone",)
    own: bool = False
    tokens: Any = None
    cookie: str = ""
    field: str = ""
    origins: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for word in self.allow:
            if word == "app":
                raise ValueError("the application cannot be asked yet")
            if word not in _WORDS:
                raise ValueError(f"allow is anyone or token, not {word!r}")
        if "token" in self.allow and self.tokens is None:
            raise ValueError("tokens need a token-key")

    @property
    def is_open(self) -> bool:
        """
        Return whether no client needs anything.
        """
        return "token" not in self.allow

    def for_route(self, allow: Iterable[str]) -> Gate:
        """
        Return the gate of a route that has an `allow=` of its own.

        Raises:
            ValueError: one sentence on what is wrong with it.
        """
        return replace(self, allow=tuple(allow), own=True)

    def identify(self, request: TokenRequest, token: str | None = None) -> Grant:
        """
        Return the grant of a subscriber; ANYONE if it needs none.

        Args:
            request: has the token in `Authorization: Bearer`, among the subprotocols of a
                websocket (`offered_key`), in the cookie, or in the query of a GET; the
                first of these counts.
            token: one that the client has sent in another way, which counts before those.

        Raises:
            HttpError: 401, there is no token, or it is not valid.
        """
        if self.is_open:
            return ANYONE
        found = token or self._bearer(request) or self._cookie(request)
        if not found and self.field and request.method in ("GET", "HEAD"):
            found = (request.query().get(self.field) or [""])[-1]
        if found:
            return self.verify(found)
        if "anyone" in self.allow:
            return ANYONE
        _refuse()

    def identify_publisher(self, request: TokenRequest) -> Grant:
        """
        Return the grant of a publisher on a route that has `allow=`, with a token as for
        `identify`, but not in the query.

        A browser adds a cookie to the requests of any page: with one, the request needs the
        `Origin` of this host, or one that the setting `origins` names.

        Raises:
            HttpError: 401, there is no token, or it is not valid; 403, a page of another
                host sends the request.
        """
        if self.is_open:
            return ANY_PUBLISHER
        found = self._bearer(request)
        if not found:
            found = self._cookie(request)
            if found and not self._is_own_page(request):
                raise HttpError(403, "a cookie permits publishing only to pages of this host")
        if found:
            return self.verify(found)
        if "anyone" in self.allow:
            return ANY_PUBLISHER
        _refuse()

    def has_publisher_token(self, request: TokenRequest) -> bool:
        """
        Return whether *request* has a token that `identify_publisher` would verify.
        """
        return not self.is_open and bool(self._bearer(request) or self._cookie(request))

    def verify(self, token: str) -> Grant:
        """
        Return the grant of *token*.

        Raises:
            HttpError: 401, it is not valid, or tokens are not accepted here.
        """
        if self.is_open:
            raise HttpError(401, "tokens are not accepted here")
        grant: Grant = self.tokens.verify(token)
        return grant

    def seconds_left(self, grant: Grant) -> float:
        """
        Return for how many seconds *grant* is valid; infinity for no end. May be negative.
        """
        return grant.expires - self.tokens.now() if self.tokens is not None else grant.expires

    def _bearer(self, request: TokenRequest) -> str:
        authorization = request.header("authorization")
        if authorization is not None and authorization[:7].lower() == "bearer ":
            return authorization[7:].strip()
        offered = offered_key(request.header("sec-websocket-protocol"))
        return offered.decode("latin-1") if offered else ""

    def _cookie(self, request: TokenRequest) -> str:
        return request.cookies().get(self.cookie, "") if self.cookie else ""

    def _is_own_page(self, request: TokenRequest) -> bool:
        origin = request.header("origin")
        if origin is None:
            return False
        host = request.header("host")
        return origin.partition("://")[2] == host or matches_origin(self.origins, origin)


def _refuse() -> NoReturn:
    raise HttpError(401, "a token is needed", [("WWW-Authenticate", "Bearer")])
