"""
Publishing, CORS, versions of HTTP, health, pages and files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.real.conftest import Server
from tests.recorded.conftest import Check, run_daemon
from tests.recorded.peers import HttpPeer, position, recording
from tests.recorded.transcript import Transcript

FORM = "Content-Type: application/x-www-form-urlencoded"
JSON = "Content-Type: application/json"
LINES = "Content-Type: application/x-ndjson"
PLAIN = "Content-Type: text/plain"
MULTIPART = "Content-Type: multipart/form-data; boundary=limit"
PARTS = """--limit\r
Content-Disposition: form-data; name="channel"\r
\r
pub-a\r
--limit\r
Content-Disposition: form-data; name="message"; filename="a.txt"\r
Content-Type: text/plain\r
\r
from a file\r
--limit--\r
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """
    A daemon with keys, origins, small limits and files to serve.
    """
    folder = tmp_path_factory.mktemp("strict")
    files = folder / "public"
    files.mkdir()
    (files / "a.txt").write_text("a file\n")
    yield from run_daemon(
        folder,
        "--http-secret=all",
        "--publish-key=some pub-* other",
        "--stats-key=numbers",
        "--origins=https://www.example.org https://example.org",
        "--credentials=1",
        "--max-body=1k",
        "--max-message=20",
        "--max-batch=3",
        "--max-line=100",
        "--max-headers=10",
        "--max-header-bytes=1k",
        "--max-readers=1",
        "--max-reader-channels=2",
        "--channel-pattern=[a-z-]+",
        "--trim=1",
        r"--route=^/$ sse",
        r"--route=^/poll$ poll",
        r"--route=^/stream$ stream",
        r"--route=^/publish$ publish",
        r"--route=^/stats$ stats",
        r"--route=^/metrics$ metrics",
        r"--route=^/readyz$ ready",
        f"--route=^/files/ static:{files}",
        r"--route=PUT ^/put$ publish:pub-put",
    )


def ask(server: Server, record: Transcript, *request: str, body: bytes | str = b"") -> None:
    """
    One request on a connection of its own, and its response.
    """
    with HttpPeer(server, record) as http:
        http.ask(*request, body=body)


def test_publish(shared: Server, check: Check) -> None:
    """
    All kinds of bodies; what arrived is polled at the end.
    """
    record = recording(shared)
    post = "POST /publish"
    messages = [{"channel": "pub-a", "message": n, "event": "e"} for n in (1, None, "x", [1])]
    record.title("form")
    ask(shared, record, post, FORM, body="channel=pub-a&channel=pub-b&event=goal&message=1+%3A+0")
    ask(shared, record, f"{post}?channel=pub-a", body="message=without+a+type")
    ask(shared, record, post, FORM, body="channel=pub-a&message=one&message=two&more=x")
    ask(shared, record, f"{post}?channel=pub-a&message=in+the+query", "Content-Length: 0")
    record.title("multipart")
    ask(shared, record, post, MULTIPART, body=PARTS)
    record.title("JSON")
    ask(shared, record, post, JSON, body='{"channel": ["pub-a", "pub-b"], "message": {"a":  1.0}}')
    ask(shared, record, post, f"{JSON}; charset=utf-8", body=json.dumps(messages))
    record.title("JSON lines")
    for kind in ("x-ndjson", "ndjson", "jsonl"):
        lines = "\n".join(json.dumps(each) for each in messages) + "\n"
        ask(shared, record, post, f"Content-Type: application/{kind}", body=lines)
    record.title("anything else")
    ask(shared, record, f"{post}?channel=pub-a&event=tick", PLAIN, body=b"\xff plain\n")
    record.title("chunked, with a question first")
    with HttpPeer(shared, record) as http:
        http.send(f"{post}?channel=pub-a", PLAIN, "Transfer-Encoding: chunked",
                  "Expect: 100-continue")  # fmt: skip
        http.receive(without_body=True)
        http.raw(b"3\r\nabc\r\n0\r\n\r\n")
        http.receive()
    record.title("idempotency keys")
    for _ in range(2):
        ask(shared, record, post, "Idempotency-Key: k1", FORM, body="channel=pub-a&message=once")
        ask(shared, record, post, FORM, body="channel=pub-a&message=once&idempotency_key=k2")
        ask(shared, record, post, "Idempotency-Key: k3", LINES, body=lines)
    record.title("two requests at once on one connection")
    with HttpPeer(shared, record) as http:
        for number in "12":
            http.send(post, FORM, body=f"channel=pub-a&message={number}")
        http.receive()
        http.receive()
    record.title("all that arrived")
    ask(shared, record, "GET /poll?channels=pub-a,pub-b&since=all")
    check("publish.txt", record)


@pytest.mark.parametrize("name", ["shared", "strict"])
def test_publish_refused(name: str, request: pytest.FixtureRequest, check: Check) -> None:
    """
    Statuses of requests that publish nothing, with and without keys.
    """
    server: Server = request.getfixturevalue(name)
    record = recording(server)
    post = "POST /publish"
    for title, line, headers, body in (
        ("nothing", post, [], ""),
        ("no channel", post, [FORM], "message=x"),
        ("no message", post, [FORM], "channel=pub-a"),
        ("a wrong channel", post, [FORM], "channel=a*&message=x"),
        ("a wrong event", post, [FORM], "channel=pub-a&event=gap&message=x"),
        ("a wrong form", post, ["Content-Type: multipart/form-data"], "x"),
        ("no JSON", post, [JSON], "{"),
        ("JSON of another shape", post, [JSON], "3"),
        ("an unknown field", post, [JSON], '{"channel": "pub-a", "mesage": "x"}'),
        ("one wrong line", post, [LINES], '{"channel":"pub-a","message":1}\n{"message":1}\n'),
        ("four messages", post, [JSON], json.dumps([{"channel": "pub-a", "message": 1}] * 4)),
        ("a long message", post, [FORM], f"channel=pub-a&message={'x' * 21}"),
        ("a long body", post, [FORM], f"channel=pub-a&message=x&more={'x' * 1024}"),
        ("a long key", post, [f"Idempotency-Key: {'k' * 201}", FORM], "channel=pub-a&message=x"),
        ("GET", "GET /publish", [], ""),
        ("an Expect", post, ["Expect: something", FORM], "channel=pub-a&message=x"),
        ("a coding", post, ["Transfer-Encoding: gzip"], "channel=pub-a&message=x"),
        ("another host", post, ["Host: www.example.org", FORM], "channel=pub-a&message=x"),
        (
            "another page",
            post,
            ["Origin: http://elsewhere.example", FORM],
            "channel=pub-a&message=x",
        ),
        ("a proxy", post, ["X-Forwarded-For: 10.0.0.1", FORM], "channel=pub-a&message=x"),
        ("HTTP/1.0", f"{post} HTTP/1.0", [FORM], "channel=pub-a&message=x"),
    ):
        record.title(title)
        keyed = [] if name == "shared" else ["Authorization: Bearer all"]
        ask(server, record, line, *keyed, *headers, body=body)
    check(f"publish-refused-{name}.txt", record)


def test_keys(strict: Server, check: Check) -> None:
    """
    Keys to publish and to see the numbers.
    """
    record = recording(strict)
    message = "channel=pub-a&message=+x%01y+"
    record.title("keys to publish")
    for header in ("Authorization: Bearer all", "Authorization: bearer some", "X-Publish-Key: some",
                   "X-Publish-Key: wrong", "Authorization: Basic YTpi", "X-Other: x"):  # fmt: skip
        ask(strict, record, "POST /publish", header, FORM, body=message)
    ask(strict, record, "POST /publish", FORM, body=f"{message}&key=some")
    ask(strict, record, "POST /publish?channel=other&key=some", body="message=x")
    ask(
        strict,
        record,
        "POST /publish",
        "X-Publish-Key: some",
        FORM,
        body="channel=foreign&message=x",
    )
    ask(strict, record, "POST /publish", JSON, body='{"channel":"other","message":1,"key":"all"}')
    record.title("a route with a method")
    ask(strict, record, "PUT /put?key=all", body="message=x")
    ask(strict, record, "POST /put?key=all", body="message=x")
    record.title("keys for numbers")
    for line in ("GET /stats", "GET /metrics", "GET /stats?key=wrong", "GET /stats?key=numbers"):
        ask(strict, record, line)
    ask(strict, record, "GET /stats", "Authorization: Bearer numbers")
    record.title("what arrived")
    ask(strict, record, "GET /poll?channels=pub-a,other&since=all")
    check("keys.txt", record)


def test_limits(strict: Server, check: Check) -> None:
    """
    Statuses of requests over a limit, and of subscribers over one.
    """
    record = recording(strict)
    record.title("a long line")
    ask(strict, record, f"GET /?{'x' * 100}")
    record.title("many headers")
    ask(strict, record, "GET /readyz", *(f"X-{number}: x" for number in range(11)))
    record.title("long headers")
    ask(strict, record, "GET /readyz", f"X-Long: {'x' * 1024}")
    record.title("three channels")
    ask(strict, record, "GET /?channels=a,b,c")
    record.title("one reader of one, by each transport")
    with HttpPeer(strict) as http:
        http.ask("GET /?channels=a", until="\n\n")
        record.vary(r"Retry-After: \d+", "Retry-After: SECONDS")
        record.vary(r"retry: \d+", "retry: MS")
        ask(strict, record, "GET /?channels=a")
        ask(strict, record, "GET /?channels=a", "Accept: text/event-stream")
        ask(strict, record, "GET /stream?channels=a")
        ask(strict, record, "GET /poll?channels=a&since=00000000.1&wait=0")
    wait_until_left(strict)
    record.title("no HTTP")
    for data in (b"HELLO\r\n\r\n", b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        with HttpPeer(strict, record) as http:
            http.raw(data)
            http.receive()
            http.end()
    check("limits.txt", record)


def test_cors(shared: Server, strict: Server, check: Check) -> None:
    """
    Preflights and responses for pages of other origins.
    """
    record = recording(shared)
    record.log(*position(strict))
    known, unknown = "Origin: https://example.org", "Origin: https://elsewhere.example"
    preflight = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: x-y, a")
    for title, server, stats in (("all origins", shared, "/stats"),
                                 ("some, credentials", strict, "/stats?key=numbers")):  # fmt: skip
        for origin in (known, unknown):
            record.title(f"{title}: {origin}")
            ask(server, record, "OPTIONS /publish", origin, *preflight)
            ask(server, record, "OPTIONS /", origin, "Access-Control-Request-Method: GET")
            ask(server, record, "OPTIONS /poll?channels=a", origin)
            ask(server, record, "OPTIONS /nothing", origin, *preflight)
            ask(server, record, "GET /poll?channels=cors", origin)
            ask(server, record, f"GET {stats}", origin)
            ask(server, record, "GET /poll", origin)
            with HttpPeer(server, record) as http:
                http.send("GET /?channels=cors", origin)
                http.receive("id: .*?\n\n")
                if server is strict:  # it has one place for a subscriber
                    http.leave()
                    wait_until_left(server)
    check("cors.txt", record)


def wait_until_left(server: Server) -> None:
    """
    Wait until the daemon has noticed that its subscriber is gone.
    """
    with HttpPeer(server) as http:
        while http.ask("GET /stats?format=full&key=numbers").json()["readers"]["now"]:
            pass


def test_connections(shared: Server, check: Check) -> None:
    """
    Which connections stay open, by version and header.
    """
    record = recording(shared)
    for title, line, headers, body in (
        ("HTTP/1.1", "GET /healthz", [], ""),
        ("HTTP/1.1, close", "GET /healthz", ["Connection: close"], ""),
        ("HTTP/1.0", "GET /healthz HTTP/1.0", [], ""),
        ("HTTP/1.0, keep-alive", "GET /healthz HTTP/1.0", ["Connection: keep-alive"], ""),
        ("HEAD", "HEAD /healthz", [], ""),
        ("an error", "GET /nothing", [], ""),
        ("an error with a body", "POST /nothing", [], "x=y"),
    ):
        record.title(title)
        with HttpPeer(shared, record) as http:
            http.ask(line, *headers, body=body)
            http.probe()
    check("connections.txt", record)


def test_health_and_pages(shared: Server, strict: Server, check: Check) -> None:
    """
    Health, the page to try it, the clients for pages, and files.
    """
    record = recording(shared)
    record.title("health")
    for line in ("GET /healthz", "GET /readyz", "HEAD /readyz", "POST /healthz"):
        ask(shared, record, line)
    record.title("pages, heads only")
    for path in ("/try", "/realtime.js", "/attributes.js"):
        with HttpPeer(shared, record) as http:
            http.send(f"GET {path}")
            response = http.receive(hide=True)
            http.ask(f"GET {path}", f"If-None-Match: {response.get('ETag')}", hide=True)
        with HttpPeer(shared, record) as http:
            http.ask(f"GET {path}", "Accept-Encoding: gzip", hide=True)
    record.title("files")
    for path in ("/files/a.txt", "/files/", "/files/none", "/files/../strict.conf"):
        with HttpPeer(strict, record) as http:
            http.ask(f"GET {path}", hide=path != "/files/a.txt")
    check("pages.txt", record)
