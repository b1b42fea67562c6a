"""
Requests to twisted.web and WSGI follow the rules of our own code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from rt_twisted.actions.chain import Route
from rt_twisted.actions.interfaces import Match
from rt_twisted.codecs.addresses import AddressHeader, Networks
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.forms import parse_form
from rt_twisted.codecs.query import MAX_FIELDS
from rt_twisted.http.interfaces import IExchange
from rt_twisted.http.request import HttpLimits, is_authority
from rt_twisted.http.stream_handle import PeerInfo
from rt_twisted.routes import Routes
from tests.defaults import make_http_limits
from tests.inline_threads import InlineReactor, inline_state
from tests.unit.http.clients import Answer, Caller, Place, chunked, get, post
from tests.unit.http.h2_client import Client
from tests.words import PendingResource

FORM = b"application/x-www-form-urlencoded"
PARTS = b"multipart/form-data; boundary=b"
FIELD = b'--b\r\nContent-Disposition: form-data; name="name"\r\n\r\nann\r\n'


class Showing(Resource):
    """
    Answers with the request it was given, in one line.
    """

    isLeaf = True

    def render(self, request: Any) -> bytes:
        here = request.getHost()
        request.getUser()
        fields = (
            request.getClientAddress().host,
            request.isSecure(),
            here.host,
            here.port,
            sorted(request.args.items()),
            request.content.read(),
            sorted(name for name, _ in request.requestHeaders.getAllRawHeaders()),
        )
        return repr(fields).encode()


class Failing(Resource):
    """
    Fails in the way that the path names.
    """

    isLeaf = True

    def render(self, request: Any) -> bytes:
        if request.path == b"/short":
            request.setHeader(b"Content-Length", b"9")
            request.write(b"abc")
        if request.path == b"/long":
            request.setHeader(b"Content-Length", b"2")
            request.write(b"abc")
            request.write(b"HTTP/1.1 200 OK")
        if request.path == b"/own":
            request.setHeader(b"Server", b"mine")
            request.setHeader(b"X-Content-Type-Options", b"off")
        request.finish()
        return 1  # type: ignore[return-value]  # NOT_DONE_YET


RAISING: Any = Failing
SHOWING: Any = Showing


def show(
    environ: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], object]
) -> list[bytes]:
    """
    Answer with the WSGI environment.
    """
    names = "SERVER_NAME SERVER_PORT REMOTE_ADDR wsgi.url_scheme HTTP_X_FORWARDED_FOR".split()
    start("200 OK", [("Content-Type", "text/plain"), ("Server", "x")])
    text = " ".join(str(environ.get(name, "-")) or "-" for name in names)
    return [text.encode(), b" ", environ["wsgi.input"].read()]


def site(resource: Any, **arguments: Any) -> Place:
    return Place(site=Site(resource), **{"limits": make_http_limits(), **arguments})


def wsgi(**arguments: Any) -> Place:
    lines = ("^/w wsgi:tests.unit.http.test_site.show",)
    changed = {"shared": inline_state()}
    limits = {"limits": make_http_limits(), **arguments}
    return Place(*lines, reactor=InlineReactor(), changed=changed, **limits)


def sent(kind: bytes, body: bytes, path: bytes = b"/x", more: bytes = b"") -> bytes:
    return post(body, path, b"Content-Type: %s\r\n%s" % (kind, more))


ODD = [
    b"a\x85b",
    b"\x85",
    b"\xff" * 20,
    b";" * 500,
    b"a/b; c*=\t",
    b"=?x?q?=FF?=",
    b'"',
    b"a/\xa0",
]


@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("kind", ["resource", "wsgi"])
def test_every_request_is_answered(kind: str, odd: bytes, close: bytes) -> None:
    """
    Every request is answered, whatever bytes are in its headers, and no error is logged.
    """
    place = wsgi() if kind == "wsgi" else site(SHOWING())
    for name in (
        b"Content-Type", b"Cookie", b"Authorization", b"Content-Disposition", b"Accept", b"Range",
        b"If-Modified-Since", b"X-Forwarded-For", b"X-Forwarded-Proto", b"Referer", b"User-Agent",
    ):  # fmt: skip
        header = b"%s: %s\r\n%s" % (name, odd, close)
        caller = place.call(post(b"a=b", b"/w", header))
        assert [answer.status for answer in caller.responses()] in ([200], [400]), name
        assert caller.open is not bool(close)


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (FORM, b"name=a+b&x=%41&name=&y", 200),
        (FORM, b"&" * MAX_FIELDS, 400),
        (FORM, b"%" * 99 + b"&\xff=\x85", 200),
        (PARTS, FIELD + b"--b--\r\n", 200),
        (PARTS, FIELD * (MAX_FIELDS + 1) + b"--b--\r\n", 400),
        (PARTS, FIELD, 400),
        (PARTS, FIELD.replace(b"name=", b"\x85=") + b"--b--\r\n", 400),
        (PARTS, FIELD.replace(b"form-data", b"x") + b"--b--\r\n", 400),
        (PARTS, FIELD.replace(b"Disp", b"\xffisp") + b"--b--\r\n", 400),
        (PARTS, b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n" * 900, 400),
        (b"multipart/form-data", FIELD, 400),
        (b"multipart/form-data; boundary=\x85", FIELD, 400),
        (b"multipart/form-data; boundary=" + b"x" * 900, FIELD, 400),
        (b"multipart/mixed; boundary=b", FIELD, 200),
        (b"text/plain; charset=\x85", b"name=x", 200),
        (b"", b"name=x", 200),
    ],
)
def test_forms(kind: bytes, body: bytes, status: int) -> None:
    """
    A malformed form, or one that is too large, gets its error status; the connection stays open.
    """
    caller = site(SHOWING()).call(sent(kind, body) + get(b"/after"))

    assert [answer.status for answer in caller.responses()] == [status, 200]


def test_fields_reach_the_resource() -> None:
    """
    The fields of both kinds of forms reach the resource in order; the body can still be read.
    """
    place = site(SHOWING())
    (form,) = place.call(sent(FORM, b"n=a+b&n=%FF&m=", b"/x?n=q")).responses()
    (parts,) = place.call(sent(PARTS, FIELD + b"--b--\r\n")).responses()
    (plain,) = place.call(sent(b"text/plain", b"n=1")).responses()

    assert b"[(b'm', [b'']), (b'n', [b'a b', b'\\xff'])], b'n=a+b" in form.body
    assert b"[(b'name', [b'ann'])], b'--b" in parts.body
    assert b"[], b'n=1'" in plain.body


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.binary(max_size=200))
def test_no_form_raises_anything_else(kind: str, body: bytes) -> None:
    """
    A form of any type and content is answered, and raises nothing else.
    """
    for content_type in (kind, f"multipart/form-data; {kind}", PARTS.decode(), FORM.decode()):
        try:
            parse_form(content_type, body)
        except RemoteProtocolError as error:
            assert error.status == 400


def test_default_headers() -> None:
    """
    Responses name the daemon and forbid browsers to guess the type, unless the application sets
    these headers.
    """
    plain, own = site(RAISING()).call(get(b"/x") + get(b"/own")).responses()
    (app,) = wsgi().call(get(b"/w")).responses()

    assert (plain.headers["server"], app.headers["server"]) == ("rt_twisted", "rt_twisted")
    assert plain.headers["x-content-type-options"] == "nosniff"
    assert app.headers["x-content-type-options"] == "nosniff"
    assert (own.headers["server"], own.headers["x-content-type-options"]) == ("mine", "off")


def test_an_application_keeps_the_length_that_it_declared() -> None:
    """
    A body that is too short aborts the connection, one that is too long is cut: no byte of it is
    taken for the next response.
    """
    short = site(RAISING()).call(get(b"/short") + get())
    long = site(RAISING()).call(get(b"/long") + get())

    assert short.wire.aborted and short.responses() == []
    assert [answer.body[:2] for answer in long.responses()] == [b"ab", b'{"']


# Client addresses.


def request_fields(answer: Answer) -> Any:
    """
    Return what `Showing` answered.
    """
    import ast

    return ast.literal_eval(answer.body.decode())


PROXIES = Networks.of(("192.0.2.1", "unix"))
TRUSTED = make_http_limits(trusted_proxies=PROXIES)
STANDARD = make_http_limits(trusted_proxies=PROXIES, address_header=AddressHeader.FORWARDED)
FORWARDED = b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n"


@pytest.mark.parametrize(
    ("limits", "headers", "address", "secure"),
    [
        (TRUSTED, FORWARDED, "203.0.113.9", True),
        (TRUSTED, b"X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1", False),
        (TRUSTED, b"X-Forwarded-Proto: https, http\r\n", "192.0.2.1", False),
        (TRUSTED, b"X-Forwarded-Proto: ftp\r\n", "192.0.2.1", False),
        (TRUSTED, b"", "192.0.2.1", False),
        (make_http_limits(), FORWARDED, "192.0.2.1", False),
        (STANDARD, b"Forwarded: for=203.0.113.9;proto=https\r\n", "203.0.113.9", True),
        (STANDARD, b"Forwarded: proto=https, for=203.0.113.9\r\n", "203.0.113.9", False),
        (STANDARD, b'Forwarded: For="[2001:db8::1]:9";Proto="HTTPS"\r\n', "2001:db8::1", True),
        (STANDARD, FORWARDED, "192.0.2.1", False),
        (STANDARD, b"Forwarded: proto=https\x85\r\n", "192.0.2.1", False),
    ],
)
def test_applications_get_the_clients_address(
    limits: HttpLimits, headers: bytes, address: str, secure: bool
) -> None:
    """
    Applications get the address that a trusted proxy names; other clients cannot name one.
    """
    (shown,) = plain(site(SHOWING(), limits=limits), get(b"/x", headers)).responses()
    (app,) = plain(wsgi(limits=limits), get(b"/w", headers)).responses()

    assert request_fields(shown)[:2] == (address, secure)
    assert app.body.split()[2:4] == [address.encode(), b"https" if secure else b"http"]


def plain(place: Place, *pieces: bytes) -> Caller:
    """
    Make the connection one without TLS, as a transport without a socket counts as TLS.
    """
    caller = Caller(place.server)
    caller.wire.protocol._origin = PeerInfo("192.0.2.1", False)
    return caller.send(*pieces)


def unix(place: Place, *pieces: bytes) -> Caller:
    """
    Make the connection one to a unix socket.
    """
    caller = Caller(place.server)
    caller.wire.protocol._origin = PeerInfo("", False)
    caller.wire.peerAddr = UNIXAddress(None)
    caller.wire.hostAddr = UNIXAddress(b"/s")
    return caller.send(*pieces)


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        (b"shop.example", "shop.example", 80),
        (b"shop.example:81", "shop.example", 81),
        (b"[::1]:81", "::1", 81),
        (b"[::1]", "::1", 80),
        (b"", "localhost", 80),
    ],
)
def test_applications_behind_a_unix_socket(host: bytes, name: str, port: int) -> None:
    """
    Applications get an address without a host, and the server's name from the Host header.
    """
    request = get(b"/w").replace(b"Host: a", b"Host: " + host)
    (shown,) = unix(site(SHOWING()), request).responses()
    (app,) = unix(wsgi(), request).responses()
    proxied = get(b"/w", FORWARDED)
    (behind,) = unix(wsgi(limits=TRUSTED), proxied).responses()

    assert request_fields(shown)[:4] == ("", False, name, port)
    assert app.status == 200
    assert app.body.split()[1:4] == [str(port).encode(), b"-", b"http"]
    assert behind.body.split()[1:4] == [b"443", b"203.0.113.9", b"https"]


def test_by_tls_and_http2() -> None:
    """
    The scheme is https, unless a trusted proxy names another.
    """
    response = Client(site(SHOWING())).ask("/x")
    proxied = Client(site(SHOWING(), limits=TRUSTED)).ask(
        "/x", None, "", ("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http")
    )
    assert b"('192.0.2.1', True" in response.body
    assert b"('203.0.113.9', False" in proxied.body


def test_headers_with_underscores_are_removed() -> None:
    """
    To WSGI, `X_Forwarded_For` would be the same as `X-Forwarded-For`.
    """
    (app,) = wsgi().call(get(b"/w", b"X_Forwarded_For: 1\r\nX-Forwarded_For: 2\r\n")).responses()

    assert app.body.split()[4] == b"-"


# Body sinks.


class Breaking:
    """
    An action whose body sink raises.
    """

    methods = ("POST",)

    def __init__(self, at: str) -> None:
        self.at = at

    def act(self, exchange: IExchange, match: Match) -> None:
        sink: Any = self
        exchange.receive(sink)

    def data(self, piece: bytes) -> None:
        if self.at == "data":
            raise ZeroDivisionError

    def end(self) -> None:
        if self.at == "end":
            raise ZeroDivisionError

    def lost(self, reason: Exception) -> None:
        pass


@pytest.mark.parametrize("at", ["data", "end"])
@pytest.mark.parametrize("close", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize("cut", [0, 3])
def test_a_sink_that_raises_is_answered_with_500(
    at: str, close: bytes, cut: int, clean_reactor: list[Failure]
) -> None:
    """
    An exception of a sink is logged once and answered with 500 at once, however the body arrives.
    """
    import re

    place = Place()
    place.server.context.find = Routes([Route(re.compile("^/b"), None, Breaking(at))]).find
    request = post(b"body", b"/b", close)
    caller = place.call(request[: len(request) - cut], request[len(request) - cut :])
    client = Client(place)
    response = client.ask("/b", b"body")

    assert [answer.status for answer in caller.responses()] == [500]
    assert response.status == 500
    assert [bool(failure.check(ZeroDivisionError)) for failure in clean_reactor] == [True, True]
    clean_reactor.clear()


# Hosts.


@pytest.mark.parametrize(
    "host",
    ["", "a", "a.example:80", "a:", "127.0.0.1:8080", "[::1]", "[::1]:80", "[2001:db8::1]:", "a_b",
     "%41", "xn--a", "a:65535"],
)  # fmt: skip
def test_hosts(host: str) -> None:
    """
    A Host header is a name or an address, and perhaps a port.
    """
    assert is_authority(host.encode())
    (answer,) = Place().call(get().replace(b"Host: a", b"Host: " + host.encode())).responses()
    assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:abc", "[::1", "::1", "a:1:2", "a::1", "@a", "u@a", ":@a", "u:p@a", "[::1]x", "[]",
     "[1.2.3.4]", "[a]", "[::1]]", "a:65536", "a:999999", "a:-1", "a:+1", "a:1 2", "a b", "a/b",
     "a?b", "a#b", "a\\b", "%", "%4", "%zz", "[::1%25eth0]", "[fe80::1%eth0]", "a,b c", "<a>"],
)  # fmt: skip
def test_malformed_hosts(host: str) -> None:
    """
    A malformed host is refused, in the Host header and in the request target.
    """
    raw = host.encode("latin-1")
    place = Place()
    assert not is_authority(raw)
    assert place.call(get().replace(b"Host: a", b"Host: " + raw)).responses()[0].status == 400
    assert place.call(get(b"http://%s/echo" % raw)).responses()[0].status in (400, 404)


@pytest.mark.parametrize("host", ["[::1", "a:b", "u@a", "a:1:2"])
def test_malformed_hosts_by_http2(host: str) -> None:
    """
    `:authority` is checked like Host; a path must not be a URL.
    """
    client = Client(Place())
    number = client.talk.get_next_available_stream_id()
    pseudo = [(":method", "GET"), (":path", "/echo"), (":scheme", "https"), (":authority", host)]
    from tests.unit.http.h2_client import Received

    client.talk.send_headers(number, pseudo, end_stream=True)
    client.streams[number] = Received()
    client.turn()
    assert client.streams[number].status == 400
    assert client.ask("http://other/echo").status == 400


@pytest.mark.parametrize(
    ("target", "host"),
    [
        (b"http://b.example:81/late?x", "b.example:81"),
        (b"HTTP://b/late", "b"),
        (b"https://[::1]:9/late", "[::1]:9"),
        (b"/late", "a"),
    ],
)
def test_the_targets_host_counts(target: bytes, host: str) -> None:
    """
    The host of the request target replaces that of the header (RFC 9112, 3.2.2).
    """
    place = Place()
    place.call(get(target))
    desk = PendingResource()
    site(desk).call(get(target.replace(b"/late", b"/desk")))

    assert place.waiting[0].header("host") == host
    assert desk.requests[0].getHeader(b"host") == host.encode()


@pytest.mark.parametrize("target", [b"http:///echo", b"http://:80/echo", b"http://u:p@a/echo"])
def test_a_target_has_a_host_and_no_user(target: bytes) -> None:
    """
    A URL as request target has a host and no user (RFC 9110, 4.2.1 and 4.2.4).
    """
    assert Place().call(get(target)).responses()[0].status == 400


def test_a_host_in_the_target_does_not_replace_the_header() -> None:
    """
    A well-formed Host header is required in any case (RFC 9112, 3.2).
    """
    request = get(b"http://a/echo")
    for wrong in (b"", b"Host: [::1\r\n", b"Host: a\r\nHost: b\r\n"):
        assert Place().call(request.replace(b"Host: a\r\n", wrong)).responses()[0].status == 400


# HEAD.


@pytest.mark.parametrize("path", ["/news", "/stream", "/poll", "/lines", "/raw"])
def test_head_on_a_stream_has_no_length(path: str) -> None:
    """
    HEAD on a stream has no length, as GET has none (RFC 9110, 8.6), by both versions of HTTP; the
    connection stays open.
    """
    lines = ("^/stream$ stream:a", "^/poll$ poll:a", r"^/lines$ stream:subscribe=a,type=text/plain",
             "^/raw$ sseraw:a")  # fmt: skip
    place = Place(*lines)
    caller = place.call(get(path.encode()).replace(b"GET", b"HEAD") + get())
    head, after = caller.responses("HEAD")
    response = Client(Place(*lines)).ask(path, None, "HEAD")

    assert head.status == response.status == after.status == 200
    assert "content-length" not in head.headers
    assert "content-length" not in response.headers
    assert head.headers["x-content-type-options"] == "nosniff"


def test_chunked_bodies_reach_an_application() -> None:
    """
    A chunked body reaches an application complete.
    """
    (app,) = wsgi().call(chunked(b"3", b"abc", b"0", b"", b"", path=b"/w")).responses()

    assert app.body.endswith(b" abc")


def test_the_clients_address_is_a_real_one() -> None:
    """
    Without a proxy the client's address is that of the transport, with its port.
    """
    desk = PendingResource()
    site(desk).call(get(b"/desk"))
    request: Request = desk.requests[0]

    assert request.getClientAddress() == IPv4Address("TCP", "192.0.2.1", 5)
