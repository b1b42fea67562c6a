"""
Keys: which requests may publish, subscribe or read statistics.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock

from rt_twisted.access.keys import Credentials, Key, Keys, header_key
from rt_twisted.codecs.addresses import Networks
from rt_twisted.http.context import HttpContext
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.request import RequestHead
from rt_twisted.model.errors import HttpError
from rt_twisted.routes import Routes
from tests.defaults import make_http_limits, make_server


@dataclass
class _Channel:
    context: HttpContext
    peer: Any
    secure: bool = False


@dataclass
class Peer:
    """
    A client; `exchange` is its request, as the HTTP server presents it.
    """

    address: str = "127.0.0.1"
    headers: dict[str, str] = field(default_factory=dict)
    trusted: Networks = field(default_factory=Networks)

    @property
    def exchange(self) -> Any:
        server = make_server(
            Clock(), Routes([]).find, make_http_limits(trusted_proxies=self.trusted)
        )
        peer: Any = UNIXAddress(b"/run/x")
        if self.address:
            kind = IPv6Address if ":" in self.address else IPv4Address
            peer = kind("TCP", self.address, 5)
        channel: Any = _Channel(server.context, peer)
        fields = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in self.headers.items()]
        head = RequestHead(b"/publish", fields, make_http_limits())
        return HttpExchange(channel, "POST", head, "1.1", 0)


def refused(keys: Keys, peer: Peer, secret: bytes | None = None, *channels: str) -> int:
    """
    Return the status that *peer* gets; 0 if it is permitted.
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
    No key or a wrong one is 401, a channel that it does not permit 403, from any address.
    """
    for address in (ELSEWHERE, "127.0.0.1"):
        assert refused(BOTH, Peer(address, headers), secret, channel) == status


def test_a_401_names_the_scheme() -> None:
    """
    The response has WWW-Authenticate (RFC 9110, 15.5.2), and no secret.
    """
    for secret in (None, b"wrong"):
        with pytest.raises(HttpError) as raised:
            BOTH.check(Peer().exchange, secret, ())
        assert dict(raised.value.headers) == {"WWW-Authenticate": "Bearer"}
        assert "news" not in raised.value.reason


def test_every_channel_must_be_permitted() -> None:
    """
    One channel that is not permitted refuses all; without channels a right key is enough.
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
    Only the asterisk is special, and the whole name must match.
    """
    assert Key.of("k", patterns).permits(channel) is permits


def test_a_secret_is_not_shown() -> None:
    """
    The repr of a key has no secret: it may be in a log or a traceback.
    """
    assert "hush" not in repr(Key.of("hush", ["a"])) + repr(Keys([Key.of("hush")]))
    assert len(Keys()) == 0
    assert len(BOTH) == 2


def test_comparing_takes_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Every key is compared in constant time, whichever is right.
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
    Loopback and unix sockets are permitted, whatever secret is sent.
    """
    assert refused(Keys(), Peer(address), b"secret", "x") == status


@pytest.mark.parametrize("header", ["x-forwarded-for", "forwarded", "x-real-ip", "via"])
def test_a_request_by_a_proxy_is_not_local(header: str) -> None:
    """
    A request that a proxy on this machine forwarded came from elsewhere, also
    if the proxy is trusted and names a local address.
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
def test_pages_of_other_origins_are_not_local(origin: str, host: str, status: int) -> None:
    """
    A browser on this machine sends requests of every page from a local address. Only
    pages of this server count as local; a name that was made to resolve here does not.
    """
    assert refused(Keys(), Peer(headers={"origin": origin, "host": host})) == status


def test_a_rebound_name_is_not_local_without_an_origin() -> None:
    """
    Browsers send no Origin when a page fetches its own /stats: the Host header decides.
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
    Without a key only pages of this server are permitted, as the browser reports it;
    with a key the key decides.
    """
    headers = {"host": "localhost:8888", "sec-fetch-site": site}

    assert refused(Keys(), Peer(headers=headers)) == status
    assert refused(BOTH, Peer(headers=headers), b"any") == 0


def test_credentials_are_not_shown() -> None:
    """
    The repr of credentials has no key: it may be in a log.
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
    `Authorization: Bearer` precedes `X-Publish-Key`, which precedes subprotocols.
    """
    assert header_key(Peer(headers=headers).exchange) == key
