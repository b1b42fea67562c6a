"""
Routes where the application decides, on every transport.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rt_twisted.access.gate import Gate
from rt_twisted.access.grants import Grant
from rt_twisted.access.publish_rate import PublishRate
from rt_twisted.access.questions import AppAnswer, Question, UnusableAnswer, read_answer
from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.model.errors import HttpError
from rt_twisted.routes import DEFAULT, parse_route
from tests.defaults import make_hub_limits, make_socketio_limits
from tests.unit.actions.live.test_streams import NodesBroker
from tests.unit.actions.test_access_streams import (
    NOW,
    SECRET,
    Sio,
    bearer,
    connect,
    pass_seconds,
    put,
    show,
    token,
)
from tests.unit.actions.websocket.daemon import SECRETS, WebSocketDaemon
from tests.unit.http.clients import Caller, get, post, status_of


class FakeApp:
    """
    An application that permits the channels that begin with an `a`, for clients with a cookie.
    """

    url = "http://app/"

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.headers: dict[str, str] = {}
        self.now: Callable[[], float] = lambda: NOW
        self.waits: list[Deferred[AppAnswer]] | None = None
        self.down = False

    def ask(self, question: Question) -> Deferred[AppAnswer]:
        self.questions.append(question)
        if self.down:
            return fail(self.unusable("down"))
        if self.waits is not None:
            self.waits.append(Deferred())
            return self.waits[-1]
        status = 401
        if dict(question.headers).get("Cookie", "").startswith("s="):
            status = 204 if all(name[0] == "a" for name in question.channels) else 403
        fields = tuple(
            [(name.encode(), text.encode("latin-1")) for name, text in self.headers.items()]
        )
        return succeed(read_answer(question, UpstreamResponse(status, fields), b"", self.now()))

    def unusable(self, reason: str) -> HttpError:
        return HttpError(503, "the application cannot be asked now", retry=5)


COOKIE = "Cookie: s=1\r\n"
LINES = (
    "^/sse$ sse",
    "^/poll$ poll",
    "^/stream$ stream",
    r"^/room/(\w+)$ sse:subscribe=room-$1",
    "^/me$ sse:subscribe=user-${grant[sub]}",
    r"^/r/(\w+)$ websocket:subscribe=$1,publish=$1",
    r"^/engine\.io/ engine.io",
    r"^/socket\.io/ socket.io",
    "^/publish$ publish:allow=app",
    "^/say$ publish:channel=guests,allow=app",
    "^/in$ istream:publish=a-cam,allow=app",
    "GET ^/cam$ webm:subscribe=b-cam,wait=1",
    "^/list$ streams:cam-",
)


def daemon(*allow: str, **options: Any) -> tuple[WebSocketDaemon, FakeApp]:
    app = FakeApp()
    tokens = TokenVerifier([TokenKey.of(SECRET)], now=lambda: NOW + made.clock.seconds())
    gate = Gate(allow or ("app",), app=app, tokens=tokens if "token" in allow else None)
    options.setdefault("socketio", make_socketio_limits(ping_interval=1000.0))
    made: WebSocketDaemon = WebSocketDaemon(*LINES, gate=gate, **options)
    app.now = lambda: NOW + made.clock.seconds()
    return made, app


def test_default_routes_ask() -> None:
    """
    `allow = app` works without any route of one's own.
    """
    server, _ = daemon()
    for line in DEFAULT:
        assert parse_route(line, server.context)


@pytest.mark.parametrize("word", ["sse", "poll", "stream"])
def test_streams_are_decided_by_the_application(word: str) -> None:
    """
    All channels of a request are one question.
    """
    server, app = daemon()
    assert b" 200 " in show(server, f"/{word}?channels=a,ab", COOKIE).written()
    [question] = app.questions
    assert question.channels == ("a", "ab")
    assert (question.action, question.transport, question.method) == ("subscribe", word, "GET")
    assert question.uri == f"/{word}?channels=a,ab"
    assert question.headers == (("Cookie", "s=1"),)
    assert b" 401 " in show(server, f"/{word}?channels=a").written()
    assert b" 403 " in show(server, f"/{word}?channels=a,b", COOKIE).written()
    server.publish("hello", channel="a")


def test_grants_of_the_application() -> None:
    """
    Its channels are the default, its claims make channels, its cookies are the client's.
    """
    server, app = daemon()
    app.headers = {"X-User": "mia", "X-Channels": "news", "Set-Cookie": "s=2"}
    mine, news = show(server, "/me", COOKIE), show(server, "/sse", COOKIE)
    server.publish("for mia", channel="user-mia")
    server.publish("for all")
    assert b"Set-Cookie: s=2\r\n" in mine.written()
    assert b"data: for mia" in mine.written()
    assert b"data: for all" in news.written()
    assert b" 403 " in show(server, "/sse?channels=a", COOKIE).written()
    app.headers["X-Channels"] = "a\x01b"
    assert b" 503 " in show(server, "/sse", COOKIE).written()


def test_cookies_are_passed_with_refusals() -> None:
    """
    Whatever the status is: sessions roll.
    """
    server, app = daemon()
    app.headers = {"Set-Cookie": "s=2"}

    assert b"Set-Cookie: s=2\r\n" in show(server, "/sse?channels=b", COOKIE).written()


def test_headers_that_the_application_sets(clean_reactor: list[Failure]) -> None:
    """
    Tabs and bytes above ASCII are passed on; a header that cannot be sent is a 500.
    """
    server, app = daemon()
    app.headers = {"Set-Cookie": "s=Stra\u00c3\u009fe\tx"}
    assert (
        b"Set-Cookie: s=Stra\xc3\x9fe\tx\r\n" in show(server, "/sse?channels=a", COOKIE).written()
    )
    app.headers = {"Set-Cookie": "s=secret\x01"}
    for channel in "ab":
        refused = show(server, f"/sse?channels={channel}", COOKIE).written()
        assert b" 500 " in refused and b"secret" not in refused
    logged = "".join(failure.getErrorMessage() for failure in clean_reactor)
    assert "Set-Cookie" in logged and "secret" not in logged
    clean_reactor.clear()


def test_streams_end_with_the_grant_of_the_application() -> None:
    """
    X-Expires-In is as `exp` of a token.
    """
    server, app = daemon()
    app.headers = {"X-Expires-In": "60"}
    caller = show(server, "/sse?channels=a", COOKIE)
    pass_seconds(server, 31)
    assert b"event: expire" in caller.written()
    pass_seconds(server, 29)
    assert not caller.open


def test_tokens_count_before_the_application() -> None:
    """
    An invalid token is refused without a question.
    """
    server, app = daemon("token", "app")
    good = token(channels=["b"])
    assert b" 200 " in show(server, "/sse?channels=b", bearer(good)).written()
    assert b" 401 " in show(server, "/sse?channels=a", bearer("nonsense") + COOKIE).written()
    assert not app.questions
    assert b" 200 " in show(server, "/sse?channels=a", COOKIE).written()


def test_an_application_that_is_down_refuses_all() -> None:
    """
    503; an EventSource gets a stream with `retry:` that ends; a websocket 1013; Socket.IO
    connect_error. Connected subscribers stay.
    """
    server, app = daemon()
    before = show(server, "/sse?channels=a", COOKIE)
    app.down = True
    refused = show(server, "/sse?channels=a", COOKIE)
    assert b" 503 " in refused.written()
    assert b"Retry-After: 5" in refused.written()
    source = show(server, "/sse?channels=a", COOKIE + "Accept: text/event-stream\r\n").written()
    assert b" 200 " in source and b"retry: " in source
    peer = server.open("/ws?channels=a", COOKIE)
    assert peer.status == 101
    assert peer.received()[-1].code == 1013
    assert connect(Sio(server, COOKIE)) == 503
    server.publish("on", channel="a")
    assert b"data: on" in before.written()


def test_a_full_daemon_asks_no_application() -> None:
    """
    503, and the code 1013 for a websocket, as when the application is down.
    """
    server, app = daemon(limits=make_hub_limits(subscribers=1))
    assert b" 200 " in show(server, "/sse?channels=a", COOKIE).written()
    assert b" 503 " in show(server, "/sse?channels=a", COOKIE).written()
    peer = server.open("/ws?channels=a", COOKIE)
    assert peer.status == 101
    assert peer.received()[-1].code == 1013
    assert len(app.questions) == 1


def test_json_websockets_ask_for_each_command() -> None:
    """
    What the grant does not cover; one refused command leaves the others alone.
    """
    server, app = daemon()
    assert server.open("/ws").status == 401
    peer = server.open("/ws?channels=a", COOKIE)
    peer.received()
    assert peer.command(type="subscribe", channels=["ab", "ac"], id=1)[0]["type"] == "ack"
    assert app.questions[-1].channels == ("ab", "ac")
    assert peer.command(type="subscribe", channels=["b"], id=2)[0]["status"] == 403
    published = peer.command(type="publish", channel="ab", message="x", id=3)
    assert {each["type"] for each in published} == {"ack", "message"}
    assert app.questions[-1].action == "publish"
    assert peer.command(type="publish", channel="b", message="x", id=4)[-1]["status"] == 403
    count = len(app.questions)
    peer.command(type="publish", channel="ab", message="y", id=5)
    assert len(app.questions) == count
    server.publish("z", channel="ac")
    assert [each["data"] for each in peer.received()] == ["z"]


def test_commands_wait_for_the_answer() -> None:
    """
    They are executed in order.
    """
    server, app = daemon()
    peer = server.open("/ws", COOKIE)
    peer.received()
    app.waits = []
    peer.text(json.dumps({"type": "subscribe", "channels": ["a"], "id": 1}))
    peer.text(json.dumps({"type": "ping", "id": 2}))
    assert peer.received() == []
    app.waits[0].callback(AppAnswer(Grant(asked=("a",)), None))
    server.turn()
    assert [each["id"] for each in peer.received() if "id" in each] == [1, 2]


def test_routes_with_channels_of_the_client() -> None:
    """
    The application is asked about them.
    """
    server, app = daemon()
    assert server.open("/r/b", COOKIE).status == 403
    app.headers = {"X-Subscribe": "a*", "X-Publish": "a*"}
    assert server.open("/r/a", COOKIE).status == 101
    app.headers = {"X-Subscribe": "a*"}
    assert server.open("/r/a", COOKIE).status == 403


def test_engine_io_asks() -> None:
    """
    At the handshake.
    """
    server, app = daemon()
    path = "/engine.io/?EIO=4&transport=websocket&channels="
    assert server.open(path + "a").status == 401
    assert server.open(path + "b", COOKIE).status == 403
    assert server.open(path + "a", COOKIE).status == 101
    assert app.questions[-1].transport == "engine.io"


def test_socket_io_asks() -> None:
    """
    When a client connects, and for each command.
    """
    server, app = daemon(publish_keys=SECRETS)
    assert connect(Sio(server)) == 401
    client = Sio(server, COOKIE)
    assert connect(client) == 200
    assert client.emit("subscribe", ["a", "ab"])["status"] == "ok"
    assert client.emit("subscribe", "b")["status"] == "error"
    assert client.emit("publish", "a", "x")["status"] == "ok"
    assert client.emit("publish", "b", "x")["status"] == "error"
    assert [question.channels for question in app.questions[1:]] == [
        (), ("a", "ab"), ("b",), ("a",), ("b",)
    ]  # fmt: skip


def test_socket_io_clients_that_connect_at_once_are_one() -> None:
    """
    The grant of a token is not replaced by a later answer, which neither ends nor is revoked.
    """
    server, app = daemon("app", "token")
    app.waits = []
    client = Sio(server, COOKIE)
    assert client.send("40") == []
    assert client.send("40/x," + json.dumps({"token": token(sub="eve")})) == []
    app.waits[0].callback(AppAnswer(Grant("mia", ("a",)), None))
    server.turn()
    refused, connected = client.received()[:2]
    assert connected.startswith("40{") and '"status":403' in refused

    client = Sio(server, COOKIE)
    assert client.send("40/x,") == []
    assert client.send("40" + json.dumps({"token": token(60)})) == []
    app.waits[1].callback(AppAnswer(Grant("mia", ("a",)), None))
    server.turn()
    assert any(answer.startswith("40{") for answer in client.received())
    assert len(app.waits) == 2
    pass_seconds(server, 61)
    assert server.hub.current_metrics().closed["expired"] == 1


def test_a_refusal_that_is_kept_holds_no_request() -> None:
    """
    Each client gets the same answer; its traceback would hold the frames of all of them.
    """
    server, app = daemon()
    peer = server.open("/ws", COOKIE)
    peer.received()
    kept = app.ask(Question("subscribe", "ws", ("b",), "GET", "/", (("Cookie", "s=1"),)))
    refusal: Any = kept.result
    assert refusal.refusal.status == 403

    app.ask = lambda question: succeed(refusal)  # type: ignore[method-assign]
    client = Sio(server)
    assert connect(client) == connect(client) == 403
    assert peer.command(type="subscribe", channels=["b"], id=1)[0]["status"] == 403
    assert peer.command(type="publish", channel="b", message="x", id=2)[-1]["status"] == 403
    assert refusal.refusal.__traceback__ is None


def publish(server: WebSocketDaemon, path: str, body: str, headers: str = COOKIE) -> int:
    headers += "Content-Type: application/x-www-form-urlencoded\r\n"
    caller = Caller(server.server).send(post(body.encode(), path.encode(), headers.encode()))
    server.turn()
    return status_of(caller)


def test_publishers_are_decided_by_the_application() -> None:
    """
    With the Origin of this host, as they are known by a cookie; a valid key passes unasked.
    """
    server, app = daemon(publish_keys=SECRETS)
    here = COOKIE + "Origin: http://a\r\n"
    assert publish(server, "/publish", "channel=a&message=x", here) == 200
    assert (app.questions[-1].action, app.questions[-1].channels) == ("publish", ("a",))
    assert publish(server, "/publish", "channel=b&message=x", here) == 403
    assert publish(server, "/publish", "channel=a&message=x") == 403
    assert publish(server, "/publish", "channel=a&message=x", "") == 401
    count = len(app.questions)
    assert publish(server, "/publish", "channel=b&message=x&key=s3cret") == 403
    assert publish(server, "/publish", "channel=b&message=x&key=s3cret", "") == 200
    assert len(app.questions) == count
    app.headers = {"X-Publish": "nothing"}
    assert publish(server, "/publish", "channel=a&message=x", here) == 403


def test_live_publishers_and_viewers_ask() -> None:
    """
    Before they wait for each other.
    """
    server, app = daemon()
    caller = Caller(server.server, "127.0.0.1").send(put("/in", COOKIE + "Origin: http://a\r\n"))
    server.turn()
    assert caller.written() == b""
    assert app.questions[-1].channels == ("a-cam",)
    assert "a-cam" in server.hub.live.publishers
    assert b" 403 " in show(server, "/cam", COOKIE).written()


def test_the_join_rate_counts_before_the_question() -> None:
    """
    The rate is applied once for each client.
    """
    server, app = daemon(limits=make_hub_limits(join_rate=10, join_queue=100))
    callers = [show(server, f"/sse?channels=a&n={number}", COOKIE) for number in range(3)]
    assert len(app.questions) == 1
    server.clock.pump([0.05] * 3)
    assert len(app.questions) == 2
    server.clock.pump([0.05] * 2)
    assert len(app.questions) == 3
    assert all(b" 200 " in caller.written() for caller in callers)


def test_a_client_that_leaves_is_not_joined() -> None:
    """
    Its answer is ignored.
    """
    server, app = daemon()
    app.waits = []
    caller = Caller(server.server).send(get(b"/sse?channels=a", COOKIE.encode()))
    server.turn()
    caller.hang_up()
    if not app.waits[0].called:
        app.waits[0].callback(AppAnswer(Grant(asked=("a",)), None))
    assert server.hub.current_metrics().subscribers == 0


class FilterApp(FakeApp):
    """
    An application that filters messages.
    """

    def __init__(self) -> None:
        super().__init__()
        self.response: tuple[int, bytes] = (304, b"")
        self.posted: list[tuple[dict[str, str], bytes]] = []

    async def post(
        self, headers: tuple[tuple[str, str], ...], body: bytes, limit: int
    ) -> tuple[UpstreamResponse, bytes]:
        self.posted.append((dict(headers), body))
        if self.down:
            raise UnusableAnswer("down")
        status, data = self.response
        return UpstreamResponse(status, ((b"Set-Cookie", b"s=3"),)), data


def test_filters_see_each_message_first() -> None:
    """
    A message passes, is changed or dropped, or refused; without an answer nothing is published.
    """
    app = FilterApp()
    gate = Gate(app=app, find_app=lambda url: app)
    line = "^/f$ publish:filter=http://127.0.0.1:8000/filter"
    server = WebSocketDaemon(line, "^/all$ stream:subscribe=a", gate=gate, publish_keys=SECRETS)
    reader = show(server, "/all")
    body = "message=x&key=s3cret&event=e&channel=a&channel=b"
    assert publish(server, "/f", body) == 200
    headers, data = app.posted[0]
    assert (headers["X-Channels"], headers["X-Event"], data) == ("a, b", "e", b"x")
    for response, status in (
        ((200, b"changed"), 200),
        ((204, b""), 200),
        ((403, b"no"), 403),
        ((302, b""), 401),
        ((500, b""), 503),
    ):
        app.response = response
        assert publish(server, "/f", body) == status, response
    app.down = True
    assert publish(server, "/f", body) == 503
    app.down, app.response = False, (200, b"")
    assert publish(server, "/f", body.replace("message=x", "message=y")) == 200
    assert len(app.posted) == 8
    written = reader.written()
    assert written.count(b"x") and b"changed" in written and b"y" in written
    assert written.count(b"\r\n1\r\n") == 2


def test_one_publisher_is_limited_on_all_transports() -> None:
    """
    429 with Retry-After; a websocket gets an error frame.
    """
    rate = PublishRate(lambda: 0.0)
    rate.rate = 1
    server, _ = daemon("token", "app", publish_rate=rate, publish_keys=SECRETS)
    peer = server.open("/ws", bearer(token(publish=["*"])))
    peer.received()
    answers = [
        peer.command(type="publish", channel="x", message="x", id=number)[-1] for number in range(3)
    ]
    assert [each["type"] for each in answers] == ["ack", "ack", "error"]
    assert answers[-1]["status"] == 429
    body = "channel=a&message=x&key=s3cret"
    assert [publish(server, "/publish", body, "") for _ in range(3)] == [200, 200, 429]
    client = Sio(server)
    assert connect(client, token=token(publish=["*"])) == 200
    assert client.emit("publish", "x", "x")["status"] == "error"


def test_a_foreign_page_cannot_publish_by_a_cookie() -> None:
    """
    Neither with a key among the subprotocols, which any page can offer.
    """
    server, app = daemon()
    foreign = COOKIE + "Origin: https://evil.example\r\n"
    for headers in (foreign, foreign + "Sec-WebSocket-Protocol: key.YQ\r\n"):
        head = f"POST /say HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n{headers}\r\nx"
        caller = Caller(server.server, "127.0.0.1").send(head.encode())
        server.turn()
        assert b" 403 " in caller.written()
    assert not app.questions


def test_a_client_leaves_after_the_answer() -> None:
    """
    What it waits for then goes on, or ends as if no application was asked; nothing is logged.
    """
    server, _ = daemon(broker=NodesBroker(Clock(), "e"))
    caller = show(server, "/list", COOKIE)
    assert caller.written() == b""
    caller.hang_up()
    server.clock.pump([1.0] * 4)
