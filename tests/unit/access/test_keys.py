"""
Who may publish and look, and what channels may be called.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock

from rt_twisted.access.keys import ChannelNames, Credentials, Key, Keys, header_key
from rt_twisted.codecs.addresses import Networks
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.request import HttpLimits, RequestHead
from rt_twisted.http.server import HttpServer
from rt_twisted.model.errors import HttpError
from rt_twisted.routes import Routes


@dataclass
class _Socket:
    server: HttpServer
    peer: Any
    secure: bool = False


@dataclass
class Peer:
    """
    Who asks; `exchange` is how the front shows it.
    """

    address: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)
    trusted: Networks = field(default_factory=Networks)

    @property
    def exchange(self) -> Any:
        server = HttpServer(Clock(), Routes([]), HttpLimits(trusted_proxies=self.trusted))
        peer: Any = UNIXAddress(b"/run/x")
        if self.address:
            kind = IPv6Address if ":" in self.address else IPv4Address
            peer = kind("TCP", self.address, 5)
        connection: Any = _Socket(server, peer)
        headers = {name.encode(): value.encode("latin-1") for name, value in self.headers.items()}
        head = RequestHead(HttpLimits())
        head.target = b"/publish"
        head.headers = headers
        return HttpExchange(connection, "POST", head, True, 0)


def refused(keys: Keys, peer: Peer, secret: bytes | None = None, *channels: str) -> int:
    """
    The status that *peer* gets; 0 if it may.
    """
    try:
        keys.check(peer.exchange, secret, channels)
    except HttpError as refusal:
        assert refusal.reason
        return refusal.status
    return 0


ELSEWHERE = "192.0.2.7"
ANY = Key.of("any")
NEWS = Key.of("news", ["news.*", "sport"])
BOTH = Keys([ANY, NEWS])


@pytest.mark.parametrize(
    ("headers", "secret", "channel", "status"),
    [
        ({}, None, "news.a", 401),
        ({}, b"", "news.a", 401),
        ({}, b"wrong", "news.a", 401),
        ({}, b"ANY", "news.a", 401),
        ({}, b"any ", "news.a", 401),
        ({}, b"an", "news.a", 401),
        ({}, b"any", "whatever", 0),
        ({}, b"news", "news.a", 0),
        ({}, b"news", "news.", 0),
        ({}, b"news", "sport", 0),
        ({}, b"news", "sport.a", 403),
        ({}, b"news", "xnews.a", 403),
        ({}, b"news", "newsXa", 403),
        ({"authorization": "Bearer any"}, None, "x", 0),
        ({"authorization": "bearer  any "}, None, "x", 0),
        ({"authorization": "Bearer wrong"}, b"any", "x", 401),
        ({"authorization": "Basic any"}, None, "x", 401),
        ({"authorization": "Basic eDp5", "x-publish-key": "any"}, None, "x", 0),
        ({"authorization": "Bearer"}, b"any", "x", 0),
        ({"x-publish-key": "any"}, b"wrong", "x", 0),
        ({"x-publish-key": "news"}, None, "x", 403),
        ({"x-publish-key": "\xfc"}, None, "x", 401),
    ],
)
def test_keys(headers: dict[str, str], secret: bytes | None, channel: str, status: int) -> None:
    """
    No key or a wrong one is 401, a channel it does not open 403; from near and far alike.
    """
    for address in (ELSEWHERE, "127.0.0.1"):
        assert refused(BOTH, Peer(address, headers), secret, channel) == status


def test_a_missing_key_is_asked_for() -> None:
    """
    401 names the scheme (RFC 9110, 15.5.2), and no secret.
    """
    for secret in (None, b"wrong"):
        with pytest.raises(HttpError) as raised:
            BOTH.check(Peer().exchange, secret, ())
        assert dict(raised.value.headers) == {"WWW-Authenticate": "Bearer"}
        assert "news" not in raised.value.reason


def test_every_channel_has_to_be_open() -> None:
    """
    One that is not refuses them all; none at all needs but a right key.
    """
    assert refused(BOTH, Peer(), b"news", "news.a", "sport") == 0
    assert refused(BOTH, Peer(), b"news", "news.a", "other") == 403
    assert refused(BOTH, Peer(), b"news") == 0
    assert refused(BOTH, Peer(), b"wrong") == 401


@pytest.mark.parametrize(
    ("patterns", "channel", "permits"),
    [
        ([], "anything", True),
        (["*"], "anything", True),
        (["a*c"], "abc", True),
        (["a*c"], "ac", True),
        (["a*c"], "acx", False),
        (["a*"], "a\nb", True),
        (["a.c"], "abc", False),
        (["[a]"], "a", False),
        (["a", "b"], "b", True),
        (["*.*"], "ab", False),
    ],
)
def test_patterns(patterns: list[str], channel: str, permits: bool) -> None:
    """
    Only the asterisk means more than itself; the whole name has to match.
    """
    assert Key.of("k", patterns).permits(channel) is permits


def test_a_secret_is_not_shown() -> None:
    """
    Neither in a log nor in a traceback.
    """
    assert "hush" not in repr(Key.of("hush", ["a"])) + repr(Keys([Key.of("hush")]))
    assert len(Keys()) == 0
    assert len(BOTH) == 2


def test_comparing_takes_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every key is compared, whichever is right, by what leaks nothing.
    """
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare_digest(ours: bytes, theirs: bytes) -> bool:
        compared.append((ours, theirs))
        return real(ours, theirs)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)

    for secret in (b"any", b"news", b"wrong"):
        compared.clear()
        refused(BOTH, Peer(), secret)
        assert compared == [(b"any", secret), (b"news", secret)]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("127.0.0.1", 0),
        ("127.8.8.8", 0),
        ("::1", 0),
        ("::ffff:127.0.0.1", 0),
        ("", 0),
        (ELSEWHERE, 403),
        ("10.0.0.1", 403),
        ("::ffff:10.0.0.1", 403),
        ("::2", 403),
        ("fe80::1", 403),
        ("128.0.0.1", 403),
    ],
)
def test_without_keys_only_this_machine_may(address: str, status: int) -> None:
    """
    Loopback and unix sockets; whatever secret is sent.
    """
    assert refused(Keys(), Peer(address), b"secret", "x") == status


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
def test_a_proxy_does_not_make_the_world_local(header: str) -> None:
    """
    A request that a proxy on this machine passed on came from elsewhere, also
    if the proxy is trusted and says that it did not.
    """
    assert refused(Keys(), Peer(headers={header: "127.0.0.1"})) == 403
    assert refused(Keys(), Peer("", {header: "127.0.0.1"}, Networks.of(["unix"]))) == 403
    trusted = Networks.of([ELSEWHERE])
    assert refused(Keys(), Peer(ELSEWHERE, {header: "127.0.0.1"}, trusted)) == 403


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost:8888", "localhost:8888", 0),
        ("http://127.0.0.1:8888", "127.0.0.1:8888", 0),
        ("http://127.0.0.53", "127.0.0.53", 0),
        ("http://[::1]:8888", "[::1]:8888", 0),
        ("https://LOCALHOST", "LOCALHOST", 0),
        ("http://localhost:3000", "localhost:8888", 403),
        ("http://localhost", "localhost:8888", 403),
        ("http://127.0.0.1:8888", "localhost:8888", 403),
        ("http://evil.example", "localhost:8888", 403),
        ("http://evil.example:8888", "evil.example:8888", 403),
        ("http://localhost.evil.example", "localhost.evil.example", 403),
        ("http://127.0.0.1.evil.example", "127.0.0.1.evil.example", 403),
        ("http://127.0.0.1:8888\n", "127.0.0.1:8888\n", 403),
        ("null", "localhost:8888", 403),
        ("null", "", 403),
        ("", "", 403),
        ("file://", "", 403),
        ("localhost:8888", "localhost:8888", 403),
    ],
)
def test_pages_from_elsewhere_do_not_borrow_this_machine(
    origin: str, host: str, status: int
) -> None:
    """
    A browser here lends its address to every page; only pages of this server
    count as local, and a name that was made to point here does not.
    """
    assert refused(Keys(), Peer(headers={"origin": origin, "host": host})) == status


def test_a_name_made_to_point_here_is_not_local_without_an_origin_either() -> None:
    """
    Browsers send no Origin when a page fetches its own /stats: the Host tells.
    """
    assert refused(Keys(), Peer(headers={"host": "evil.example:8888"})) == 403
    assert refused(Keys(), Peer(headers={"host": "localhost:8888"})) == 0


@pytest.mark.parametrize(
    ("site", "status"),
    [
        ("same-origin", 0),
        ("none", 0),
        ("cross-site", 403),
        ("same-site", 403),
        ("CROSS-SITE", 403),
        ("none, cross-site", 403),
        ("", 403),
    ],
)
def test_pages_of_other_sites_are_refused_without_a_key(site: str, status: int) -> None:
    """
    Without a key only pages of this server may act, as the browser reports it;
    with a key the key decides.
    """
    headers = {"host": "localhost:8888", "sec-fetch-site": site}

    assert refused(Keys(), Peer(headers=headers)) == status
    assert refused(BOTH, Peer(headers=headers), b"any") == 0


def test_credentials_are_not_shown() -> None:
    """
    A key that a request presents does not reach a log by way of its repr.
    """
    assert "secret" not in repr(Credentials(b"secret"))


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, None),
        ({"authorization": "Bearer a"}, b"a"),
        ({"authorization": "BEARER a b"}, b"a b"),
        ({"authorization": "Digest a"}, None),
        ({"x-publish-key": "b"}, b"b"),
        ({"x-publish-key": ""}, None),
        ({"authorization": "Bearer a", "x-publish-key": "b"}, b"a"),
        ({"sec-websocket-protocol": "realtime, key.Yw"}, b"c"),
        ({"sec-websocket-protocol": "realtime, key.!"}, None),
        ({"x-publish-key": "b", "sec-websocket-protocol": "realtime, key.Yw"}, b"b"),
    ],
)
def test_keys_in_headers(headers: dict[str, str], key: bytes | None) -> None:
    """
    `Authorization: Bearer` before `X-Publish-Key`, before subprotocols.
    """
    assert header_key(Peer(headers=headers).exchange) == key


@pytest.mark.parametrize(
    "name", ["a", "a.b", "a/b:c", "gr\u00fcn", "x" * 200, "@", "1", "$1", "\u2028", "a'b\"<>"]
)
def test_names_that_are_taken(name: str) -> None:
    """
    Nearly every word is a name.
    """
    assert ChannelNames().check(name) == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a,b", "a*", "a?", "[a]", "a\\b", "a\n", "\na", "a\0", "\x7f", "x" * 201],
)
def test_names_that_are_refused(name: str) -> None:
    """
    Blanks, controls, and what patterns and lists are made of.
    """
    with pytest.raises(HttpError) as raised:
        ChannelNames().check(name)

    assert raised.value.status == 400
    assert len(raised.value.reason) < 300
    assert "\n" not in raised.value.reason


def test_names_of_ones_own() -> None:
    """
    A pattern of the settings replaces ours, and has to match the whole name.
    """
    names = ChannelNames("[a-z]+", most=2)

    assert names.check("abc") == "abc"
    for name in ("abc1", "1abc", "abc\n"):
        with pytest.raises(HttpError):
            names.check(name)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a"], ["a"]),
        (["b", "a", "b"], ["b", "a"]),
        ([], "no channel: ask for ?channels=NAME"),
        (["a", "b", "c"], "too many channels: 2 are allowed"),
        (["a", ""], "a channel cannot be called ''"),
    ],
)
def test_all_names_of_a_reader(names: list[str], found: list[str] | str) -> None:
    """
    Without repeats, in order, not too many, at least one.
    """
    allowed = ChannelNames(most=2)
    if isinstance(found, list):
        assert allowed.check_all(names) == found
        return
    with pytest.raises(HttpError) as raised:
        allowed.check_all(names)
    assert (raised.value.status, raised.value.reason) == (400, found)


def test_what_a_reader_has_counts_and_is_not_checked_again() -> None:
    """
    What it asks for besides is what it gets, as long as there is room for both.
    """
    allowed = ChannelNames("[a-z]", most=3)

    assert allowed.check_all(["b", "a", "b"], ("OLD", "a")) == ["b"]
    assert allowed.check_all(["a"], ("a", "OLD", "c")) == []
    with pytest.raises(HttpError, match="too many channels"):
        allowed.check_all(["d"], ("a", "b", "c"))
    with pytest.raises(HttpError, match="cannot be called"):
        allowed.check_all(["B"], ("a",))
