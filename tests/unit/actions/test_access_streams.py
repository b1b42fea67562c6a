"""
Grants on connections that stay open both ways, and on live streams.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import jwt
import pytest
from websockets.frames import Close

from rt_twisted.access.gate import Gate
from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.actions.granting import EXPIRED, REVOKED
from rt_twisted.media.matroska_writer import write_header
from rt_twisted.media.unit import Head, Kind, Track, Unit, write
from rt_twisted.model.message import Draft
from rt_twisted.routes import DEFAULT, parse_route
from tests.defaults import make_socketio_limits
from tests.unit.actions.ingest.test_istream import VIDEO, chunk, picture
from tests.unit.actions.test_engineio_action import Client
from tests.unit.actions.websocket.daemon import SECRETS, Peer, WebSocketDaemon
from tests.unit.codecs.websocket_frames import masked
from tests.unit.http.clients import Caller, get

SECRET = "0123456789abcdef" * 4
NOW = 1_000_000
WS = r"^/r/(\w+)$ websocket:protocol=json,subscribe=room-$1,publish=room-$1,allow=token"


def token(seconds: float = 600, **claims: Any) -> str:
    return jwt.encode({"sub": "mia", "exp": NOW + seconds, **claims}, SECRET)


def bearer(token: str) -> str:
    return f"Authorization: Bearer {token}\r\n" if token else ""


def daemon(*lines: str, allow: tuple[str, ...] = ("token",), **context: Any) -> WebSocketDaemon:
    """
    Return a daemon whose tokens are signed by SECRET.
    """
    tokens = TokenVerifier([TokenKey.of(SECRET)], now=lambda: NOW + made.clock.seconds())
    context.setdefault("socketio", make_socketio_limits(ping_interval=1000.0))
    gate = Gate(allow, tokens=tokens, cookie="t", query_field="access")
    made: WebSocketDaemon = WebSocketDaemon(*lines, gate=gate, **context)
    return made


def pass_seconds(server: WebSocketDaemon, seconds: int) -> None:
    server.clock.pump([1.0] * seconds)


def test_default_routes_check_grants() -> None:
    """
    `allow = token` works without any route of one's own.
    """
    server = daemon()
    for line in DEFAULT:
        assert parse_route(line, server.context)


def test_json_websockets_need_a_token() -> None:
    """
    The handshake is refused with 401; one refused command leaves the connection alone.
    """
    server = daemon()
    assert server.open().status == 401
    assert "WWW-Authenticate: Bearer" in server.open().head
    assert server.open("/ws?channels=secret", bearer(token(channels=["news"]))).status == 403
    peer = server.open("/ws", bearer(token(channels=["news"], subscribe=["room-*"])))
    assert peer.status == 101
    peer.received()
    refused = peer.command(type="subscribe", channels=["room-1", "secret"], id=1)
    assert [(each["type"], each["status"]) for each in refused] == [("error", 403)]
    assert peer.command(type="subscribe", channels=["room-1"], id=2)[0]["type"] == "ack"
    server.publish("hello")
    server.publish("secret", channel="secret")
    assert [each["data"] for each in peer.received()] == ["hello"]


@pytest.mark.parametrize("way", ["header", "cookie", "query", "subprotocol"])
def test_places_of_a_token_for_websockets(way: str) -> None:
    """
    A page can set no header but that for subprotocols.
    """
    good = token(channels=["news"])
    packed = b64encode(good.encode()).decode().rstrip("=").replace("+", "-").replace("/", "_")
    headers = {"header": bearer(good), "cookie": f"Cookie: t={good}\r\n", "query": "",
               "subprotocol": f"Sec-WebSocket-Protocol: r, key.{packed}\r\n"}[way]  # fmt: skip
    peer = daemon().open("/ws" + (f"?access={good}" if way == "query" else ""), headers)

    assert peer.status == 101


def test_websockets_publish_by_grant_or_key() -> None:
    """
    A grant permits its channels, a key those of the key.
    """
    server = daemon(publish_keys=SECRETS)
    peer = server.open("/ws", bearer(token(publish=["room-*"])))
    peer.received()

    def publish(**fields: str) -> Any:
        return peer.command(type="publish", message="x", id=1, **fields)[-1]

    assert publish(channel="room-7")["type"] == "ack"
    assert publish(channel="art-7")["status"] == 403
    assert publish(channel="art-7", key="art")["type"] == "ack"


def test_channels_that_a_client_inserts_are_covered() -> None:
    """
    Of a route that names channels by the path, to subscribe and to publish.
    """
    server = daemon(WS)
    assert server.open("/r/7").status == 401
    assert server.open("/r/7", bearer(token(subscribe=["room-7"]))).status == 403
    assert server.open("/r/7", bearer(token(publish=["room-7"]))).status == 403
    both = bearer(token(subscribe=["room-7"], publish=["room-7"]))
    peer = server.open("/r/7", both)
    peer.received()

    assert {"ack", "message"} == {
        each["type"] for each in peer.command(type="publish", message="x", id=1)
    }


def test_raw_websockets_end_with_1008() -> None:
    """
    They have no place for a notice; the close code says why.
    """
    server = daemon("^/raw$ websocket:subscribe=user-${grant[sub]},publish=all,allow=token")
    assert server.open("/raw").status == 401
    peer = server.open("/raw", bearer(token(40)))
    peer.text("hello")
    server.publish("for mia", channel="user-mia")
    assert "for mia" in peer.received()
    pass_seconds(server, 40)

    assert peer.received()[-1].code == 1008
    assert server.hub.current_metrics().closed["expired"] == 1


def test_json_websockets_renew_their_token() -> None:
    """
    A notice 30 s before the end, then another token, and no end.
    """
    server = daemon()
    peer = server.open("/ws", bearer(token(60, channels=["news", "room-1"])))
    peer.received()
    pass_seconds(server, 31)
    notices = [each for each in peer.received() if isinstance(each, dict)]
    assert notices == [{"type": "expire", "seconds": 30}]
    answers = peer.command(type="token", token=token(300, channels=["news"]), id=1)
    assert answers == [
        {"type": "ack", "id": 1},
        {"type": "unsubscribed", "channels": ["room-1"]},
    ]
    peer.send(masked(9, b""))
    pass_seconds(server, 40)
    peer.send(masked(9, b""))
    peer.received()
    server.publish("no", channel="room-1")
    server.publish("yes")
    assert [each["data"] for each in peer.received()] == ["yes"]


def test_tokens_of_others_do_not_renew() -> None:
    """
    403 for another `sub`, 401 for a wrong token; the grant so far stays.
    """
    server = daemon()
    peer = server.open("/ws", bearer(token(channels=["news"])))
    peer.received()

    assert peer.command(type="token", token=token(sub="eve"), id=1)[0]["status"] == 403
    assert peer.command(type="token", token="nonsense", id=1)[0]["status"] == 401
    assert peer.command(type="token", id=1)[0]["status"] == 401
    assert peer.command(type="ping", id=1)[0]["type"] == "pong"


def test_claims_in_channels_are_the_same_when_renewed() -> None:
    """
    The route has inserted the claim into a channel that stays subscribed.
    """
    route = "^/team$ websocket:protocol=json,subscribe=team-${grant[team]},allow=token"
    peer = daemon(route).open("/team", bearer(token(team="red")))
    peer.received()

    assert peer.command(type="token", token=token(team="blue"), id=1)[0]["status"] == 403
    assert peer.command(type="token", token=token(team="red"), id=1)[0]["type"] == "ack"


def test_tokens_are_not_accepted_where_none_is_needed() -> None:
    """
    On a route for anyone.
    """
    peer = daemon("^/open$ websocket:allow=anyone").open("/open")
    peer.received()

    assert peer.command(type="token", token=token(), id=1)[0]["status"] == 401


ENGINE = r"^/engine\.io/ engine.io:allow=token"


def test_engine_io_needs_a_token() -> None:
    """
    401 for the handshake; the session ends with the grant.
    """
    server = daemon(ENGINE)
    path = "/engine.io/?EIO=4&transport=websocket&channels=news"
    assert server.open(path).status == 401
    peer = server.open(path, bearer(token(60, channels=["news"])))
    assert peer.status == 101
    server.publish("hello")
    assert "4hello" in peer.received()
    pass_seconds(server, 60)
    assert peer.is_closed or peer.received()[-1].code in (1000, 1008)


def test_engine_io_clients_publish_by_grant() -> None:
    """
    To the channels of the route that the grant covers.
    """
    route = r"^/engine\.io/ engine.io:publish=art,allow=token"
    server = daemon(route, publish_keys=SECRETS)

    assert Client(server, f"&access={token(publish=['art'])}").request("POST", b"4x")[0] == 200
    assert Client(server, f"&access={token()}").request("POST", b"4x")[0] == 401


SIO = "/socket.io/?EIO=4&transport=websocket"


class Sio:
    """
    A Socket.IO client on a websocket.
    """

    def __init__(self, server: WebSocketDaemon, headers: str = "", path: str = SIO) -> None:
        self.peer: Peer = server.open(path, headers)
        self.received()

    def received(self) -> list[Any]:
        found = [each for each in self.peer.received() if isinstance(each, str)]
        return [each for each in found if each != "2"]

    def send(self, text: str) -> list[Any]:
        self.peer.text(text)
        return self.received()

    def emit(self, *values: Any) -> Any:
        """
        Send an event, and return its acknowledgement.
        """
        answers = self.send("421" + json.dumps(values))
        acks = [each for each in answers if each.startswith("431")]
        self.others = [each for each in answers if not each.startswith("431")]
        return json.loads(acks[0][3:])[0]


SOCKETIO = r"^/socket\.io/ socket.io:allow=token"


def connect(client: Sio, **auth: str) -> Any:
    """
    Connect to the main namespace; return the status of the refusal, 200 for none.
    """
    [answer, *_] = client.send("40" + (json.dumps(auth) if auth else ""))
    return 200 if answer.startswith("40") else json.loads(answer[2:])["data"]["status"]


def test_socket_io_needs_a_token_to_connect() -> None:
    """
    In `auth`, or with the handshake; else connect_error with the status.
    """
    server = daemon(SOCKETIO)
    good = token(channels=["news"])

    assert connect(Sio(server)) == 401
    assert connect(Sio(server), token="nonsense") == 401
    assert connect(Sio(server), token=good) == 200
    assert connect(Sio(server, bearer(good))) == 200
    assert connect(Sio(server, f"Cookie: t={good}\r\n")) == 200
    assert connect(Sio(server, bearer("nonsense")), token=good) == 200


def test_socket_io_channels_are_covered() -> None:
    """
    Channels of the grant are joined at once; others by `subscribe`, if it covers them.
    """
    server = daemon(SOCKETIO, publish_keys=SECRETS)
    client = Sio(server)
    assert connect(client, token=token(channels=["news"], subscribe=["a*"], publish=["a"])) == 200
    assert client.emit("subscribe", "abc")["status"] == "ok"
    assert client.emit("subscribe", ["abd", "secret"])["status"] == "error"
    assert client.emit("publish", "a", "x")["status"] == "ok"
    assert client.emit("publish", "art", "x")["status"] == "error"
    server.publish("hello")
    server.publish("no", channel="abd")
    assert [each for each in client.received() if "hello" in each or "no" in each] == [
        '42["message","hello","e.2"]'
    ]


def test_socket_io_routes_insert_claims() -> None:
    """
    The channels of a route are known when the client has shown its token.
    """
    server = daemon(r"^/socket\.io/ socket.io:subscribe=user-${grant[sub]},allow=token")
    client = Sio(server)
    assert connect(client, token=token()) == 200
    server.publish("hello", channel="user-mia")
    assert any("hello" in each for each in client.received())
    assert connect(Sio(server), token=token(sub="")) == 403


def test_socket_io_tokens_are_renewed_in_band() -> None:
    """
    The event `expire`, then `token`; an event names the channels that are lost.
    """
    server = daemon(SOCKETIO)
    client = Sio(server)
    assert connect(client, token=token(60, channels=["news", "room-1"])) == 200
    client.received()
    pass_seconds(server, 31)
    assert client.received() == ['42["expire",{"seconds":30}]']
    assert client.emit("token", token(sub="eve"))["status"] == "error"
    assert client.emit("token", 7)["status"] == "error"
    assert client.emit("token", token(600, channels=["news"])) == {"status": "ok"}
    assert client.others == ['42["unsubscribed",{"channels":["room-1"]}]']
    pass_seconds(server, 40)
    server.publish("on")
    assert any('"on"' in each for each in client.received())


def test_socket_io_transport_ends_with_the_grant() -> None:
    """
    Not the namespace: clients would not reconnect. A poll that waits is answered.
    """
    server = daemon(SOCKETIO)
    client = Sio(server)
    assert connect(client, token=token(20, channels=["news"])) == 200
    pass_seconds(server, 20)
    rest = client.peer.received()
    assert not any(isinstance(each, str) and each.startswith("41") for each in rest)
    assert rest[-1].code == 1000
    assert server.hub.current_metrics().closed["expired"] == 1


@pytest.mark.parametrize(("subject", "recovered"), [("mia", True), ("eve", False)])
def test_socket_io_recovers_for_the_same_client_only(subject: str, recovered: bool) -> None:
    """
    The channels of another client are not restored.
    """
    server = daemon(SOCKETIO)
    client = Sio(server)
    client.peer.text("40" + json.dumps({"token": token(subscribe=["*"])}))
    [opened, *_] = client.received()
    pid = json.loads(opened[2:])["pid"]
    client.emit("subscribe", "room-1")
    server.publish("first", channel="room-1")
    client.received()
    client.peer.disconnect()
    server.publish("missed", channel="room-1")
    again = Sio(server)
    auth = {"token": token(sub=subject, subscribe=["*"]), "pid": pid, "offset": "e.1"}
    answers = again.send("40" + json.dumps(auth))

    assert any("missed" in each for each in answers) == recovered


def test_namespaces_are_one_client() -> None:
    """
    Another namespace of a session needs no token; one of another client is refused.
    """
    server = daemon(SOCKETIO)
    client = Sio(server)
    assert connect(client, token=token()) == 200
    refused = client.send("40/x," + json.dumps({"token": token(sub="eve")}))
    assert '"status":403' in refused[0]
    assert '"status":404' in client.send("40/x,")[0]  # the application has no such namespace


LIVE = (
    r"^/cam/(\w+)\.webm$ webm:subscribe=cam-$1,wait=1,allow=token",
    r"^/cam/(\w+)\.mjpeg$ mjpeg:subscribe=cam-$1,wait=1,allow=token",
    r"^/cam/(\w+)\.jpeg$ jpeg:subscribe=cam-$1,wait=1,allow=token",
    r"^/cam/(\w+)\.ws$ websocket:subscribe=cam-$1,as=webm,wait=1,allow=token",
    r"GET ^/radio/(\w+)$ icecast:cam-$1,allow=token",
    "^/list$ streams:prefix=cam-,allow=token",
)


def show(server: WebSocketDaemon, path: str, headers: str = "") -> Caller:
    caller = Caller(server.server, "127.0.0.1").send(get(path.encode(), headers.encode()))
    server.turn()
    return caller


def publish_video(server: WebSocketDaemon) -> None:
    track = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
    for thing in (Head("run", 0.0, (track,)), Unit(1, 0, 0, 0, True, 0, 0, b"<0>")):
        event, data = write(thing)
        server.hub.publish([Draft("cam-1", data, event, transient=True)])
    server.turn()


@pytest.mark.parametrize("path", ["/cam/1.webm", "/cam/1.mjpeg", "/cam/1.jpeg", "/radio/1"])
def test_viewers_need_a_token_that_covers_the_stream(path: str) -> None:
    """
    401 without a token, 403 for another stream, before the viewer waits for a publisher.
    """
    server = daemon(*LIVE)

    def head(headers: str) -> bytes:
        return show(server, path, headers).written().partition(b"\r\n")[0]

    assert b" 401 " in head("")
    assert b" 403 " in head(bearer(token(subscribe=["cam-2"])))
    assert head(bearer(token(subscribe=["cam-1"]))) == b""  # it waits


def test_live_streams_end_with_the_grant() -> None:
    """
    Over HTTP and by websocket.
    """
    server = daemon(*LIVE)
    publish_video(server)
    good = bearer(token(8, subscribe=["cam-*"]))
    viewer = show(server, "/cam/1.webm", good)
    peer = server.open("/cam/1.ws", good)
    assert b"200 OK" in viewer.written()
    assert peer.status == 101
    assert server.open("/cam/2.ws", bearer(token(subscribe=["cam-1"]))).status == 403
    pass_seconds(server, 8)

    assert not viewer.open
    assert peer.received()[-1].code == 1008


def test_lists_have_the_streams_of_the_grant() -> None:
    """
    The names of other streams are not shown.
    """
    server = daemon(*LIVE)
    good = bearer(token(subscribe=["cam-1"]))
    viewer = show(server, "/cam/1.webm", good)
    publish_video(server)
    assert b"200 OK" in viewer.written()

    assert b'["1"]' in show(server, "/list", good).written()
    assert b"[]" in show(server, "/list", bearer(token())).written()
    assert b" 401 " in show(server, "/list").written()


def put(path: str, headers: str) -> bytes:
    head = f"PUT {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    return head.encode() + chunk(write_header((VIDEO,))) + chunk(picture(0, True))


@pytest.mark.parametrize("word", ["istream:publish", "icecast:channel"])
def test_live_publishers_need_a_token(word: str) -> None:
    """
    As a Bearer token, or as a password; the publisher ends with its grant.
    """
    server = daemon(rf"^/in/(\w+)$ {word}=cam-$1,allow=token")

    def publish(path: str, headers: str) -> Caller:
        caller = Caller(server.server, "127.0.0.1").send(put(path, headers))
        server.turn()
        return caller

    assert b" 401 " in publish("/in/1", "").written()
    assert b" 403 " in publish("/in/1", bearer(token(publish=["cam-2"]))).written()
    password = b64encode(b"source:" + token(60, publish=["cam-1"]).encode()).decode()
    publisher = publish("/in/1", f"Authorization: Basic {password}\r\n")
    assert b" 40" not in publisher.written()
    assert "cam-1" in server.hub.live.publishers
    pass_seconds(server, 5)
    publisher.send(chunk(picture(1, True)))
    for _ in range(56):
        publisher.send(chunk(picture(2)))
        pass_seconds(server, 1)

    assert not publisher.open or EXPIRED.encode() in publisher.written()


def test_live_publishers_by_websocket_need_a_token() -> None:
    """
    The reason of a refusal is in the close frame; the websocket is closed when its grant ends.
    """
    server = daemon(
        r"^/in/(\w+)$ websocket:publish=cam-$1,as=auto,allow=token",
        "^/own$ websocket:publish=cam-${grant[sub]},as=auto,allow=token",
    )
    [close] = server.open("/in/1").received()
    assert (close.code, "token" in close.reason) == (1008, True)
    [close] = server.open("/in/1", bearer(token(publish=["cam-2"]))).received()
    assert (close.code, "cam-1" in close.reason) == (1008, True)

    cookie = f"Cookie: t={token(6, publish=['cam-1'])}\r\nOrigin: http://localhost:80\r\n"
    publisher = server.open("/in/1", cookie)
    publisher.send(masked(2, write_header((VIDEO,)) + picture(0, True)))
    assert publisher.received() == []
    assert "cam-1" in server.hub.live.publishers
    server.open("/own", bearer(token(publish=["cam-*"]))).send(masked(2, picture(0)))
    assert "cam-mia" in server.hub.live.publishers
    pass_seconds(server, 7)
    assert publisher.received()[-1] == Close(1008, EXPIRED)


def test_handshake_of_a_foreign_page_is_refused_first() -> None:
    """
    A websocket with a cookie needs an origin that `websocket-origins` names.
    """
    cookie = f"Cookie: t={token(channels=['news'])}\r\nOrigin: https://evil.example\r\n"

    assert daemon().open("/ws", cookie).status == 403


def test_clients_of_removed_keys_are_disconnected() -> None:
    """
    Spread over some seconds; others stay, and so does a client that renews meanwhile.
    """
    server = daemon("^/sse$ sse", "^/socket.io/ socket.io")
    good = token(channels=["news"])
    caller, peer = show(server, "/sse", bearer(good)), server.open("/ws", bearer(good))
    client = Sio(server)
    assert connect(client, token=good) == 200
    tokens = server.context.gate.tokens
    assert tokens.trusts(tokens.verify(good).verified_by)
    other = TokenVerifier([TokenKey.of(SECRET[::-1])], now=tokens.now)

    def is_ended(grant: Any) -> bool:
        return not other.trusts(grant.verified_by)

    assert len(server.hub.holders) == 3
    assert server.hub.holders.end_all(is_ended, 10) == 3
    peer.received()
    assert peer.command(type="token", token=token(900), id=1)[0]["type"] == "ack"
    pass_seconds(server, 10)
    assert not caller.open
    assert client.peer.is_closed or client.peer.received()[-1].code == 1000
    assert not peer.is_closed
    assert len(server.hub.holders) == 1


@pytest.mark.parametrize("word", ["istream:publish", "icecast:channel"])
def test_live_publishers_end_when_their_token_is_revoked(word: str) -> None:
    """
    They do not wait until it expires, and are forgotten then.
    """
    server = daemon(rf"^/in/(\w+)$ {word}=cam-$1,allow=token")
    publisher = Caller(server.server, "127.0.0.1")
    publisher.send(put("/in/1", bearer(token(publish=["cam-1"]))))
    server.turn()
    assert "cam-1" in server.hub.live.publishers
    assert len(server.hub.holders) == 1

    assert server.hub.holders.end_all(lambda grant: grant.subject == "mia") == 1
    pass_seconds(server, 1)

    assert len(server.hub.live.publishers) == len(server.hub.holders) == 0
    publisher.send(chunk(picture(2)))
    assert not publisher.open or REVOKED.encode() in publisher.written()
