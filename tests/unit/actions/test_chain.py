"""
The chain of routes: jumps, tests, and which methods a path has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rt_twisted.actions.any_method import ANY_METHOD
from rt_twisted.actions.chain import Route
from rt_twisted.actions.chain_answer import AnswerAction, NoAction
from rt_twisted.actions.effects import ChainEffects
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.static import StaticAction
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.http.taken import PortClient
from rt_twisted.model.errors import HttpError
from rt_twisted.routes import Routes, parse_entry
from rt_twisted.rtmp.action import RtmpAction
from tests.defaults import make_context, make_hub


@dataclass
class Asked:
    """
    The part of an exchange that routes read.
    """

    method: str = "GET"
    path: str = "/"
    target: bytes = b"/"
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, list[str]] = field(default_factory=dict)
    address: str = "192.0.2.1"
    query_string: str = ""
    version: str = "1.1"
    scheme: str = "http"

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def query(self) -> Mapping[str, list[str]]:
        return self.fields

    def cookies(self) -> Mapping[str, str]:
        return self.sent


class EveryMethod:
    """
    An action that serves any method.
    """

    methods = ANY_METHOD


CLOCK = Clock()
CONTEXT = make_context(make_hub(MemoryBroker(CLOCK, "e"), CLOCK))
README = (
    "^/stream.webm$ goto:stream",
    "route-run last:",
    "static-map /={page}",
    "route-label stream",
    "route-if equal:${{REQUEST_METHOD}};GET webm:uwsgi",
    "route-if equal:${{REQUEST_METHOD}};POST istream:uwsgi",
    "route-if equal:${{REQUEST_METHOD}};SOURCE istream:icecast2",
)


def routes(*lines: str) -> Routes:
    return Routes(parse_entry(line, CONTEXT) for line in lines)


LINES = routes(
    "route-run addvar:A=${HTTP_X}${cookie[c]}",
    "route-if-not empty:${qs[q]} addheader:X-Q: ${qs[q]}",
    "route-if regexp:${A};^(.)(.)? addheader:X-A: $1$2 ${QUERY_STRING}",
    r"route-uri ^/(\w*) addheader:X-U: $1 ${REMOTE_ADDR}",
    "route-if startswith:${A};a log:${A}",
    "route-if contains:${PATH_INFO};b break:403 ${HTTP_X}",
    "route-run sse:${A}",
    "route-run return:404",
)


@pytest.fixture
def readme(tmp_path: Path) -> Routes:
    """
    The lines of uwsgi-realtime's README, and of its sample for Icecast.
    """
    page = tmp_path / "webm.html"
    page.write_text("<video src=/stream.webm>")
    return routes(*(line.format(page=page) for line in README))


def action(found: object) -> Any:
    assert isinstance(found, tuple)
    return found[0]


def test_the_lines_of_uwsgi_realtimes_readme(readme: Routes) -> None:
    """
    One path is the stream by GET and the publisher's by POST and SOURCE; the page is the rest.
    """
    assert action(readme.find("GET", "/stream.webm")).word == "webm"
    assert action(readme.find("POST", "/stream.webm")).publish.source == "uwsgi"
    assert action(readme.find("SOURCE", "/stream.webm")).publish.source == "icecast2"
    for path in ("/", "/index.html", "/a/b", "/stream.webm2"):
        assert isinstance(action(readme.find("GET", path)), StaticAction)


def test_head_is_served_where_get_is(readme: Routes) -> None:
    """
    A test that names GET holds for HEAD, unless a line names HEAD itself.
    """
    assert action(readme.find("HEAD", "/stream.webm")).word == "webm"
    apart = routes(
        "route-if equal:${REQUEST_METHOD};HEAD stats",
        "route-if equal:${REQUEST_METHOD};GET sse:news",
    )
    assert not hasattr(action(apart.find("HEAD", "/")), "subscribe")
    assert hasattr(action(apart.find("GET", "/")), "subscribe")


def test_other_methods_get_those_that_are_served(readme: Routes) -> None:
    """
    A 405 and OPTIONS name the methods of all tests that lead to an action.
    """
    for method in ("PUT", "OPTIONS", "DELETE"):
        assert readme.find(method, "/stream.webm") == {"GET", "HEAD", "POST", "SOURCE"}
        assert readme.find(method, "/") == {"GET", "HEAD"}


def test_lines_are_read_in_order_and_jumps_skip_others() -> None:
    """
    A jump goes to the next label of its name; without a label in its way a line is reached.
    """
    chain = routes(
        "^/a goto:x",
        "POST ^/b goto:x",
        "^/ sse:first",
        "route-label x",
        "^/a/b goto:x",
        "route-run sse:second",
        "route-label x",
        "route-run sse:third",
    )

    def channel(method: str, path: str) -> str:
        source: str = action(chain.find(method, path)).subscribe[0].source
        return source

    assert channel("GET", "/") == "first"
    assert channel("GET", "/a") == "second"
    assert channel("GET", "/a/b") == "third"
    assert channel("GET", "/b") == "first"
    assert channel("POST", "/b") == "second"


def test_last_ends_the_search(tmp_path: Path) -> None:
    """
    Behind `last:` only static maps are looked at, wherever they stand, in their order.
    """
    page = tmp_path / "page.html"
    page.touch()
    chain = routes(f"static-map /a={tmp_path}", f"static-map /={page}", "^/a last:", "^/ sse:news")

    assert action(chain.find("GET", "/a/page.html")).root == str(tmp_path)
    assert hasattr(action(chain.find("GET", "/b")), "subscribe")
    for word in ("last:", "continue:"):
        assert routes(f"^/a {word}", "^/ sse:news").find("GET", "/a") is None


def test_a_folder_claims_only_the_files_that_it_has(tmp_path: Path) -> None:
    """
    A folder serves the files that it has. A file serves its own path, and all others that
    nothing else serves.
    """
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.html").touch()
    (tmp_path / ".env").touch()
    (tmp_path / "page.html").touch()
    chain = routes(
        f"static-map /={tmp_path}/page.html",
        f"check-static {tmp_path}",
        f"static-map /f={tmp_path}",
    )

    def served(path: str) -> str:
        root: str = action(chain.find("GET", path)).root
        return root.removeprefix(str(tmp_path))

    assert [served(path) for path in ("/", "/docs/", "/docs", "/f/docs/", "/page.html")] == [
        "/page.html", "", "", "", "",
    ]  # fmt: skip
    for path in ("/.env", "/f/none", "/docs/none", "/f", "/none", "/docs/../page.html", "/a\\b"):
        assert served(path) == "/page.html"
    assert routes(f"check-static {tmp_path}").find("GET", "/none") is None


def test_tests_of_headers_cookies_and_the_query() -> None:
    """
    Lines choose by anything in the request; a variable that it does not have is empty.
    """
    chain = routes(
        "route-if equal:${HTTP_X_KIND};a sse:header",
        "route-if equal:${cookie[kind]};b sse:cookie",
        "route-if equal:${qs[kind]};c sse:query",
        "route-if startswith:${REQUEST_URI};/d?e sse:uri",
        "route-if-not empty:${NEVER_SET} sse:never",
        r"route-host ^(\w+)\.example\.org$ sse:host-$1",
        "route-remote-addr ^198\\.51\\. sse:address",
        "route-if regexp:${HTTP_COLOR};^(red|blue)$ sse:$1",
        "route-if-not equal:${REQUEST_METHOD};GET publish:other",
    )

    def channel(**request: Any) -> str:
        exchange: Any = Asked(**request)
        found = chain.find(exchange.method, exchange.path, exchange)
        assert isinstance(found, tuple)
        return str(found[0].subscribe[0].expand(exchange, found[1]))

    assert channel(headers={"x-kind": "a"}) == "header"
    assert channel(sent={"kind": "b"}) == "cookie"
    assert channel(fields={"kind": ["a", "c"]}) == "query"
    assert channel(path="/d", target=b"/d?e") == "uri"
    assert channel(headers={"host": "shop.example.org"}) == "host-shop"
    assert channel(address="198.51.100.1") == "address"
    assert channel(headers={"color": "blue"}) == "blue"
    assert chain.find("GET", "/") is None
    assert action(chain.find("POST", "/")).channel[0].source == "other"


def test_variables_that_lines_set() -> None:
    """
    They are for the lines behind, in front of those that the request has, and for the action.
    """
    chain = routes(
        "route-run addvar:ROOM=lobby",
        "route-if-not empty:${qs[room]} addvar:ROOM=room-${qs[room]}",
        r"^/(\w+) addvar:FIRST=$1-${ROOM}",
        "^/same addvar:HTTP_X=ours",
        "route-run sse:${FIRST}.${HTTP_X}",
    )

    def found(path: str, **request: Any) -> tuple[str, Match]:
        exchange: Any = Asked(path=path, **request)
        result = chain.find("GET", path, exchange)
        assert isinstance(result, tuple)
        [template] = result[0].subscribe
        return template.expand(exchange, result[1]), result[1]

    assert found("/a", headers={"x": "theirs"})[0] == "a-lobby.theirs"
    name, match = found("/same", fields={"room": ["7"]}, headers={"x": "theirs"})
    assert name == "same-room-7.ours"
    assert match.granted == {"HTTP_X"}
    assert found("/a")[1].granted == {"ROOM"}


def test_effects_of_lines() -> None:
    """
    Headers and log lines are those of the lines that were passed; finding changes nothing.
    """
    chain = routes(
        "^/a addheader:X-A: ${REQUEST_METHOD} 1",
        "^/a delheader:Server",
        "^/a remheader:X-B",
        "^/b addheader:X-B: 2",
        "route-if equal:${REQUEST_METHOD};POST log:posted\t${qs[x]}",
        "^/a/go sse:news",
    )

    def effects(path: str, **request: Any) -> ChainEffects:
        exchange: Any = Asked(path=path, **request)
        result = chain.find(exchange.method, path, exchange)
        assert isinstance(result, tuple)
        return result[1].effects

    assert effects("/a/go") == ChainEffects((("X-A", "GET 1"),), frozenset({"server", "x-b"}))
    asked: Any = Asked(path="/b")
    assert isinstance(action(chain.find("GET", "/b", asked)), NoAction)
    assert effects("/b") == ChainEffects((("X-B", "2"),))
    assert chain.find("GET", "/b") is None
    assert chain.find("GET", "/c", asked) is None
    [line] = effects("/c", method="POST", fields={"x": ["1\n2"]}).logged
    assert line == "posted\\x091\\x0a2"


def test_what_cannot_be_in_a_header_is_an_error_of_the_request() -> None:
    """
    A request cannot inject a header, and finding its action raises nothing.
    """
    chain = routes("route-run addheader:X-A: ${qs[a]}", "^/ sse:news")
    for value, sent in (("caf\xe9", "caf\xe9"), ("\u20ac", "\xe2\x82\xac")):
        exchange: Any = Asked(fields={"a": [value]})
        assert chain.find("GET", "/", exchange)[1].effects.added == (("X-A", sent),)  # type: ignore[index]
    for value in ("a\r\nB: c", "a\nb", "\0", "\x7f"):
        exchange = Asked(fields={"a": [value]})
        effects = chain.find("GET", "/", exchange)[1].effects  # type: ignore[index]
        assert effects.added == ()
        with pytest.raises(HttpError, match="a control character cannot be in a header"):
            effects.apply(exchange)


@given(st.text(), st.text(), st.text(max_size=50), st.sampled_from(["GET", "POST", "BREW"]))
def test_any_request_is_looked_up(value: str, query: str, path: str, method: str) -> None:
    """
    Whatever a request has, finding its action raises nothing, and headers stay headers.
    """
    asked: Any = Asked(
        method, f"/{path}", path.encode(), {"x": value}, {"c": value}, {"q": [query]}, value, query
    )
    found = LINES.find(method, f"/{path}", asked)

    assert isinstance(found, tuple)
    for _, text in found[1].effects.added:
        assert not {"\r", "\n", "\0"} & set(text)
        text.encode("latin-1")


def test_other_protocols_do_not_pass_lines_that_answer() -> None:
    """
    A line that answers requests keeps a publisher by RTMP from the route behind it, by its
    address too. It is no action that another one could find.
    """
    chain = routes(
        r"route-remote-addr ^192\.0\.2\. break:403",
        "GET ^/guarded break:403",
        "^/ rtmp:live",
        "^/ stats",
    )
    client: Any = PortClient("192.0.2.9", False)
    other: Any = PortClient("198.51.100.9", True)
    asked: Any = Asked(path="/guarded", address="198.51.100.9")

    assert chain.find("RTMP", "/a", client) is None
    assert isinstance(action(chain.find("RTMP", "/a", other)), RtmpAction)
    assert isinstance(action(chain.find("RTMP", "/guarded", asked)), RtmpAction)
    assert chain.find("GET", "/guarded") is None
    assert isinstance(action(chain.find("GET", "/guarded", asked)), AnswerAction)
    assert chain.find("GET", "/a", client) is None
    assert hasattr(action(chain.find("GET", "/a")), "channels")


def test_actions_for_any_method_are_for_requests() -> None:
    """
    A lookup for another protocol finds only what an action lists.
    """
    chain = Routes([Route(re.compile("^/"), None, EveryMethod())])
    for method in ("GET", "BREW", "TUNNEL"):
        asked: Any = Asked(method=method)
        assert isinstance(action(chain.find(method, "/", asked)), EveryMethod)
        assert isinstance(chain.find(method, "/"), tuple) == (method == "GET")
        asked = Asked(method="OPTIONS")
        assert isinstance(chain.find(method, "/", asked), tuple) == (method == "GET")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["^/ goto:nowhere"], "no route-label 'nowhere' stands behind this line"),
        (["route-label x", "^/ goto:x"], "no route-label 'x' stands behind this line"),
        (["^/ goto:"], "goto needs the name of a route-label: goto:NAME"),
        (["^/ goto:$1"], "goto needs a fixed name: its label is checked at start"),
        (["^/ last:x"], "last takes no argument"),
        (["^/ continue:x"], "continue takes no argument"),
        (["^/ goto:x", "final-route-label x"], "no route-label 'x' stands behind this line"),
        (["final-route-run goto:x", "route-label x"],
         "no final-route-label 'x' stands behind this line"),
        (["^/ break:4"], "break needs a status from 200 to 599: break:403"),
        (["^/ return:100 Continue"], "return needs a status from 200 to 599: return:403"),
        (["^/ return:"], "return needs a status from 200 to 599: return:403"),
        (["response-route-run break:"], "break needs a status from 200 to 599: break:403"),
        (["^/ addvar:X"], "addvar needs a name and a text: addvar:NAME=TEXT"),
        (["^/ addvar:X Y=Z"], "addvar needs a name and a text: addvar:NAME=TEXT"),
        (["^/ addvar:X=${grant[sub]}"],
         "${grant[sub]} is not possible here: the grant is not known yet"),
        (["^/ addvar:X=$1"], "$1 needs a pattern with 1 groups, this one has 0"),
        (["^/ addheader:X"], "addheader needs a name and a text: addheader:NAME: TEXT"),
        (["^/ addheader:A B: c"], "addheader needs a name and a text: addheader:NAME: TEXT"),
        (["^/ addheader:Content-Length: 1"],
         "addheader cannot change Content-Length: the daemon sets it"),
        (["^/ delheader:Connection"], "delheader cannot change Connection: the daemon sets it"),
        (["^/ remheader:${X}"], "remheader needs the name of a header: remheader:NAME"),
        (["^/ redirect:"], "redirect needs a URL: redirect:URL"),
        (["^/ redirect:/${grant[sub]}"],
         "a redirect cannot use ${grant[...]}: the grant is not known yet"),
        (["final-route-run stats"],
         "action 'stats' cannot take over a response: use sse or another"),
        (["check-static /nonexistent"], "there is no /nonexistent"),
        (["route-if equal:a;b sse:$1"], "$1 needs a pattern with 1 groups, this one has 0"),
        (["static-map /=/nonexistent"], "there is no /nonexistent"),
    ],
)  # fmt: skip
def test_a_wrong_chain_is_an_error_of_one_sentence(lines: list[str], reason: str) -> None:
    """
    Jumps backward are wrong too: they could never end.
    """
    with pytest.raises(ValueError) as raised:
        routes(*lines)

    assert str(raised.value) == reason
