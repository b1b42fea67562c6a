"""
The access check: which proof a client needs, where it is found, and the grant that it yields.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Protocol

from rt_twisted.access.grants import ANY_PUBLISHER, ANYONE, Grant
from rt_twisted.access.questions import Question
from rt_twisted.codecs.basic_auth import basic_password
from rt_twisted.codecs.origins import matches_origin
from rt_twisted.codecs.query import cookie_values
from rt_twisted.codecs.trace_context import TRACE, trace_headers
from rt_twisted.codecs.websocket_keys import offered_key
from rt_twisted.model.errors import HttpError

MAX_COOKIES = 4  # of one name; more are refused, as each is verified
_WORDS = ("anyone", "token", "app")


def token_error(reason: str) -> HttpError:
    """
    Return the error for a token that is not valid (RFC 6750, 3.1).

    Args:
        reason: the end of "the token is not valid: ...".
    """
    challenge = ("WWW-Authenticate", 'Bearer error="invalid_token"')
    return HttpError(401, f"the token is not valid: {reason}", [challenge])


class GuardedRequest(Protocol):
    """
    The part of a request in which proof is found: an `IExchange`, or a copy of it.
    """

    target: bytes
    address: str
    scheme: str

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
        allow: `token`, `app`, `anyone`: a client without a token is decided about by the
            application, or else is anyone. A token that is not valid is refused, whatever else
            is listed.
        own: whether the route line itself says so.
        tokens: an `ITokenVerifier`; None if no key is set.
        cookie: name of the cookie that may contain a token; "" for none.
        query_field: name of the field of a query that may contain one; "" for none.
        origins: whose pages may publish by a token in a cookie.
        app: an `IAuthorizer`; None if no application is asked.
        find_app: returns the authorizer for a URL; raises ValueError.
        revocations: `Revocations`; None if no token can be revoked.
        forwarded: names of headers that the application gets, beside Cookie and Authorization.

    Attributes:
        asks: whether the application decides about clients without a token.
        is_open: whether no client needs anything.
    """

    allow: tuple[str, ...] = ("anyone",)
    own: bool = False
    tokens: Any = None
    cookie: str = ""
    query_field: str = ""
    origins: frozenset[str] = frozenset()
    app: Any = None
    find_app: Callable[[str], Any] | None = field(default=None, compare=False)
    forwarded: tuple[str, ...] = ()
    revocations: Any = field(default=None, compare=False)
    asks: bool = field(init=False, compare=False)
    is_open: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        for word in self.allow:
            if word not in _WORDS:
                raise ValueError(f"allow is anyone, token or app, not {word!r}")
        if "token" in self.allow and self.tokens is None:
            raise ValueError("tokens need a token-key")
        if "app" in self.allow and self.app is None:
            raise ValueError("allow=app needs authorize, the URL of the application")
        object.__setattr__(self, "asks", "app" in self.allow)
        object.__setattr__(self, "is_open", "token" not in self.allow and not self.asks)

    def for_route(self, allow: Iterable[str] | None, url: str | None = None) -> Gate:
        """
        Return the gate of a route.

        Args:
            allow: its own `allow=`; None for the setting.
            url: its own `authorize=`; None for the setting.

        Raises:
            ValueError: one sentence on what is wrong with them.
        """
        app = self.app
        if url is not None:
            if self.find_app is None:
                raise ValueError("no application can be asked here")
            try:
                app = self.find_app(url)
            except ValueError as error:
                raise ValueError(f"authorize= must be {error}") from None
        if allow is None:
            return replace(self, app=app)
        return replace(self, allow=tuple(allow), own=True, app=app)

    def question(
        self, request: GuardedRequest, action: str, transport: str, channels: Sequence[str]
    ) -> Question:
        """
        Return what the application is asked about a client without a token.

        Args:
            request: of the client.
            action: SUBSCRIBE or PUBLISH.
            transport: the word of the route.
            channels: that the request names; may be empty.
        """
        headers = []
        for name in ("cookie", "authorization", *self.forwarded):
            value = request.header(name)
            if value is not None and name not in TRACE:
                headers.append((name.title(), value))
        return Question(
            action,
            transport,
            tuple(channels),
            request.method,
            request.target.decode("latin-1"),
            tuple(headers),
            request.header("host") or "",
            request.scheme,
            request.address,
            trace_headers(request.header("traceparent"), request.header("tracestate")),
        )

    def identify(self, request: GuardedRequest, token: str | None = None) -> Grant | None:
        """
        Return the grant of a subscriber; ANYONE if it needs none; None if the application
        decides.

        Args:
            request: has the token in `Authorization: Bearer`, among the subprotocols of a
                websocket (`offered_key`), in the cookie, or in the query of a GET; the
                first of these counts.
            token: one that the client has sent in another way, which counts before those.

        Raises:
            HttpError: 401, there is no token, or it is not valid.
        """
        if "token" not in self.allow:
            return None if self.asks else ANYONE
        found = token or self._bearer(request) or self._cookie(request)
        if not found and self.query_field and request.method in ("GET", "HEAD"):
            found = (request.query().get(self.query_field) or [""])[-1]
        if found:
            return self.verify(found)
        if self.asks:
            return None
        if "anyone" in self.allow:
            return ANYONE
        _refuse()

    def identify_publisher(self, request: GuardedRequest, basic: bool = False) -> Grant | None:
        """
        Return the grant of a publisher on a route that has `allow=`, with a token as for
        `identify`, but not in the query; None if the application decides.

        A browser adds a cookie to the requests of any page: with one, the request needs the
        `Origin` of this host, or one that the setting `origins` names.

        Args:
            request: of the publisher.
            basic: whether the token may be the password of `Authorization: Basic`, as programs
                that send live streams can set nothing else. Only from requests without Origin.

        Raises:
            HttpError: 401, there is no token, or it is not valid; 403, a page of another
                host sends the request.
        """
        if "token" not in self.allow:
            if not self.asks:
                return ANY_PUBLISHER
            self._check_cookie(request, request.header("cookie"))
            return None
        found = self._bearer(request)
        if not found and basic and request.header("origin") is None:
            found = (basic_password(request.header("authorization")) or b"").decode("latin-1")
        if not found:
            found = self._cookie(request)
            self._check_cookie(request, found)
        if found:
            return self.verify(found)
        if self.asks:
            self._check_cookie(request, request.header("cookie"))
            return None
        if "anyone" in self.allow:
            return ANY_PUBLISHER
        _refuse()

    def has_publisher_token(self, request: GuardedRequest) -> bool:
        """
        Return whether *request* has a token that `identify_publisher` would verify.
        """
        if "token" not in self.allow:
            return False
        return bool(self._bearer(request) or self._cookie(request))

    def verify(self, token: str) -> Grant:
        """
        Return the grant of *token*.

        Raises:
            HttpError: 401, it is not valid, or tokens are not accepted here.
        """
        if "token" not in self.allow:
            raise HttpError(401, "tokens are not accepted here")
        grant: Grant = self.tokens.verify(token)
        if self.revocations is not None:
            self.revocations.check(grant)
        return grant

    def seconds_left(self, grant: Grant) -> float:
        """
        Return for how many seconds *grant* is valid; infinity for no end. May be negative.

        A token may have been revoked while its client was queued.
        """
        if self.revocations is not None and self.revocations.covers(grant):
            return 0.0
        clock = self.tokens or self.app
        return grant.expires - (time.time() if clock is None else clock.now())

    def _check_cookie(self, request: GuardedRequest, cookie: str | None) -> None:
        """
        Check that a request that is to publish by *cookie*, if it has one and no
        `Authorization: Bearer`, is not sent by a page of another host.

        Raises:
            HttpError: 403, it is.
        """
        # A page can offer subprotocols, but not set this header without a permission (CORS).
        by_header = (request.header("authorization") or "")[:7].lower() == "bearer "
        if cookie and not by_header and not self._is_own_page(request):
            raise HttpError(403, "a cookie permits publishing only to pages of this host")

    def _bearer(self, request: GuardedRequest) -> str:
        authorization = request.header("authorization")
        if authorization is not None and authorization[:7].lower() == "bearer ":
            return authorization[7:].strip()
        offered = offered_key(request.header("sec-websocket-protocol"))
        return offered.decode("latin-1") if offered else ""

    def _cookie(self, request: GuardedRequest) -> str:
        """
        Return the token in the cookie; "" without one.

        Raises:
            HttpError: see `_one_client`.
        """
        if not self.cookie:
            return ""
        if (request.header("cookie") or "").count(self.cookie) > 1:
            values = cookie_values(request.header("cookie") or "", self.cookie)
            if len(values) > 1 and self.tokens is not None:
                return self._one_client(values)
        return request.cookies().get(self.cookie, "")

    def _one_client(self, values: Sequence[str]) -> str:
        """
        Return the valid token of *values* that expires last; any if none is valid.

        Raises:
            HttpError: 401, there are valid tokens of two clients, or too many to verify all: a
                page of another host of the domain may have set some of them; 503, it cannot be
                decided now whether one is valid.
        """
        challenge = ("WWW-Authenticate", "Bearer")
        if len(values) > MAX_COOKIES:
            reason = f"there are more than {MAX_COOKIES} cookies {self.cookie}"
            raise HttpError(401, reason, [challenge])
        grants: list[tuple[Grant, str]] = []
        for value in values:
            try:
                grants.append((self.verify(value), value))
            except HttpError as error:
                if error.status != 401:  # it may be another client's
                    raise
        if len({grant.subject for grant, _ in grants}) > 1:
            raise HttpError(401, "there are cookies of two clients", [challenge])
        return max(grants, key=lambda one: one[0].expires)[1] if grants else values[0]

    def _is_own_page(self, request: GuardedRequest) -> bool:
        origin = request.header("origin")
        if origin is None:
            return False
        host = request.header("host")
        return origin.partition("://")[2] == host or matches_origin(self.origins, origin)


def _refuse() -> NoReturn:
    raise HttpError(401, "a token is needed", [("WWW-Authenticate", "Bearer")])
