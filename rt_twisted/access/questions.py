"""
Questions to the application, and how its responses are read.

The words are those of nginx' `auth_request` and of nchan, whose endpoints work unchanged.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rt_twisted.access.grants import Grant, GrantError, read_grant
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.model.errors import Header, HttpError

SUBSCRIBE, PUBLISH = "subscribe", "publish"  # the actions that the application is asked about
MAX_BODY = 65536  # bytes of a response
MAX_REASON = 8192  # bytes of the body of a refusal that are passed on
REFUSAL_SIZE = 1000  # bytes of a refusal without its headers and body
PASSED = frozenset((401, 403, 404, 410, 429))  # statuses of refusals that are passed on
MAX_KEPT = 300.0  # seconds for which an answer is kept at most
# What a question has of its own: a client could send the application another value.
OWN_HEADERS = frozenset(
    "connection content-length expect host te trailer transfer-encoding upgrade x-action "
    "x-channels x-forwarded-for x-forwarded-host x-forwarded-proto x-original-method "
    "x-original-uri x-transport".split()
)
_CLAIMS = {"x-user": "sub", "x-channels": "channels", "x-subscribe": "subscribe",
           "x-publish": "publish"}  # fmt: skip
_RIGHTS = ("channels", "subscribe", "publish")
_READ = frozenset((*_CLAIMS, "x-expires-in", "content-type", "cache-control"))  # headers
_DIRECTIVE = re.compile(r"(?:^|,)\s*(max-age|stale-if-error)\s*=\s*\"?([0-9]{1,9})\"?", re.I)
_NOT_KEPT = re.compile(r"(?:^|,)\s*(?:no-store|no-cache)\s*(?:,|$|=)", re.I)
_SECONDS = re.compile(r"[0-9]{1,9}")


class UnusableAnswer(Exception):
    """
    The application has responded, but not with a decision. The text says why, without secrets.

    Args:
        reason: the text.
        down: whether the application fails; false if it may be the fault of one client.
    """

    def __init__(self, reason: str, down: bool = True) -> None:
        super().__init__(reason)
        self.down = down


@dataclass(slots=True, unsafe_hash=True)
class Question:
    """
    What the application is asked. Equal questions have equal answers.

    Args:
        action: SUBSCRIBE or PUBLISH.
        transport: of the client: the word of its route.
        channels: all that one request or command names.
        method: of the client's request.
        uri: its path and query, as received.
        headers: of the client that are forwarded: Cookie, Authorization and others.
        host: that the client has requested.
        scheme: http or https.
        address: of the client. The application may decide by it, so it is compared.
        trace: headers that name the client's trace; not compared.
    """

    action: Final[str]
    transport: Final[str]
    channels: Final[tuple[str, ...]]
    method: Final[str]
    uri: Final[str]
    headers: Final[tuple[Header, ...]] = field(repr=False)
    host: Final[str] = ""
    scheme: Final[str] = "http"
    address: Final[str] = ""
    trace: Final[tuple[Header, ...]] = field(default=(), compare=False)

    def digest(self) -> bytes:
        """
        Return 32 bytes that are the same for equal questions alone.
        """
        compared = (self.action, self.transport, self.channels, self.method, self.uri,
                    self.headers, self.host, self.scheme, self.address)  # fmt: skip
        return hashlib.sha256(repr(compared).encode()).digest()

    def request_headers(self) -> tuple[Header, ...]:
        """
        Return the headers of the request to the application.

        Raises:
            HttpError: 400, a channel has a comma or a control character.
        """
        for name in self.channels:
            if "," in name or not name.isprintable():
                raise HttpError(400, f"the application cannot be asked about {name[:100]!r}")
        # Header values are bytes; both ends take them for UTF-8.
        channels = ", ".join(self.channels).encode(errors="replace").decode("latin-1")
        return (
            *self.headers,
            ("X-Original-URI", self.uri),
            ("X-Original-Method", self.method),
            ("X-Channels", channels),
            ("X-Action", self.action),
            ("X-Transport", self.transport),
            ("X-Forwarded-For", self.address),
            ("X-Forwarded-Proto", self.scheme),
            ("X-Forwarded-Host", self.host),
            *self.trace,
        )


@dataclass(slots=True, unsafe_hash=True)
class AppAnswer:
    """
    The decision of the application.

    Args:
        grant: of the client; None if it is refused.
        refusal: how it is refused; None if it is not.
        cookies: the values of `Set-Cookie`, for the client.
        fresh: seconds for which the answer may be given again.
        stale: further seconds for which it may, while the application is down.
    """

    grant: Final[Grant | None]
    refusal: Final[HttpError | None]
    cookies: Final[tuple[str, ...]] = field(default=(), repr=False)
    fresh: Final[float] = 0.0
    stale: Final[float] = 0.0

    @property
    def size(self) -> int:
        """
        Return about how many bytes the answer takes.
        """
        if self.grant is not None:
            return self.grant.size
        assert self.refusal is not None
        headers = sum(len(name) + len(value) for name, value in self.refusal.headers)
        return REFUSAL_SIZE + headers + len(self.refusal.body or b"")


def read_answer(
    question: Question, response: UpstreamResponse, body: bytes, now: float
) -> AppAnswer:
    """
    Read the response of the application.

    Args:
        question: that it answers.
        response: of the application.
        body: of it.
        now: Unix time.

    Raises:
        UnusableAnswer: it decides nothing.
    """
    status = response.status
    cookies, headers = _read_headers(response)
    fresh, stale = _kept(headers.get("cache-control", ""))
    if cookies:  # they are one client's
        fresh = stale = 0.0
    if 200 <= status < 300:
        grant = _read_grant(question, headers, body, now)
        left = max(0.0, grant.expires - now)
        fresh = min(fresh, left)
        return AppAnswer(grant, None, cookies, fresh, min(stale, left - fresh))
    return AppAnswer(None, read_refusal(response, body), cookies, fresh, stale)


def read_refusal(response: UpstreamResponse, body: bytes) -> HttpError:
    """
    Return the error with which a client is answered for a response that is not a 2xx.

    Raises:
        UnusableAnswer: it decides nothing.
    """
    status = response.status
    if 300 <= status < 400:  # a page to log in
        challenge = ("WWW-Authenticate", "Bearer")
        return HttpError(401, "the application asks to log in", [challenge])
    if status not in PASSED:
        raise UnusableAnswer(f"it responds with status {status}", down=status >= 500)
    passed = [(name, response.header(name)) for name in ("www-authenticate", "retry-after")]
    headers = [(name.title(), value) for name, value in passed if value]
    if status == 401 and not headers:
        headers = [("WWW-Authenticate", "Bearer")]
    refusal = HttpError(status, "the application refuses this", headers)
    if body:
        refusal.body = body[:MAX_REASON]
        refusal.content_type = response.header("content-type") or "text/plain; charset=utf-8"
    return refusal


def check_channels(grant: Grant, check: Callable[[Any], object]) -> None:
    """
    Check the channels that a grant names by *check*, which raises HttpError.

    Raises:
        UnusableAnswer: one of them cannot exist.
    """
    for name in grant.channels:
        try:
            check(name)
        except HttpError as error:
            raise UnusableAnswer(f"it names a channel that cannot exist: {error.reason}") from None


def _read_headers(response: UpstreamResponse) -> tuple[tuple[str, ...], dict[str, str]]:
    """
    Return the cookies that a decision sets, and its headers by name; the values of one name are
    joined.

    Raises:
        UnusableAnswer: they name two clients.
    """
    headers: dict[str, str] = {}
    cookies: list[str] = []
    for name, value in response.headers:
        if name == "set-cookie":
            cookies.append(value)
        elif name in _READ:
            if name in headers:
                if name == "x-user" and 200 <= response.status < 300:
                    raise UnusableAnswer("it has two X-User headers")
                value = f"{headers[name]}, {value}"
            headers[name] = value
    return tuple(cookies), headers


def _read_grant(question: Question, headers: dict[str, str], body: bytes, now: float) -> Grant:
    publishes = question.action == PUBLISH
    right = Grant(asked_publish=question.channels) if publishes else Grant(asked=question.channels)
    if not headers:
        return right
    claims: dict[str, Any] = {}
    if body and "json" in headers.get("content-type", ""):
        try:
            claims = json.loads(body)
        except (ValueError, RecursionError):
            raise UnusableAnswer("its body is not JSON") from None
        if type(claims) is not dict:
            raise UnusableAnswer("its body is not a JSON object")
    for name, value in read_claims(headers.get, now).items():
        stated = claims.get(name)
        if name == "exp" and type(stated) in (int, float):
            claims[name] = min(value, stated)
            continue
        if stated is not None and not _is_same(stated, value):
            raise UnusableAnswer(f"its headers and its body differ in {name}")
        claims[name] = value
    try:
        grant = read_grant(claims)
    except GrantError as error:
        raise UnusableAnswer(str(error)) from None
    if not grant.is_valid_at(now, 0.0) and grant.expires != now:  # X-Expires-In: 0 ends at once
        raise UnusableAnswer("its grant has ended, or has not begun", down=False)
    if any(claims.get(right) is not None for right in _RIGHTS):
        return grant
    return replace(grant, asked=right.asked, asked_publish=right.asked_publish)


def _is_same(stated: object, value: object) -> bool:
    """
    Return whether a claim of a body, and that of a header, say the same.
    """
    if type(value) is list and type(stated) is str:
        return [stated] == value
    return (str(stated) if type(stated) is int else stated) == value


def read_claims(header: Callable[[str], str | None], now: float) -> dict[str, Any]:
    """
    Return the claims that the headers of a response have.

    Args:
        header: returns the value of a header, by its name in lower case; None without one.
        now: Unix time.

    Raises:
        UnusableAnswer: the time cannot be read.
    """
    claims: dict[str, Any] = {}
    for name, claim in _CLAIMS.items():
        value = header(name)
        if value is not None:
            text = value.encode("latin-1").decode(errors="replace")
            names = [name for part in text.split(",") if (name := part.strip())]
            claims[claim] = text if claim == "sub" else names
    seconds = header("x-expires-in")
    if seconds is not None:
        if not _SECONDS.fullmatch(seconds):
            raise UnusableAnswer("X-Expires-In is not a number of seconds")
        claims["exp"] = now + int(seconds)
    return claims


def _kept(control: str) -> tuple[float, float]:
    """
    Return for how many seconds an answer with the header `Cache-Control` *control* is kept, and
    for how many more while the application is down (RFC 9111, 5.2.2; RFC 5861, 4).
    """
    if not control or _NOT_KEPT.search(control):
        return 0.0, 0.0
    found = {name.lower(): float(value) for name, value in _DIRECTIVE.findall(control)}
    fresh = min(found.get("max-age", 0.0), MAX_KEPT)
    return fresh, min(found.get("stale-if-error", 0.0), MAX_KEPT)
