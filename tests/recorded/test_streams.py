"""
Event streams, raw streams and long-polling, as their clients see them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real.conftest import Server
from tests.recorded.conftest import Check, run_daemon
from tests.recorded.peers import HttpPeer, WebSocketPeer, get, publish, recording

CURSOR = r"id: \w+\.\d+\n\n"
EVENTS = "Accept: text/event-stream"


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """
    A daemon whose routes name the channels.
    """
    yield from run_daemon(
        tmp_path_factory.mktemp("routed"),
        r"--route=^/publish$ publish",
        r"--route=^/poll$ poll",
        r"--route=^/in/(\w+)$ publish:in-$1",
        r"--route=^/fixed/(\w+)$ sse:subscribe=in-$1,subscribe=all,history=2,retry=0",
        r"--route=^/noids$ sse:subscribe=in-noids,ids=no,retry=1234,slow=skip",
        r"--route=^/raw$ sseraw:in-raw",
        r"--route=^/lines$ stream:subscribe=in-lines,prefix=<,suffix=>\n,type=text/plain,history=1",
        r"--route=^/bytes$ stream",
        r"--route=^/wait$ poll:subscribe=in-wait,history=1,wait=0.01",
        r"--route=^/sent$ sse:page=elsewhere",
    )


def test_sse(shared: Server, check: Check) -> None:
    """
    An event stream begins, has events of all kinds, is resumed and has a gap.
    """
    record = recording(shared)
    record.title("a stream without history, then events")
    with HttpPeer(shared, record) as http:
        http.send("GET /?channels=sse-a,sse-b", EVENTS)
        http.receive(CURSOR)
        publish(shared, "sse-a", "hello")
        http.more("hello.*?\n\n")
        publish(shared, "sse-b", "Ajax\r\n1 : 0\n", "goal")
        http.more("goal.*?\n\n")
        publish(shared, "sse-a", b"\xff")
        http.more("data: .*?\n\n")
        publish(shared, "sse-a", "")
        last = publish(shared, "sse-b", "last")
        http.more("last.*?\n\n")
    record.title("resumed by header, with the rest as JSON")
    first = last.rpartition(".")[0] + f".{int(last.rpartition('.')[2]) - 3}"
    with HttpPeer(shared, record) as http:
        http.send("GET /?channels=sse-a&channels=sse-b&format=json", f"Last-Event-ID: {first}")
        http.receive("last.*?\n\n")
    for query in ("since=all", "history=2", "since=1h", f"lastEventId={first}",
                  f"evs_last_event_id={first}", f"since={first}"):  # fmt: skip
        record.title(query.partition("=")[0])
        with HttpPeer(shared, record) as http:
            http.send(f"GET /?channels=sse-a,sse-b&{query}")
            http.receive("last.*?\n\n")
    record.title("a position of another log is a gap")
    with HttpPeer(shared, record) as http:
        http.send("GET /?channels=sse-b&since=00000000.7")
        http.receive("last.*?\n\n")
    record.title("padding and a limit of bytes")
    with HttpPeer(shared, record) as http:
        http.ask("GET /?channels=sse-b&padding=true&history=9&evs_buffer_size_limit=10")
    record.title("HEAD")
    with HttpPeer(shared, record) as http:
        http.ask("HEAD /?channels=sse-a")
    record.title("HTTP/1.0")
    with HttpPeer(shared, record) as http:
        http.send("GET /?channels=sse-b&history=1 HTTP/1.0")
        http.receive("last.*?\n\n")
    record.title("XMLHttpRequest, as cyclone-sse")
    with HttpPeer(shared, record) as http:
        http.ask(
            "GET /?channels=sse-a,sse-b",
            "X-Requested-With: XMLHttpRequest",
            f"Last-Event-ID: {first}",
        )
    check("sse.txt", record)


def test_sse_refused(shared: Server, check: Check) -> None:
    """
    Requests that get no stream.
    """
    record = recording(shared)
    for line in (
        "GET /?format=full",
        "GET /?channels=",
        "GET /?channels=a*",
        "GET /?" + "&".join(f"channels=c{number}" for number in range(101)),
        "GET /?channels=a&since=yesterday",
        "GET /?channels=a&history=x",
        "GET /?channels=a&evs_buffer_size_limit=x",
        "PUT /?channels=a",
        "DELETE /?channels=a",
        "GET /nothing",
    ):
        record.title(line if len(line) < 60 else "101 channels")
        with HttpPeer(shared, record) as http:
            http.ask(line)
    record.title("a browser that names no channel")
    with HttpPeer(shared, record) as http:
        http.ask("GET /", "Accept: text/html,*/*;q=0.8")
    check("sse-refused.txt", record)


def test_routes_that_name_channels(routed: Server, check: Check) -> None:
    """
    Streams of routes with arguments.
    """
    record = recording(routed)
    record.title("published by a route")
    for channel in ("fixed", "noids", "raw", "lines", "wait"):
        with HttpPeer(routed, record) as http:
            http.ask(f"POST /in/{channel}?channel=ignored", body="message=one")
    record.title("sse with channels and history of the route, without retry")
    with HttpPeer(routed, record) as http:
        http.send("GET /fixed/fixed?channels=ignored")
        http.receive("one.*?\n\n")
    record.title("sse without ids")
    with HttpPeer(routed, record) as http:
        http.send("GET /noids?since=all")
        http.receive("one.*?\n\n")
    record.title("sseraw")
    with HttpPeer(routed, record) as http:
        http.send("GET /raw?since=all")
        http.receive("one")
        publish(routed, "in-raw", "id: 7\ndata: mine\n\n")
        http.more("mine\n\n")
    record.title("stream with prefix, suffix, type and history")
    with HttpPeer(routed, record) as http:
        http.send("GET /lines")
        http.receive("one>\n")
        publish(routed, "in-lines", "two")
        http.more("two>\n")
    record.title("stream, bytes")
    with HttpPeer(routed, record) as http:
        http.send("GET /bytes?channels=in-lines&since=all")
        http.receive("two")
        publish(routed, "in-lines", b"\x00\xff\n")
        http.more("\n")
    record.title("stream, HTTP/1.0")
    with HttpPeer(routed, record) as http:
        http.send("GET /bytes?channels=in-wait&since=all HTTP/1.0")
        http.receive("one")
    record.title("poll with a wait of the route, twice on one connection")
    with HttpPeer(routed, record) as http:
        found = http.ask("GET /wait?channels=ignored")
        http.ask(f"GET /wait?since={found.json()['position']}")
    record.title("a page for browsers that name no channel")
    with HttpPeer(routed, record) as http:
        http.ask("GET /sent", "Accept: text/html")
    check("streams-of-routes.txt", record)


def test_poll(shared: Server, check: Check) -> None:
    """
    Long-polls of all kinds.
    """
    record = recording(shared)
    publish(shared, "poll-a", "hello")
    publish(shared, "poll-b", b"\xff\x00", "bytes")
    last = publish(shared, "poll-b", "last")
    record.title("the first poll, and its history")
    with HttpPeer(shared, record) as http:
        start = http.ask("GET /poll?channels=poll-a,poll-b").json()["position"]
        http.ask("GET /poll?channels=poll-a,poll-b&history=2")
        http.ask("GET /poll?channels=poll-a&channels=poll-b&since=all")
    record.title("a poll that waits")
    with HttpPeer(shared, record) as http:
        http.send(f"GET /poll?channels=poll-a,poll-b&since={start}")
        http.send(f"GET /poll?channels=poll-a&since={start}")  # answered behind the first
        publish(shared, "poll-a", "news", "kind")
        http.receive()
        http.receive()
    record.title("nothing comes")
    for header in (f"Last-Event-ID: {last}", f'If-None-Match: "{last}"'):
        with HttpPeer(shared, record) as http:
            http.ask("GET /poll?channels=poll-none&wait=0", header)
    record.title("a gap")
    with HttpPeer(shared, record) as http:
        http.ask("GET /poll?channels=poll-b&since=00000000.7")
    record.title("as events")
    with HttpPeer(shared, record) as http:
        http.ask("GET /poll?channels=poll-a,poll-b&since=all&format=sse")
        http.ask("GET /poll?channels=poll-b&since=00000000.7", EVENTS)
    record.title("HEAD, HTTP/1.0")
    with HttpPeer(shared, record) as http:
        http.ask("HEAD /poll?channels=poll-a")
    with HttpPeer(shared, record) as http:
        http.ask("GET /poll?channels=poll-a HTTP/1.0")
        http.end()
    record.title("refused")
    for line in ("GET /poll", "GET /poll?channels=a&wait=x", "GET /poll?channels=a&format=x",
                 "PUT /poll?channels=a"):  # fmt: skip
        with HttpPeer(shared, record) as http:
            http.ask(line)
    check("poll.txt", record)


def test_stop(check: Check, tmp_path_factory: pytest.TempPathFactory) -> None:
    """
    What clients get when the daemon ends.
    """
    daemon = run_daemon(tmp_path_factory.mktemp("stopped"))
    server = next(daemon)
    record = recording(server)
    record.vary(r"retry(\"?): \d+", r"retry\1: MS")  # another for each client
    stream, poll, raw = HttpPeer(server, record), HttpPeer(server, record), HttpPeer(server, record)
    web = HttpPeer(server, record)
    with stream, poll, raw, web:
        record.title("event stream")
        stream.send("GET /?channels=a")
        stream.receive(CURSOR)
        record.title("stream")
        raw.send("GET /stream?channels=a")
        raw.receive("^")
        record.title("websocket")
        socket = WebSocketPeer(web, "/ws?channels=a")
        socket.receive()
        start = get(server, "/poll?channels=a").json()["position"]
        record.title("poll")
        poll.send(f"GET /poll?channels=a&since={start}")
        while get(server, "/stats?format=full").json()["readers"]["now"] < 4:
            pass
        record.title("the daemon stops")
        with pytest.raises(StopIteration):
            next(daemon)
        record.title("event stream")
        stream.more(r"\n\n")
        stream.end()
        record.title("stream")
        raw.end()
        record.title("poll")
        poll.receive()
        record.title("websocket")
        socket.receive()
        socket.end()
    check("stop.txt", record)


def test_opened_by_post(shared: Server, check: Check) -> None:
    """
    Streams and polls whose channels are in the body of a POST.
    """
    record = recording(shared)
    publish(shared, "post-a", "hello")
    form, json = "Content-Type: application/x-www-form-urlencoded", "Content-Type: application/json"
    fields = '{"channels": ["post-a", "post-b"], "since": "all"}'
    record.title("form")
    with HttpPeer(shared, record) as http:
        http.send("POST /", form, body="channels[]=post-a&channels[]=post-b&history=1")
        http.receive("hello.*?\n\n")
    record.title("JSON")
    with HttpPeer(shared, record) as http:
        http.send("POST /", json, body=fields)
        http.receive("hello.*?\n\n")
    with HttpPeer(shared, record) as http:
        http.send("POST /stream", json, body=fields)
        http.receive("hello")
    with HttpPeer(shared, record) as http:
        http.ask("POST /poll", json, body=fields)
        http.ask("POST /poll", json, body="[]")
    with HttpPeer(shared, record) as http:
        http.ask("POST /poll", "Content-Type: text/plain", body="x")
    check("opened-by-post.txt", record)
