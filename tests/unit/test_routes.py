"""
Route lines: their syntax, and which route serves a request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from rt_twisted.access.grip_key import GripKey
from rt_twisted.actions.build_action import split_arguments
from rt_twisted.actions.chain import MAX_KNOWN, MAX_KNOWN_PATH
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.publish import PublishAction
from rt_twisted.actions.site import ResourceAction
from rt_twisted.actions.sse import SseAction
from rt_twisted.actions.static import StaticAction
from rt_twisted.actions.template import Template
from rt_twisted.actions.wsgi.action import WsgiAction
from rt_twisted.brokers.interfaces import ICopying
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.route_lines import mask_secrets
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.registry import FurtherHub, HubRegistry
from rt_twisted.model.load_object import find_object, load_object
from rt_twisted.model.message import Draft
from rt_twisted.routes import (
    DEFAULT,
    WORDS,
    Routes,
    parse_entry,
    parse_route,
)
from tests.contracts.actions import check_action
from tests.defaults import make_context, make_hub
from tests.unit.actions.test_template import FakeRequest
from tests.words import Echo


class ThreadedReactor(MemoryReactorClock):
    """
    A reactor in memory that WSGI applications can be built with.
    """

    def getThreadPool(self) -> None: ...


def routing_context() -> ActionContext:
    clock = Clock()
    return make_context(make_hub(MemoryBroker(clock, "e"), clock))


CONTEXT = routing_context()


def action(line: str) -> Any:
    return parse_route(line, CONTEXT).action


def channels(line: str, path: str = "/", request: FakeRequest | None = None) -> list[str]:
    """
    Return the channels to which *line* subscribes a client.
    """
    route = parse_route(line, CONTEXT)
    found = route.pattern.search(path)
    assert found is not None
    match = Match((found[0], *found.groups()), "")
    return [template.expand(request or FakeRequest(), match) for template in route.action.subscribe]


@pytest.mark.parametrize("line", DEFAULT)
def test_the_default_lines(line: str) -> None:
    """
    The default routes can be written as route lines.
    """
    assert parse_route(line, CONTEXT).method is None


@pytest.mark.parametrize(
    ("line", "path", "names"),
    [
        ("^/news$ sse:lotofnews", "/news", ["lotofnews"]),
        (r"^/events/(\d+)$ sse:channel_$1", "/events/7", ["channel_7"]),
        ("^/x sse:subscribe=a,subscribe=b", "/x", ["a", "b"]),
        ("^/x sse:subscribe=a,buffer_size=4096,subscribe=b", "/x", ["a", "b"]),
        (r"^/x sse:subscribe=a\:b", "/x", ["a:b"]),
        (r"^/x sse:subscribe=a=b", "/x", ["a=b"]),
        ("^/x sse: subscribe=a", "/x", ["a"]),
        ("^/x sse:history=5, subscribe=a", "/x", ["a"]),
        ("^/x   sse:spaced", "/x", ["spaced"]),
        ("^/x\tsse:tabbed", "/x", ["tabbed"]),
        ("^/x sse:a:b", "/x", ["a:b"]),
        ("^/(a)?x sse:<$1>", "/x", ["<>"]),
        ("/([^/]+)/ sse:$1", "/p/q/", ["p"]),
        ("^/x sse:subscribe=${qs[room]},subscribe=$0", "/x", ["kitchen", "/x"]),
        ("^/x sse", "/x", []),
        ("^/x sse:", "/x", []),
        ("^/x sse:a,history=1", "/x", ["a"]),  # a first part without = is the channel
        ("^/x sse:a,subscribe=c", "/x", ["a", "c"]),
        ("GET sse:a", "/GET", ["a"]),  # without a third word it is the pattern
    ],
)
def test_lines_of_uwsgi(line: str, path: str, names: list[str]) -> None:
    """
    The text after the colon is the channel, or `name=value` separated by commas.
    """
    assert channels(line, path, FakeRequest({"room": ["kitchen"]})) == names


@pytest.mark.parametrize(
    ("line", "method", "pattern"),
    [
        ("POST ^/x$ publish:a", "POST", "^/x$"),
        ("GET ^/x$ sse:a", "GET", "^/x$"),
        ("PROPFIND /x sse:a", "PROPFIND", "/x"),
        ("^/x$ sse:a", None, "^/x$"),
        ("Get$ sse:a", None, "Get$"),
    ],
)
def test_a_method_in_front(line: str, method: str | None, pattern: str) -> None:
    """
    A method is upper case, and is followed by a pattern and an action.
    """
    route = parse_route(line, CONTEXT)

    assert (route.method, route.pattern.pattern) == (method, pattern)


def test_arguments_have_types() -> None:
    """
    Numbers, booleans and enumerations are converted.
    """
    line = "^/x sse:subscribe=a,history=10,retry=0,slow=skip,ids=no,page=/p"
    route = parse_route(line, CONTEXT)

    assert route.action == SseAction(
        "sse", CONTEXT, (Template("a", ("a",)),), 10, 0, SlowConsumerPolicy.SKIP, False, "/p"
    )
    assert action("^/x sseraw:a").word == "sseraw"
    for text in ("1", "yes", "TRUE"):
        assert action(f"^/x sse:ids={text}").ids is True


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "a route is '[METHOD] REGEX ACTION[:ARGUMENTS]', or built-in"),
        ("^/x", "a route is '[METHOD] REGEX ACTION[:ARGUMENTS]', or built-in"),
        ("POST ^/x", "unknown action '^/x'"),
        ("^/( sse:a", "'^/(' is not a regular expression"),
        (
            "^/x nope:a",
            "unknown action 'nope'; there are: admin, alive, engine.io, grip, http, icecast, ",
        ),
        ("^/x SSE:a", "unknown action 'SSE'"),
        ("^/x send:a", "uWSGI's action 'send' is not supported: write addheader:NAME: TEXT"),
        ("^/x logvar:a=b", "uWSGI's action 'logvar' is not supported: write log:NAME=TEXT"),
        ("get ^/x sse:a", "unknown action"),
        ("^/x sse:subscribe=a,nope=1", "action 'sse' has no argument 'nope'; it has: subscribe,"),
        ("^/x sse:house=1", "action 'sse' has no argument 'house'"),
        ("^/x sse:word=sseraw", "action 'sse' has no argument 'word'"),
        ("^/x sse:=a", "action 'sse' has no argument ''"),
        ("^/x sse:subscribe=a,b", "'b' is not 'name=value'"),
        ("^/x sse:a,b,history=1", "'b' is not 'name=value'"),
        ("^/x sse:,history=1", "'' is not 'name=value'"),
        ("^/x sse:a,subscribe=b,slow=x", "slow= must be"),
        ("^/x stats:full,format=counts", "format= is given twice"),
        ("^/x ready:a,b=c", "'a' is not 'name=value'"),
        ("^/x sse:subscribe=a,", "'' is not 'name=value'"),
        ("^/x sse:history=1,history=2,subscribe=a", "history= is given twice"),
        ("^/x sse:history=x", "history= must be a whole number, not 'x'"),
        ("^/x sse:history=", "history= must be a whole number, not ''"),
        ("^/x sse:history=${qs[n]}", "history= must be a whole number, not '${qs[n]}'"),
        ("^/x sse:ids=maybe", "ids= must be yes or no, not 'maybe'"),
        ("^/x sse:slow=wait", "slow= must be one of disconnect, skip, sync, newest, not 'wait'"),
        ("^/x sse:$1", "$1 needs a pattern with 1 groups, this one has 0"),
        ("^/x sse:${NO[PE]}", "unknown variable ${NO[PE]}"),
        ("^/x sse:subscribe=${qs[a,subscribe=b", None),
        ("^/x stats:a", "format= must be one of counts, full, not 'a'"),
        ("^/x stats:channels=-1", "channels= must be from 0 to 10000"),
        ("^/x metrics:10001", "channels= must be from 0 to 10000"),
        ("^/x ready:a", "action 'ready' takes no argument"),
        ("^/x page:a", "page: has no file 'a'"),
        ("^/x static", "action 'static' needs path="),
        ("^/x static:/no/such/folder", "there is no /no/such/folder"),
        ("^/x static:path=/tmp,site=x", "action 'static' has no argument 'site'"),
        ("^/x resource", "action 'resource' needs name="),
        (
            "^/x resource:tests.words.NoAction",
            "tests.words.NoAction is not a twisted.web resource",
        ),
        ("^/x wsgi", "action 'wsgi' needs name="),
        ("^/x tests.words.Nope", "cannot load tests.words.Nope: "),
        ("^/x no.such.module", "cannot load no.such.module: "),
        ("^/x .a", "cannot load .a: "),
        ("^/x tests.words.Plain", "tests.words.Plain is not a dataclass that provides IAction"),
        ("^/x os.path", "os.path is not a dataclass that provides IAction"),
        ("^/x tests.words.NoAction", "tests.words.NoAction is not an action: "),
        ("^/x tests.words.EmptyAction", "tests.words.EmptyAction is not an action: "),
        (
            "^/x tests.words.Unparsable:where=a",
            "where= has a type that route lines do not support: ",
        ),
        (
            "^/x tests.words.Unparsable",
            "action 'tests.words.Unparsable' needs where=",
        ),
        ("^/x tests.words.Echo:times=x", "times= must be a whole number, not 'x'"),
    ],
)
def test_wrong_lines(line: str, reason: str | None) -> None:
    """
    The first error is reported in one sentence, at start.
    """
    with pytest.raises(ValueError) as raised:
        action(line)

    assert reason is None or str(raised.value).startswith(reason)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["history", "retry"])
def test_counts_are_not_negative(name: str) -> None:
    """
    Negative counts are errors.
    """
    with pytest.raises(ValueError):
        action(f"^/x sse:subscribe=a,{name}=-3")


def test_a_backslash_at_the_end_is_an_error() -> None:
    """
    A trailing backslash escapes nothing.
    """
    with pytest.raises(ValueError):
        action("^/x sse:subscribe=a\\")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=1", [("a", "1")]),
        ("a=1,b=2", [("a", "1"), ("b", "2")]),
        ("a=", [("a", "")]),
        ("a=1, b = 2", [("a", "1"), ("b", " 2")]),
        (r"a=1\,2,b=\\", [("a", "1,2"), ("b", "\\")]),
        (r"a=\x\=", [("a", "x=")]),
        (r"a=<\r\n\t\\n>", [("a", "<\r\n\t\\n>")]),
        ("a=b=c", [("a", "b=c")]),
    ],
)
def test_arguments(text: str, pairs: list[tuple[str, str]]) -> None:
    """
    A comma separates; a backslash escapes the next character, or makes a line end or tab.
    """
    assert split_arguments(text) == pairs


@given(st.lists(st.text(max_size=8), min_size=1, max_size=4))
def test_any_value_can_be_written(values: list[str]) -> None:
    """
    Any value can be written if commas and backslashes are escaped.
    """
    escaped = [value.replace("\\", "\\\\").replace(",", "\\,") for value in values]

    found = split_arguments(",".join(f"subscribe={value}" for value in escaped))
    assert found == [("subscribe", value) for value in values]


HOSTILE = st.text() | st.sampled_from(
    ["x,subscribe=secret", "x\\,y", "a=b", "${PATH_INFO}", "$1", "", "\n", ",history=999"]
)


@given(st.lists(HOSTILE, min_size=1, max_size=3), HOSTILE)
def test_a_request_cannot_inject(values: list[str], path: str) -> None:
    """
    Values of a request change one channel's name, and no other argument or channel.
    """
    line = "^/(?s:(.*))$ sse:subscribe=a.${qs[v]},subscribe=$1,history=3,subscribe=fixed"
    before = action(line)

    found = channels(line, f"/{path}", FakeRequest({"v": values}))

    assert found == [f"a.{values[-1]}", path, "fixed"]
    assert (before.history, before.retry, before.page) == (3, None, "")


def test_a_route_names_another_server() -> None:
    """
    As in uWSGI, `server=` selects the broker whose channels a route uses, for every action.
    """
    others: dict[str, Hub] = {}
    started: list[str] = []

    def build(server: str, password: str) -> FurtherHub:
        if ":" not in server:
            raise ValueError("a server is HOST:PORT")
        others[server] = routing_context().hub
        return FurtherHub(others[server], lambda: started.append(server))

    hubs = HubRegistry(routing_context().hub, build)
    context = replace(CONTEXT, hub=hubs.for_server(""), hubs=hubs.for_server)
    lines = [
        "^/a sse:server=10.0.0.1:6379,subscribe=a",
        "^/b sseraw:subscribe=b,server=10.0.0.1:6379",
        "^/c publish:server=10.0.0.2:6379",
        "^/d sse:subscribe=a",
    ]

    contexts = [parse_route(line, context).action.context for line in lines]
    found = [each.hub for each in contexts]

    one, two = others["10.0.0.1:6379"], others["10.0.0.2:6379"]
    assert found == [one, one, two, context.hub]
    # Those of the daemon: nothing exports the metrics of other hubs.
    assert all(each.metrics is context.metrics for each in contexts)
    assert context.metrics is not one.metrics
    assert list(hubs) == [context.hub]
    assert started == []
    hubs.adopt()
    assert started == ["10.0.0.1:6379", "10.0.0.2:6379"]
    assert list(hubs) == [context.hub, one, two]
    with pytest.raises(ValueError, match=r"server=x: a server is HOST:PORT"):
        parse_route("^/x sse:server=x", context)
    with pytest.raises(ValueError, match=r"server=h:1: there are no further servers here"):
        parse_route("^/x sse:server=h:1", CONTEXT)
    with pytest.raises(ValueError, match="given twice"):
        parse_route("^/x sse:server=h:1,server=h:2", context)


def test_hubs_that_are_discarded() -> None:
    """
    The routes of a reload that fails open no connection; the next ones get another hub.
    """
    started: list[Hub] = []

    def build(server: str, password: str) -> FurtherHub:
        hub = routing_context().hub
        return FurtherHub(hub, lambda: started.append(hub))

    hubs = HubRegistry(routing_context().hub, build)
    first = hubs.for_server("h:1", "a")
    assert hubs.for_server("h:1", "a") is first
    hubs.discard()
    hubs.adopt()
    assert started == []

    second = hubs.for_server("h:1", "a")
    other = hubs.for_server("h:1", "b")
    hubs.adopt()
    hubs.adopt()
    assert started == [second, other]
    assert hubs.for_server("h:1", "a") is second is not first


def test_the_password_of_a_server() -> None:
    """
    `password=` is for `server=`, and no error shows it.
    """
    given: list[tuple[str, str]] = []

    def build(server: str, password: str) -> Hub:
        if server == "redis://u:secret@h":
            raise ValueError("wrong")
        given.append((server, password))
        return CONTEXT.hub

    context = replace(CONTEXT, hubs=build)
    parse_route(r"^/a sse:server=/run/redis.sock,password=a\,b,subscribe=a", context)
    parse_route("^/a publish:server=unix:/run/redis.sock,password=env:REDIS", context)
    assert given == [("/run/redis.sock", "a,b"), ("unix:/run/redis.sock", "env:REDIS")]
    for line, reason in (
        ("^/a sse:subscribe=a,password=secret", "has no argument 'password'"),
        ("^/a sse:server=h,password=x,password=secret", "password= is given twice"),
        ("^/a sse:server=h,password=x,secret", "the text behind password= is not 'name=value'"),
        ("^/a sse:server=redis://u:secret@h", r"server=redis://\*\*\*@h: wrong"),
        ("^/a sse:server=h,password=secret\\", "end with a backslash"),
    ):
        with pytest.raises(ValueError, match=reason) as raised:
            parse_route(line, context)
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "^/a sse:server=h,password=secret,subscribe=a",
            "^/a sse:server=h,password=***,subscribe=a",
        ),
        (r"^/a sse:server=h,password=se\,cret", "^/a sse:server=h,password=***"),
        ("^/a sse:server=redis://u:sec/ret@h/1", "^/a sse:server=redis://***@h/1"),
        ("^/a sse:news", "^/a sse:news"),
    ],
)
def test_secrets_of_a_line_are_masked(line: str, shown: str) -> None:
    """
    A route line is shown in errors without its passwords.
    """
    assert mask_secrets(line) == shown


def test_a_route_says_where_its_messages_are_copied() -> None:
    """
    `out=` is an argument of the actions that publish, if the broker publishes copies.
    """

    @implementer(ICopying)
    class CopyingBroker(MemoryBroker):
        def __init__(self) -> None:
            super().__init__(Clock(), "e")
            self.drafts: list[Draft] = []
            self.reserved: list[str] = []

        def check_copies(self, out: str) -> None:
            if out == "x":
                raise ValueError("not x")

        def reserve_copies(self, out: str) -> None:
            self.reserved.append(out)

        def publish(self, drafts: Sequence[Draft]) -> Any:
            self.drafts += drafts
            return super().publish(drafts)

    broker = CopyingBroker()
    context = make_context(make_hub(broker, Clock()))
    routes = [
        parse_route(line, context)
        for line in (
            "^/a publish:channel=a,out=same",
            "^/b websocket:subscribe=a,publish=a,out=out.",
            r"^/c/ socket.io:publish=a,out=no",
            "^/d publish",
            "^/e sse:a",
        )
    ]
    Routes(routes).reserve_copies()
    for route in routes[:4]:
        route.action.context.publish([Draft("a", b"x")])

    assert [draft.out for draft in broker.drafts] == ["same", "out.", "no", None]
    assert broker.reserved == ["same", "out.", "no"]
    with pytest.raises(ValueError, match="out=x: not x"):
        parse_route("^/a publish:out=x", context)
    with pytest.raises(ValueError, match="has no argument 'out'"):
        parse_route("^/a sse:out=same", context)
    with pytest.raises(ValueError, match="only redis has copies: set broker = redis, or add"):
        parse_route("^/a publish:out=same", CONTEXT)


def test_actions_of_users() -> None:
    """
    A dotted name is a user's class; its arguments work as those of built-in words.
    """
    assert isinstance(action("^/x tests.words.Echo"), Echo)
    built = action("^/x tests.words.Echo:times=2,text=<$0>")
    assert (built.times, built.text.source) == (2, "<$0>")
    assert action("^/x tests.words.Echo:hello").text.source == "hello"
    assert load_object("tests.words.Echo") is Echo


LIVE = ("icecast", "istream", "jpeg", "mjpeg", "mjpg", "mp4", "rtmp", "rtsp", "streams", "webm")
RADIO = ("icecast-icy", "icecast-relay", "interleaved")
NEED_ARGUMENTS = (*LIVE, *RADIO, "http", "static", "resource", "upload", "uwsgi", "wsgi")


@pytest.mark.parametrize(
    "line",
    [
        *(word for word in WORDS if word not in NEED_ARGUMENTS),
        "http:127.0.0.1:8000",
        "icecast:radio",
        "icecast-icy:/a.mp3,password=hackme",
        "icecast-relay:channel=a,mount=/a.mp3,url=http://localhost/a.mp3",
        "istream:cam",
        "jpeg:cam",
        "mjpeg:cam",
        "mjpg:cam,boundary=x",
        "mp4:cam",
        "rtmp:cam",
        "rtsp:cam",
        "rtsp:publish=foobar,audio_demuxer=aac,video_demuxer=h264,video_channel=2,track_prefix=1",
        "rtsp:cam,as=raw",
        "interleaved:10.0.0.5:5004;[fd00::6]:5006",
        "streams:live/",
        "webm:cam",
        "static:.",
        "resource:tests.words.PendingResource",
        "upload:.",
        "uwsgi:127.0.0.1:3031,0,0",
        "wsgi:tests.words:application",
        "examples.own_action.Announce:text",
        "examples.own_tail.Tail:setup.py",
        "examples.own_recorder.Recorder:folder=examples,name=$0",
    ],
)
def test_each_action_keeps_the_contract(line: str) -> None:
    """
    Built-in actions and those of the examples are what `IAction` says.
    """
    context = replace(CONTEXT, reactor=ThreadedReactor(), grip=GripKey.of("s" * 32))  # type: ignore[no-untyped-call]  # Twisted has no types here
    check_action(parse_route(f"^/x {line}", context).action)


def test_what_twisted_web_serves(tmp_path: Path) -> None:
    """
    Folders, files, resources and WSGI applications can be routes.
    """
    tmp_path.joinpath("a.txt").write_text("a")

    assert isinstance(action(f"^/s/ static:{tmp_path}"), StaticAction)
    assert isinstance(action(f"^/s static:path={tmp_path}/a.txt"), StaticAction)
    assert isinstance(action("^/r resource:tests.words.Form"), ResourceAction)
    assert isinstance(action("^/r resource:name=tests.words.PendingResource"), ResourceAction)


def test_wsgi_applications() -> None:
    """
    An application is named as for other servers: `module:name`.
    """
    from twisted.internet import reactor

    context = make_context(CONTEXT.hub, reactor)

    for line in ("^/w wsgi:tests.words:application", "^/w wsgi:name=tests.words.application"):
        assert isinstance(parse_route(line, context).action, WsgiAction)
    for name in ("tests.words:nope", "tests.words:__doc__", "no.such:thing"):
        with pytest.raises(ValueError):
            parse_route(f"^/w wsgi:{name}", context)


def routes(*lines: str) -> Routes:
    return Routes([parse_route(line, CONTEXT) for line in lines])


def test_the_first_line_decides() -> None:
    """
    The first route with a matching path and method serves the request.
    """
    table = routes(
        "^/a$ sse:first", "^/a sse:second", "POST ^/m$ publish:x", "GET ^/m$ sse:y", "^/m stats"
    )

    def found(method: str, path: str) -> Any:
        result = table.find(method, path)
        assert isinstance(result, tuple)
        return result[0]

    assert found("GET", "/a").subscribe[0].source == "first"
    assert found("GET", "/ab").subscribe[0].source == "second"
    assert isinstance(found("POST", "/m"), PublishAction)
    assert found("GET", "/m").subscribe[0].source == "y"
    assert found("HEAD", "/m").subscribe[0].source == "y"
    assert table.find("GET", "/none") is None


def test_the_match_of_a_pattern() -> None:
    """
    The pattern is searched in the path; the match has groups and the rest of the path.
    """
    found = routes(r"/(\w+)(x)?/ sse:$1").find("GET", "/a/b")

    assert isinstance(found, tuple)
    assert found[1] == Match(("/a/", "a", None), "b")


@pytest.mark.parametrize(
    ("lines", "method", "allowed"),
    [
        (["GET ^/x sse:a"], "POST", {"GET", "HEAD"}),
        (["^/x sse:a"], "PUT", {"GET", "HEAD", "POST"}),
        (["^/x publish"], "GET", {"POST"}),
        (["^/x publish"], "HEAD", {"POST"}),
        (["^/x publish", "^/x sse:a"], "PUT", {"GET", "HEAD", "POST"}),
        (["PUT ^/x sse:a"], "GET", {"PUT"}),
        (["^/x sse:a"], "OPTIONS", {"GET", "HEAD", "POST"}),
        (["^/y sse:a"], "OPTIONS", None),
        (["^/x sse:a"], "get", {"GET", "HEAD", "POST"}),
    ],
)
def test_wrong_methods(lines: list[str], method: str, allowed: set[str] | None) -> None:
    """
    The result has the methods of all matching routes; HEAD is served wherever GET is.
    """
    assert routes(*lines).find(method, "/x") == allowed


@pytest.mark.parametrize("word", ["sse:a", "stream:a", "poll:a", "sseraw:a"])
def test_spare_methods_come_last(word: str) -> None:
    """
    A stream is opened by POST if no other route serves POST.
    """
    alone = routes(f"^/x {word}").find("POST", "/x")
    both = routes(f"^/x {word}", "POST ^/x publish:a").find("POST", "/x")

    assert isinstance(alone, tuple)
    assert isinstance(both, tuple)
    assert "POST" not in alone[0].methods
    assert "POST" in both[0].methods


def test_words_have_actions() -> None:
    """
    Every word builds an action.
    """
    for word in WORDS:
        found = find_object("action", WORDS, word)
        assert isinstance(found, type)
        assert isinstance(getattr(found, "methods", None), tuple)


@given(st.text(alphabet="^$/ab()[]*+?\\ =,:{}sepubli\t\n", max_size=40))
def test_any_line_is_parsed_or_rejected(line: str) -> None:
    """
    Any text is a route, or an error with a reason.
    """
    try:
        parse_route(line, CONTEXT)
    except ValueError as error:
        assert str(error)


def test_a_repeated_search_finds_the_same() -> None:
    """
    What a search has found is kept for the next request with the same method and path; how much
    is kept is bounded, also by the length of the paths.
    """
    routes = Routes([parse_route("^/(.*) sse:a_$1", CONTEXT)])
    chain: Any = routes._chain

    for number in (*range(MAX_KNOWN + 10), 5, MAX_KNOWN):
        for _ in range(2):
            found = routes.find("GET", f"/{number}")
            assert isinstance(found, tuple)
            assert found[1].groups == (f"/{number}", str(number))
        assert len(chain._known) <= MAX_KNOWN
    known = len(chain._known)
    assert isinstance(routes.find("GET", "/" + "x" * MAX_KNOWN_PATH), tuple)
    assert routes.find("DELETE", "/5") == {"GET", "HEAD", "POST"}
    assert len(chain._known) == known


def test_searches_of_the_built_in_routes_are_kept() -> None:
    """
    The built-in routes depend on method and path alone, so that searches are kept; not what
    their last line serves, which other lines may serve first.
    """
    routes = Routes([parse_route(line, CONTEXT) for line in DEFAULT])
    chain: Any = routes._chain

    assert routes.find("POST", "/publish") is routes.find("POST", "/publish")
    assert routes.find("GET", "/") is routes.find("GET", "/")
    assert isinstance(routes.find("POST", "/open/a"), tuple)
    assert set(chain._known) == {("POST", "/publish", False), ("GET", "/", False)}


@pytest.mark.parametrize("word", ["rtsp", "rtmp"])
def test_internal_routes_are_no_protocols_of_the_ports(word: str) -> None:
    """
    A client reaches an `internal-route` by no other protocol, and not by RTMP in HTTP either.
    """

    def made(start: str) -> Routes:
        return Routes([parse_entry(f"{start}^/cam$ {word}:cam", routing_context())])

    assert made("").port_protocols
    routes = made("internal-route ")
    assert not routes.port_protocols
    assert routes.find("POST", "/open/1") is None
    assert routes.find("PUBLISH", "/cam") is None
