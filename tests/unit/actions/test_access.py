"""
Routes that need a token: who gets in, which channels are covered, and how streams end.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jwt
import pytest
from twisted.internet.task import Clock
from zope.interface import implementer

from rt_twisted.access.gate import Gate
from rt_twisted.access.keys import Key, Keys
from rt_twisted.access.revocations import Revocation, Revocations
from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.http.interfaces import IExchange
from rt_twisted.media.unit import Head, Kind, Track, Unit, write
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.message import Draft
from rt_twisted.routes import Routes, parse_route
from tests.defaults import make_context, make_hub, make_server
from tests.unit.http.clients import Caller, get, post, status_of

SECRET = "0123456789abcdef" * 4
NOW = 1_000_000
LINES = (
    "^/sse$ sse:allow=token",
    "^/raw$ sseraw:allow=token",
    "^/stream$ stream:allow=token",
    "^/poll$ poll:allow=token",
    "^/fixed$ sse:subscribe=secret,allow=token",
    r"^/room/(\w+)$ sse:subscribe=room-$1,allow=token",
    "^/me$ sse:subscribe=user-${grant[sub]},allow=token",
    "^/mine$ stream:subscribe=user-${grant[sub]}-*,pattern=yes,allow=token",
    "^/either$ sse:allow=token,allow=anyone",
    "^/open$ sse",
    "^/mp3$ stream:as=mp3,allow=token",
    "^/keys$ publish",
    "^/publish$ publish:allow=token",
    r"^/say/(\w+)$ publish:channel=room-$1,allow=token",
    "^/note$ publish:channel=notes-${grant[sub]},allow=token",
    "^/anyone$ publish:channel=guests,allow=anyone",
)


@implementer(IAction)
@dataclass(frozen=True)
class Unchecked:
    """
    An action of a plug-in that was written before there were grants.
    """

    counts_as: ClassVar[str] = SUBSCRIBERS
    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> None:
        exchange.answer(200)


class Daemon:
    """
    A server with LINES, whose tokens are signed by SECRET.
    """

    def __init__(self, keys: tuple[Key, ...] = (), **gate: Any) -> None:
        self.clock = Clock()
        self.hub = make_hub(MemoryBroker(self.clock, "e"), self.clock)
        tokens = TokenVerifier([TokenKey.of(SECRET)], now=lambda: NOW + self.clock.seconds())
        gates = Gate(tokens=tokens, cookie="t", query_field="access", **gate)
        context = make_context(self.hub, self.clock, gate=gates, publish_keys=Keys(keys))
        self.server = make_server(self.clock, Routes(parse_route(x, context) for x in LINES).find)
        self.server.start()
        self.hub.start()

    def get(self, path: str, token: str = "", headers: str = "") -> Caller:
        if token:
            headers += f"Authorization: Bearer {token}\r\n"
        caller = Caller(self.server).send(get(path.encode(), headers.encode()))
        self.clock.advance(0)
        return caller

    def publish(
        self, path: str, token: str = "", headers: str = "", body: str = "message=x"
    ) -> int:
        if token:
            headers += f"Authorization: Bearer {token}\r\n"
        headers += "Content-Type: application/x-www-form-urlencoded\r\n"
        caller = Caller(self.server).send(post(body.encode(), path.encode(), headers.encode()))
        self.clock.advance(0)
        return status_of(caller)

    def send(self, channel: str, text: bytes) -> None:
        self.hub.publish([Draft(channel, text)])
        self.clock.advance(0)


def token(seconds: float = 600, **claims: Any) -> str:
    return jwt.encode({"sub": "mia", "exp": NOW + seconds, **claims}, SECRET)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.mark.parametrize("path", ["/sse", "/raw", "/stream", "/poll"])
def test_streams_need_a_token_that_covers_the_channel(daemon: Daemon, path: str) -> None:
    """
    401 without a token or with a wrong one, 403 for a channel that is not covered.
    """
    good = token(subscribe=["news*"])
    refused = daemon.get(f"{path}?channels=news")

    assert status_of(refused) == 401
    assert b"WWW-Authenticate: Bearer" in refused.written()
    assert status_of(daemon.get(f"{path}?channels=news", "nonsense")) == 401
    assert status_of(daemon.get(f"{path}?channels=news,secret", good)) == 403
    assert b"200 OK" in daemon.get(f"{path}?channels=news,news-2&history=1", good).written()


def test_channels_of_the_grant_are_the_default(daemon: Daemon) -> None:
    """
    A client that names no channel gets those of its token.
    """
    caller = daemon.get("/sse", token(channels=["news", "alerts"]))
    daemon.send("alerts", b"hello")

    assert b"data: hello" in caller.written()


def test_fixed_channels_are_the_routes_permission(daemon: Daemon) -> None:
    """
    What the route names by text of its own needs a valid token, and no claim.
    """
    assert status_of(daemon.get("/fixed")) == 401
    assert b"200 OK" in daemon.get("/fixed", token()).written()


def test_values_of_the_client_must_be_covered(daemon: Daemon) -> None:
    """
    What a client inserts by the path is checked as if it had named the channel.
    """
    good = token(subscribe=["room-7"])

    assert b"200 OK" in daemon.get("/room/7", good).written()
    assert status_of(daemon.get("/room/8", good)) == 403


def test_claims_make_channels(daemon: Daemon) -> None:
    """
    `${grant[sub]}` is a channel, or a pattern, for each user.
    """
    me, mine = daemon.get("/me", token()), daemon.get("/mine", token())
    daemon.send("user-mia", b"hello mia")
    daemon.send("user-eve", b"hello eve")
    daemon.send("user-mia-7", b"pattern")

    assert b"hello mia" in me.written()
    assert b"hello eve" not in me.written()
    assert b"pattern" in mine.written()


@pytest.mark.parametrize("path", ["/me", "/mine"])
@pytest.mark.parametrize("subject", ["", "a\nb", "*", "\ud800"])
def test_claims_that_make_no_channel_are_refused(daemon: Daemon, path: str, subject: str) -> None:
    """
    403, and never a channel with an empty part, or a pattern that the token chooses.
    """
    if path == "/me" and subject == "*":
        return  # a channel may be called user-*
    assert status_of(daemon.get(path, token(sub=subject))) == 403


def test_a_wrong_token_is_never_anyone(daemon: Daemon) -> None:
    """
    With `allow=token,allow=anyone` no token is needed; one that is sent must be valid.
    """
    assert b"200 OK" in daemon.get("/either?channels=a").written()
    assert status_of(daemon.get("/either?channels=a", "nonsense")) == 401
    assert status_of(daemon.get("/either?channels=a", token())) == 403


def test_nothing_changes_without_allow(daemon: Daemon) -> None:
    """
    Routes for anyone do not read tokens.
    """
    assert b"200 OK" in daemon.get("/open?channels=a", "nonsense").written()


def test_places_of_a_token(daemon: Daemon) -> None:
    """
    The header counts before the cookie, and that before the query.
    """
    good, other = token(channels=["a"]), token(channels=["b"])

    def status(query: str = "", header: str = "", cookie: str = "") -> bool:
        headers = f"Cookie: t={cookie}\r\n" if cookie else ""
        path = "/sse?channels=a" + (f"&access={query}" if query else "")
        return b"200 OK" in daemon.get(path, header, headers).written()

    assert status(query=good)
    assert status(cookie=good)
    assert status(query=other, cookie=good)
    assert status(query=other, cookie=other, header=good)
    assert not status(query=good, cookie=other)
    assert not status(cookie=good, header=other)


def test_cookies_of_two_clients_are_refused(daemon: Daemon) -> None:
    """
    A page of another host of the domain may have set one of them, whichever is sent first. One
    that is left over from before is ignored.
    """
    mia, eve = token(channels=["a"]), token(channels=["a"], sub="eve")
    old, longer = token(channels=["b"], exp=NOW - 9), token(channels=["a"], exp=NOW + 9999)

    def status(*cookies: str) -> int:
        text = "; ".join(f"t={cookie}" for cookie in cookies)
        return status_of(daemon.get("/sse?channels=a", "", f"Cookie: x=1; {text}; y=t\r\n"))

    assert status(mia) == status(mia, mia) == status(old, mia) == status(mia, old) == 200
    assert status(token(channels=["b"]), longer) == status(longer, token(channels=["b"])) == 200
    assert status(mia, "nonsense") == 200
    assert status(mia, eve) == status(eve, mia) == status(old, eve, mia) == 401
    assert status("nonsense", old) == status("", old) == 401


def test_cookies_that_are_not_all_verified_are_refused(daemon: Daemon) -> None:
    """
    A page of another host could hide the client's own cookie behind many of its own.
    """
    mia = token(channels=["a"])
    eve = [token(channels=["a"], sub="eve", jti=str(number)) for number in range(4)]

    def status(*cookies: str) -> int:
        text = "; ".join(f"t={cookie}" for cookie in cookies)
        return status_of(daemon.get("/sse?channels=a", "", f"Cookie: {text}\r\n"))

    assert status(*eve) == 200
    assert status(*eve, mia) == status(mia, *eve) == 401
    assert status(*eve, "x") == 401


def test_a_revoked_cookie_is_ignored() -> None:
    """
    As one that has expired; the valid one of the same client counts.
    """
    revocations = Revocations(lambda: NOW)
    daemon = Daemon(revocations=revocations)
    good, longer = token(channels=["a"]), token(9999, channels=["a"], jti="lost")
    eve = token(channels=["a"], jti="eve", sub="eve")
    until = NOW + 999
    revocations.merge([Revocation(jti=jti, until=until, changed=NOW) for jti in ("lost", "eve")])

    def status(*cookies: str) -> int:
        text = "; ".join(f"t={cookie}" for cookie in cookies)
        return status_of(daemon.get("/sse?channels=a", "", f"Cookie: {text}\r\n"))

    assert status(good, longer) == status(longer, good) == status(eve, good) == 200
    assert status(longer) == status(longer, eve) == 401
    revocations.ready = False
    assert status(good, longer) == 503


def test_two_bearer_headers_are_refused(daemon: Daemon) -> None:
    """
    A request with two tokens is refused, as neither of them has precedence; not even a cookie
    counts then.
    """
    good = token(channels=["a"])
    two = f"Authorization: Bearer {good}\r\nCookie: t={good}\r\n"

    assert status_of(daemon.get("/sse", good, two)) == 401
    assert daemon.publish("/say/7", token(publish=["room-7"]), two) == 401


def test_expired_token_is_refused(daemon: Daemon) -> None:
    """
    401 from `exp` on.
    """
    good = token(seconds=60, channels=["a"])
    daemon.clock.advance(61)

    assert status_of(daemon.get("/sse", good)) == 401


def test_stream_is_notified_and_ends_before_its_token(daemon: Daemon) -> None:
    """
    30 s before `exp` comes the event, then `retry` and the end, before `exp`.
    """
    caller = daemon.get("/sse", token(seconds=100, channels=["a"]))
    daemon.clock.pump([1.0] * 68)
    assert b"expire" not in caller.written()
    daemon.send("a", b"hello")
    daemon.clock.pump([1.0] * 3)
    event = caller.written().partition(b"event: expire\ndata: ")[2].partition(b"\n")[0]
    notice = json.loads(event)
    assert 28 <= notice["seconds"] <= 30
    assert notice["position"] == "e.1"
    assert caller.open

    daemon.clock.pump([1.0] * 28)
    assert not caller.open
    assert b"retry: " in caller.written().partition(b"event: expire")[2]
    assert daemon.hub.current_metrics().closed == {"expired": 1}


def test_notice_comes_at_once_for_a_short_token(daemon: Daemon) -> None:
    """
    The stream does not end right behind the notice, so that a page can renew its cookie.
    """
    caller = daemon.get("/sse", token(seconds=20, channels=["a"]))
    daemon.clock.pump([1.0] * 2)
    assert b"event: expire" in caller.written()
    daemon.clock.pump([1.0] * 8)
    assert caller.open
    daemon.clock.pump([1.0] * 9)
    assert not caller.open


def test_raw_stream_ends(daemon: Daemon) -> None:
    """
    A stream of plain bytes has no place for a notice.
    """
    caller = daemon.get("/stream", token(seconds=60, channels=["a"]))
    daemon.clock.pump([1.0] * 60)

    assert not caller.open
    assert caller.written().endswith(b"0\r\n\r\n")


def test_track_of_a_live_stream_ends(daemon: Daemon) -> None:
    """
    One track without a container is a stream of plain bytes, too.
    """
    caller = daemon.get("/mp3", token(seconds=60, channels=["a"]))
    unit = Unit(1, 0, 0, 0, True, 0, 0, b"frame")
    for _ in range(60):
        for thing in (Head("r", 0.5, (Track(1, Kind.AUDIO, "mp3"),)), unit):
            event, data = write(thing)
            daemon.hub.publish([Draft("a", data, event, transient=True)])
        daemon.clock.advance(1.0)

    assert b"frame" in caller.written()
    assert not caller.open
    assert daemon.hub.current_metrics().closed == {"expired": 1}


def test_poll_does_not_outlive_its_token(daemon: Daemon) -> None:
    """
    A poll is answered at `exp`; the next one is 401.
    """
    short = token(seconds=5, channels=["a"])
    caller = daemon.get("/poll?since=e.0", short)
    daemon.clock.pump([1.0] * 6)

    assert status_of(caller) == 200
    assert status_of(daemon.get("/poll?since=e.0", short)) == 401


def test_stream_that_has_ended_is_forgotten(daemon: Daemon) -> None:
    """
    Clients that reconnect often leave nothing behind.
    """
    for _ in range(10):
        daemon.get("/sse", token(channels=["a"])).hang_up()

    assert not len(daemon.hub._expirations)


def test_publishing_needs_a_token_that_permits_it() -> None:
    """
    401 and 403 as for subscribing; what the route names by itself needs no claim.
    """
    daemon = Daemon()
    good = token(publish=["room-7"])

    assert daemon.publish("/publish", body="channel=room-7&message=x") == 401
    assert daemon.publish("/publish", good, body="channel=room-7&message=x") == 200
    assert daemon.publish("/publish", good, body="channel=room-8&message=x") == 403
    assert daemon.publish("/say/7", good) == 200
    assert daemon.publish("/say/8", good) == 403
    assert daemon.publish("/note", token()) == 200
    assert daemon.publish("/note", token(sub="")) == 403
    assert daemon.publish("/anyone") == 200


def test_keys_pass_everywhere() -> None:
    """
    A valid key publishes as before, and tokens are no keys.
    """
    daemon = Daemon((Key.of("k1", ["room-*"]),))
    good = token(publish=["*"])

    assert daemon.publish("/keys", good, body="channel=room-7&message=x") == 401
    assert daemon.publish("/keys", "k1", body="channel=room-7&message=x") == 200
    assert daemon.publish("/publish", "k1", body="channel=room-7&message=x") == 200
    assert daemon.publish("/publish", "k1", body="channel=other&message=x") == 403
    assert daemon.publish("/publish", body="channel=room-7&message=x&key=k1") == 200
    assert daemon.publish("/publish", body="channel=room-7&message=x&key=wrong") == 401
    assert daemon.publish("/publish", body="channel=room-7&message=x") == 401
    assert daemon.publish("/publish", good, body="channel=other&message=x") == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", 403),
        ("Origin: http://a\r\n", 200),
        ("Origin: https://shop.example\r\n", 200),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
    ],
)
def test_cookies_publish_for_pages_of_this_host_only(headers: str, status: int) -> None:
    """
    A browser adds the cookie to forms on any page.
    """
    daemon = Daemon(origins=frozenset(("https://shop.example",)))
    headers += f"Cookie: t={token(publish=['*'])}\r\n"

    assert daemon.publish("/publish", headers=headers, body="channel=a&message=x") == status


def test_no_query_publishes(daemon: Daemon) -> None:
    """
    A token in a URL is for subscribers.
    """
    path = f"/publish?access={token(publish=['*'])}"
    assert daemon.publish(path, body="channel=a&message=x") == 401


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("^/x sse:allow=app", "needs authorize"),
        ("^/x sse:allow=nobody", "anyone, token or app"),
        ("^/x stats:allow=token", "does not check grants"),
        ("^/x sse:subscribe=user-${grant[sub]}", "needs allow=token"),
        ("^/x publish:channel=user-${grant[sub]}", "needs allow=token"),
    ],
)
def test_wrong_lines(line: str, reason: str) -> None:
    """
    One sentence at the start.
    """
    clock = Clock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    context = make_context(hub, clock, gate=Gate(tokens=TokenVerifier([TokenKey.of(SECRET)])))

    with pytest.raises(ValueError, match=reason):
        parse_route(line, context)


def test_tokens_need_a_key() -> None:
    """
    `allow=token` on a route, without any token-key.
    """
    clock = Clock()
    context = make_context(make_hub(MemoryBroker(clock, "e"), clock), clock)

    with pytest.raises(ValueError, match="need a token-key"):
        parse_route("^/x sse:allow=token", context)


def test_actions_that_do_not_check_grants_are_refused() -> None:
    """
    Where the setting `allow` asks for tokens, no route is open by accident.
    """
    clock = Clock()
    gate = Gate(("token",), tokens=TokenVerifier([TokenKey.of(SECRET)]))
    context = make_context(make_hub(MemoryBroker(clock, "e"), clock), clock, gate=gate)

    assert parse_route("^/x sse", context)
    with pytest.raises(ValueError, match="does not check grants"):
        parse_route(f"^/x {__name__}.Unchecked", context)
