"""
The admin API on one process, and over two nodes of a broker.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import fail, succeed
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from rt_twisted.access.gate import Gate
from rt_twisted.access.keys import Key, Keys
from rt_twisted.access.revocations import LONGEST, Revocation, Revocations
from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.actions.admin.bus import AdminBus
from rt_twisted.actions.admin.revocation_replication import RESEND
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.addresses import Networks
from rt_twisted.codecs.json_steps import list_to_json
from rt_twisted.formats.sse import EventStream
from rt_twisted.hub.peer_bus import REPLY_SECONDS
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.internal_channels import ACTS, REVOKED
from rt_twisted.model.message import PublishResult
from rt_twisted.net.slices import run_in_slices
from tests.defaults import (
    make_backlog_limits,
    make_http_limits,
    make_hub,
    make_hub_limits,
    make_server,
    make_socketio_limits,
)
from tests.turns import run_turn
from tests.unit.actions.test_access_streams import (
    NOW,
    SECRET,
    Sio,
    bearer,
    connect,
    pass_seconds,
    show,
    token,
)
from tests.unit.actions.websocket.daemon import HANDSHAKE, WebSocketDaemon
from tests.unit.http.clients import Caller, read_answers
from tests.unit.hub.shared_broker import SharedBroker

LINES = ("^/sse$ sse", "^/open$ sse:allow=anyone", r"^/socket\.io/ socket.io", "^/admin/ admin",
         "^/all$ stream:subscribe=*,pattern=yes,allow=anyone")  # fmt: skip
ADMIN = "Authorization: Bearer s3cret\r\n"


class AdminNode:
    """
    A daemon with the admin API.
    """

    def __init__(
        self,
        alone: bool = True,
        keys: tuple[str, ...] = ("s3cret",),
        broker: MemoryBroker | None = None,
        leeway: float = 0.0,
        **limits: Any,
    ) -> None:
        self.server: WebSocketDaemon
        tokens = TokenVerifier([TokenKey.of(SECRET)], leeway=leeway, now=self._now)
        self.revocations = Revocations(self._now)
        gate = Gate(("token",), tokens=tokens, revocations=self.revocations)
        self.server = WebSocketDaemon(
            *LINES,
            gate=gate,
            admin_keys=Keys([Key.of(key) for key in keys]),
            socketio=make_socketio_limits(ping_interval=1000.0),
            limits=make_hub_limits(**limits),
            broker=broker,
        )
        hub, clock = self.server.hub, self.server.clock
        self.bus = self.server.context.shared.get(
            AdminBus, lambda: AdminBus(hub, clock, self.revocations, alone)
        )
        self.bus.startService()
        self.server.turn()

    def _now(self) -> float:
        made = getattr(self, "server", None)
        return NOW + (made.clock.seconds() if made is not None else 0.0)

    def ask(self, method: str, path: str, body: Any = None, headers: str = ADMIN) -> Any:
        """
        Return status and JSON of a response.
        """
        data = b"" if body is None else body
        if not isinstance(data, bytes):
            data = json.dumps(body).encode()
        caller = Caller(self.server.server, "192.0.2.1")
        head = f"{method} /admin/{path} HTTP/1.1\r\nHost: a\r\n{headers}"
        caller.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        self.server.turn()
        if not caller.written():
            self.server.clock.advance(REPLY_SECONDS)
            self.server.turn()
        [answer] = read_answers(caller.written())
        is_json = answer.status == 200
        return answer.status, answer.json if is_json else answer.body.decode().strip()


@pytest.fixture
def node() -> AdminNode:
    return AdminNode()


def test_the_key_is_needed(node: AdminNode) -> None:
    """
    Without a key in the settings, only this machine may ask.
    """
    assert node.ask("GET", "subscribers", headers="")[0] == 401
    assert node.ask("GET", "subscribers", headers=bearer("wrong"))[0] == 401
    assert node.ask("GET", "subscribers")[0] == 200
    assert AdminNode(keys=()).ask("GET", "subscribers")[0] == 403


@pytest.mark.parametrize(("proxies", "status"), [((), 200), (("127.0.0.0/8",), 403)])
def test_no_proxy_is_this_machine(proxies: tuple[str, ...], status: int) -> None:
    """
    Clients of a trusted proxy on this machine need a key, also if it names none of them.
    """
    node = AdminNode(keys=())
    limits = make_http_limits(trusted_proxies=Networks.of(proxies))
    server = make_server(node.server.clock, node.server.server.context.find, limits)
    server.start()
    caller = Caller(server, "127.0.0.1")
    caller.send(b"GET /admin/subscribers HTTP/1.1\r\nHost: localhost\r\n\r\n")
    node.server.turn()
    assert read_answers(caller.written())[0].status == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("", 200),
        ("Origin: http://localhost\r\n", 200),
        ("Origin: https://evil.example\r\n", 403),
        ("Origin: null\r\n", 403),
        ("Sec-Fetch-Site: cross-site\r\n", 403),
        ("X-Forwarded-For: 192.0.2.7\r\n", 403),
        ("Via: 1.1 proxy\r\n", 403),
    ],
)
def test_no_page_administers_without_a_key(headers: str, status: int) -> None:
    """
    A browser on this machine sends requests of any page from its own address, by a form too.
    """
    node = AdminNode(keys=())
    caller = Caller(node.server.server, "127.0.0.1")
    head = f"POST /admin/disconnect HTTP/1.1\r\nHost: localhost\r\n{headers}"
    caller.send(f"{head}Content-Type: text/plain\r\nContent-Length: 14\r\n\r\n".encode())
    caller.send(b'{"sub": "mia"}')
    node.server.turn()
    assert read_answers(caller.written())[0].status == status


def test_a_revocation_lasts_as_long_as_the_token_is_accepted() -> None:
    """
    Until `exp` and the leeway for clocks behind it.
    """
    node = AdminNode(leeway=10.0)
    stolen = token(60, channels=["a"], jti="t1")
    assert node.ask("POST", "revoke", {"jti": "t1", "exp": NOW + 60})[0] == 200
    for _ in range(8):
        pass_seconds(node.server, 10)
        assert b" 401 " in show(node.server, "/sse?channels=a", bearer(stolen)).written()
    assert not node.ask("GET", "revoked")[1]["revoked"]


def test_subscribers(node: AdminNode) -> None:
    """
    The list says who they are, where, since when and until when; in pages.
    """
    server = node.server
    show(server, "/sse?channels=news", bearer(token(60, channels=["news"], jti="t1")))
    peer = server.open("/ws?channels=a", bearer(token(sub="eve", channels=["a", "b"])))
    show(server, "/open?channels=news")
    pass_seconds(server, 2)
    status, found = node.ask("GET", "subscribers")
    assert status == 200
    by_sub = {one["sub"]: one for one in found["subscribers"]}
    assert set(by_sub) == {"mia", "eve", ""}
    mia = by_sub["mia"]
    assert (mia["transport"], mia["channels"], mia["jti"]) == ("sse", ["news"], "t1")
    assert (mia["expires"], mia["waiting_bytes"]) == (NOW + 60, 0)
    assert mia["seconds"] >= 2
    assert by_sub["eve"]["transport"] == "websocket-json"
    assert by_sub[""]["expires"] is None

    def count(query: str) -> int:
        return len(node.ask("GET", f"subscribers?{query}")[1]["subscribers"])

    assert count("channel=news") == 2
    assert count("channel=news&sub=mia") == 1
    assert count("jti=t1") == 1
    assert count("address=127.0.0.1") == 3
    assert count("address=192.0.2.9") == 0
    assert count(f"id={mia['id']}") == 1
    first = node.ask("GET", "subscribers?limit=2")[1]["subscribers"]
    assert count(f"after={first[-1]['id']}") == 1
    assert node.ask("GET", "subscribers?limit=x")[0] == 400
    assert peer.status == 101


def test_disconnect(node: AdminNode) -> None:
    """
    The client is expected to come back, and is judged anew.
    """
    server = node.server
    caller = show(server, "/sse?channels=news", bearer(token(channels=["news"])))
    other = show(server, "/open?channels=news")
    client = Sio(server)
    assert connect(client, token=token(channels=["news"])) == 200
    assert node.ask("POST", "disconnect", {})[0] == 400
    assert node.ask("POST", "disconnect", {"sub": "mia"}) == (200, {"count": 2})
    assert not caller.open
    assert b"retry: " in caller.written()
    assert client.peer.received()[-1].code == 1000
    assert other.open
    assert node.ask("POST", "disconnect", {"channel": "news"}) == (200, {"count": 1})
    assert not other.open


def test_unsubscribe(node: AdminNode) -> None:
    """
    The client keeps its other channels, and is notified where its protocol can.
    """
    server = node.server
    good = bearer(token(channels=["a", "b"]))
    peer, caller = server.open("/ws", good), show(server, "/sse?channels=a", good)
    client = Sio(server)
    assert connect(client, token=token(channels=["a", "b"])) == 200
    peer.received(), client.received()
    assert node.ask("POST", "unsubscribe", {"sub": "mia"})[0] == 400
    assert node.ask("POST", "unsubscribe", {"sub": "mia", "channel": "a"}) == (200, {"count": 3})
    assert {"type": "unsubscribed", "channels": ["a"]} in peer.received()
    assert '42["unsubscribed",{"channels":["a"]}]' in client.received()
    assert not caller.open  # it has no other channel
    server.publish("no", channel="a")
    server.publish("yes", channel="b")
    assert [one["data"] for one in peer.received() if one["type"] == "message"] == ["yes"]


def test_revoke(node: AdminNode) -> None:
    """
    Connected clients are disconnected, and do not come back.
    """
    server = node.server
    one, two = token(channels=["a"], jti="t1"), token(channels=["a"], jti="t2", iat=NOW)
    callers = [show(server, "/sse?channels=a", bearer(each)) for each in (one, two)]
    assert node.ask("POST", "revoke", {"jti": "t1", "exp": NOW + 60})[0] == 200
    pass_seconds(server, 1)
    assert [caller.open for caller in callers] == [False, True]
    assert b" 401 " in show(server, "/sse?channels=a", bearer(one)).written()
    assert server.open("/ws", bearer(one)).status == 401
    assert connect(Sio(server), token=one) == 401
    assert node.ask("GET", "revoked")[1] == {"revoked": [{"jti": "t1", "until": NOW + 60}]}
    assert node.ask("DELETE", "revoked/t1")[0] == 204
    assert node.ask("DELETE", "revoked/t1")[0] == 404
    assert b" 200 " in show(server, "/sse?channels=a", bearer(one)).written()
    assert node.ask("POST", "revoke", {"sub": "mia"})[0] == 200
    pass_seconds(server, 1)
    assert not callers[1].open
    fresh = token(channels=["a"], iat=NOW + 100)
    assert b" 200 " in show(server, "/sse?channels=a", bearer(fresh)).written()


def test_revoked_tokens_renew_nothing(node: AdminNode) -> None:
    """
    On open connections, also of a client whose token so far is valid; one that has another valid
    token in time stays.
    """
    server = node.server
    peer = server.open("/ws?channels=a", bearer(token(channels=["a"], jti="t1")))
    client = Sio(server)
    assert connect(client, token=token(channels=["a"], jti="t1")) == 200
    lost = token(channels=["a", "b"], jti="lost")
    assert node.ask("POST", "revoke", {"jti": "lost"})[0] == 200
    peer.received()
    assert peer.command(type="token", token=lost, id=1)[-1]["status"] == 401
    assert client.emit("token", lost)["status"] == "error"
    entry = Revocation(jti="t1", until=NOW + 60, changed=NOW)
    node.bus.revoke(entry)
    good = token(channels=["a"], jti="t2")
    assert peer.command(type="token", token=good, id=2)[-1]["type"] == "ack"
    pass_seconds(server, 1)
    server.publish("on", channel="a")
    assert "on" in [one["data"] for one in peer.received() if "data" in one]
    assert server.hub.current_metrics().closed == {"expired": 1}


@pytest.mark.parametrize("path", ["/sse?channels=a", "/ws?channels=a"])
def test_a_token_that_is_revoked_while_its_client_is_queued(path: str) -> None:
    """
    The client was checked before it was queued, and is disconnected when it joins.
    """
    node = AdminNode(join_rate=1, join_queue=10)
    server = node.server
    show(server, "/open?channels=a")
    upgrade = HANDSHAKE if path.startswith("/ws") else ""
    queued = show(server, path, upgrade + bearer(token(channels=["a"], jti="t1")))
    assert not queued.written()
    assert node.ask("POST", "revoke", {"jti": "t1"})[0] == 200
    pass_seconds(server, 10)
    server.publish("not for the client", channel="a")
    assert b"not for the client" not in queued.written()
    assert not queued.open


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"[" * 50_000, {}, {"jti": "a", "sub": "b"}, {"jti": 7}, {"jti": ""},
     {"sub": "a", "before": "now"}, {"sub": "a", "before": -1}, {"jti": "a" * 300}],
)  # fmt: skip
def test_malformed_revocations(node: AdminNode, body: Any) -> None:
    """
    400, in one sentence.
    """
    assert node.ask("POST", "revoke", body)[0] == 400


def test_channels_and_their_history(node: AdminNode) -> None:
    """
    Those that are open, and what they retain; not those of the daemon.
    """
    server = node.server
    show(server, "/open?channels=news")
    server.publish("one", "two")
    server.publish("x", channel="other/one")
    node.ask("POST", "revoke", {"jti": "t1"})
    found = {one["name"]: one for one in node.ask("GET", "channels")[1]["channels"]}
    assert (found["news"]["subscribers"], found["news"]["messages"]) == (1, 2)
    assert not found.keys() & {ACTS, REVOKED}
    _, history = node.ask("GET", "channels/news/history?limit=1")
    assert [one["data"] for one in history["messages"]] == ["two"]
    _, history = node.ask("GET", "channels/news/history?since=all")
    assert len(history["messages"]) == 2
    assert node.ask("GET", "channels/other/one/history")[1]["messages"]
    assert node.ask("GET", "channels/rt%20revoked/history")[0] == 400


def test_a_history_can_be_deleted(node: AdminNode) -> None:
    """
    Subscribers of the channel get a gap, and nobody what was before; other channels stay.
    """
    server = node.server
    reader = show(server, "/open?channels=news")
    server.publish("one", "two")
    server.publish("x", channel="other/one")
    reader.written()
    assert node.ask("DELETE", "channels/news/history")[0] == 204
    pass_seconds(server, 1)
    assert b"event: gap" in reader.written()
    server.publish("three")
    _, history = node.ask("GET", "channels/news/history?since=all")
    assert [one["data"] for one in history["messages"]] == ["three"]
    assert len(node.ask("GET", "channels/other/one/history")[1]["messages"]) == 1
    assert node.ask("DELETE", "channels/never/history")[0] == 204
    assert node.ask("DELETE", "channels/rt%20revoked/history")[0] == 400


def test_other_requests(node: AdminNode) -> None:
    """
    404, or 405 for another method; the description names all that there are.
    """
    for path in ("", "x", "revoked/", "subscribers/1", "channels/news"):
        status, refusal = node.ask("GET", path)
        assert status == 404
        assert "openapi.json" in str(refusal)
    for method in ("PUT", "GET", "DELETE"):
        assert node.ask(method, "revoke")[0] == 405
    assert node.ask("POST", "subscribers")[0] == node.ask("POST", "revoked/t1")[0] == 405
    status, document = node.ask("GET", "openapi.json")
    assert status == 200
    assert document["openapi"] == "3.1.0"
    for path in ("subscribers", "disconnect", "unsubscribe", "revoke", "revoked", "channels"):
        assert f"/admin/{path}" in document["paths"]
    assert "/publish" in document["paths"]


@pytest.mark.parametrize(
    ("path", "methods"),
    [("revoke", "OPTIONS, POST"), ("revoked/t1", "DELETE, OPTIONS"),
     ("channels/a/history", "DELETE, GET, HEAD, OPTIONS")],
)  # fmt: skip
@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "PATCH"])
def test_allow_has_the_methods_of_the_path(
    node: AdminNode, method: str, path: str, methods: str
) -> None:
    """
    Not those of all paths of the API.
    """
    caller = Caller(node.server.server, "192.0.2.1")
    caller.send(f"{method} /admin/{path} HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n".encode())
    node.server.turn()
    [answer] = read_answers(caller.written())
    assert answer.status == (204 if method == "OPTIONS" else 405)
    assert answer.headers["allow"] == methods


def test_empty_filters_are_errors(node: AdminNode) -> None:
    """
    A script whose variable is empty gets an error; so does a time that is null.
    """
    assert node.ask("GET", "subscribers?sub=")[0] == 400
    assert node.ask("GET", "subscribers?id=&sub=mia")[0] == 400
    assert node.ask("GET", f"subscribers?sub={'x' * 201}")[0] == 400
    assert node.ask("GET", "subscribers?after=")[0] == 200
    assert node.ask("POST", "revoke", {"sub": "mia", "before": None})[0] == 400


def test_no_client_sees_the_channels_of_the_daemon(node: AdminNode) -> None:
    """
    Neither by their names nor by a pattern.
    """
    server = node.server
    reader = show(server, "/all")
    node.ask("POST", "revoke", {"jti": "secret"})
    server.publish("seen")
    assert b"seen" in reader.written()
    assert b"secret" not in reader.written()
    everything = bearer(token(subscribe=["*"]))
    assert b" 400 " in show(server, "/sse?channels=rt%20revoked", everything).written()


def test_acts_and_revocations_reach_other_nodes() -> None:
    """
    What one node publishes, the others execute and answer.
    """
    broker = SharedBroker(Clock())
    one, two = AdminNode(alone=False, broker=broker), AdminNode(alone=False, broker=broker)
    there = show(two.server, "/sse?channels=a", bearer(token(channels=["a"], jti="t1")))

    def ask(method: str, path: str, body: Any = None) -> Any:
        caller = Caller(one.server.server, "192.0.2.1")
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} /admin/{path} HTTP/1.1\r\nHost: a\r\n{ADMIN}"
        caller.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        for _ in range(6):
            one.server.turn()
            two.server.turn()
        one.server.clock.advance(REPLY_SECONDS)
        one.server.turn()
        [answer] = read_answers(caller.written())
        return answer.json if answer.body else None

    found = ask("GET", "subscribers")["subscribers"]
    assert [each["sub"] for each in found] == ["mia"]
    assert ask("POST", "revoke", {"jti": "t1"})
    pass_seconds(two.server, 1)
    assert not there.open
    assert two.revocations.current() == one.revocations.current()
    ask("DELETE", "revoked/t1", None)
    assert two.revocations.current() == one.revocations.current() == []
    again = show(two.server, "/sse?channels=a", bearer(token(channels=["a"])))
    assert ask("POST", "disconnect", {"sub": "mia"}) == {"count": 1}
    assert not again.open


@pytest.mark.parametrize("data", [b"", b"7", b"{}", b'{"node": 1, "id": 2, "act": 3, "filters": 4}',
                                  b'{"node": "x", "id": 1, "act": "disconnect", "filters": {}}',
                                  b'{"node": "x", "id": 1, "act": "channels", "filters":'
                                  b' {"limit": "x"}}'])  # fmt: skip
def test_malformed_acts_are_ignored(data: bytes) -> None:
    """
    The node goes on.
    """
    node = AdminNode(alone=False)
    node.server.publish(data, channel=ACTS)
    assert node.ask("GET", "revoked")[0] == 200


def test_revocations_of_an_outage_arrive_afterwards() -> None:
    """
    A node that was cut off gets what it has missed from the others, where nothing is retained.
    """
    broker = SharedBroker(Clock())
    one, two = AdminNode(alone=False, broker=broker), AdminNode(alone=False, broker=broker)
    stolen = bearer(token(channels=["a"], jti="t1"))
    there = show(two.server, "/sse?channels=a", stolen)
    cut_off = broker.receivers.pop()
    one.ask("POST", "revoke", {"jti": "t1"})
    for node in (two, one, two):
        node.server.turn()
    assert there.open
    broker.receivers.append(cut_off)
    two.server.hub.missed(REVOKED, broker.position())
    for node in 3 * (two, one):
        node.server.turn()
    for node in (one, two, two):
        pass_seconds(node.server, 1)
    assert not there.open
    assert b" 401 " in show(two.server, "/sse?channels=a", stolen).written()


class FarBroker(MemoryBroker):
    """
    A broker that delivers what was published some milliseconds later.
    """

    published = 0

    def publish(self, drafts: Any) -> Any:
        self.published += 1
        self._clock.callLater(0.005, super().publish, drafts)
        return succeed(PublishResult(()))


def test_many_revocations_are_published_once_each() -> None:
    """
    A node does not answer its own messages that were published before the last revocation.
    """
    clock = Clock()
    broker = FarBroker(clock, "e")
    hub = make_hub(broker, clock)
    hub.start()
    bus = AdminBus(hub, clock, Revocations(clock.seconds), True)
    bus.startService()
    for number in range(50):
        clock.pump([0.002, 0.0])
        now = clock.seconds()
        bus.revoke(Revocation(jti=f"t{number}", until=now + 600.0, changed=now))
    clock.pump([0.1] * 10)

    assert len(bus.revocations) == 50
    assert broker.published <= 51
    bus.stopService()
    hub.stop(0)


def test_nodes_whose_revocations_differ_do_not_flood_the_broker() -> None:
    """
    Of nodes whose clocks differ, each refuses what the other has: they publish now and then.
    """
    broker = SharedBroker(Clock())
    one, two = AdminNode(alone=False, broker=broker), AdminNode(alone=False, broker=broker)
    one.revocations.now = lambda: NOW + 200.0
    published, publish = list[int](), broker.publish

    def count(drafts: Any) -> Any:
        published.append(len(drafts))
        return publish(drafts)

    broker.publish = count  # type: ignore[method-assign]
    two.bus.revoke(Revocation(jti="short", until=NOW + 100.0, changed=NOW))
    one.bus.revoke(Revocation(sub="long", until=NOW + 200.0 + LONGEST, changed=NOW))
    for _ in range(100):
        one.server.turn()
        two.server.turn()

    assert len(published) == 2
    assert len(one.revocations.current()) == len(two.revocations.current()) == 1


def test_revocations_are_published_until_the_broker_accepts_them() -> None:
    """
    A broker that is away when tokens are revoked does not keep other nodes from it.
    """
    broker = SharedBroker(Clock())
    one, two = AdminNode(alone=False, broker=broker), AdminNode(alone=False, broker=broker)
    publish, refused = broker.publish, list[int]()

    def refuse(drafts: Any) -> Any:
        refused.append(len(drafts))
        return fail(Unavailable("the broker is away"))

    broker.publish = refuse  # type: ignore[method-assign]
    assert one.ask("POST", "revoke", {"jti": "t1"})[0] == 200
    pass_seconds(one.server, 2 * int(RESEND))
    assert len(refused) == 3 and not two.revocations.current()
    broker.publish = publish  # type: ignore[method-assign]
    pass_seconds(one.server, int(RESEND) + 1)
    two.server.turn()
    assert [entry.jti for entry in two.revocations.current()] == ["t1"]


def test_revocations_are_known_again_after_a_restart(node: AdminNode) -> None:
    """
    From what the broker retains; until then tokens wait.
    """
    node.ask("POST", "revoke", {"jti": "t1"})
    fresh = Revocations(node.revocations.now)
    bus = AdminBus(node.server.hub, node.server.clock, fresh, True)
    bus.startService()
    assert not fresh.ready
    node.server.turn()
    assert fresh.ready
    assert [one.jti for one in fresh.current()] == ["t1"]
    bus.stopService()


class BusyClock(Clock):
    """
    A clock on which each look takes a millisecond.
    """

    def seconds(self) -> float:
        self.rightNow += 0.001
        return self.rightNow


def test_many_subscribers_are_listed_in_slices() -> None:
    """
    Subscribers of many channels each: other clients are served in between, and one that leaves
    meanwhile is not listed.
    """
    clock = BusyClock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    hub.start()
    names = [f"channel-{number}" for number in range(100)]
    subscribers = []
    for _ in range(200):
        subscribers.append(Subscriber(StringTransport(), EventStream(), hub, make_backlog_limits()))
        hub.join(subscribers[-1], names, None, b"")
    clock.advance(0)
    bus = AdminBus(hub, clock, Revocations(clock.seconds), True)
    found: list[Any] = []
    bus.request("subscribers", {"limit": "1000"}).addCallback(found.extend)
    turns = 0
    while not found:
        if turns == 30:
            subscribers[0].detach(DisconnectReason.LOST)
            hub.leave(subscribers[0], DisconnectReason.LOST)
        run_turn(clock)
        turns += 1
        assert turns < 1000
    listed: list[str] = []
    run_in_slices(clock, list_to_json(found)).addCallback(listed.append)
    assert not listed
    while not listed:
        run_turn(clock)

    assert turns > 60
    assert len(found) == 199
    assert json.loads(listed[0]) == found
    hub.stop(0)


def test_many_channels_are_listed_in_slices() -> None:
    """
    The first ones by name, whatever order they were opened in.
    """
    clock = BusyClock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    hub.start()
    names = [f"channel-{number:05}" for number in range(20_000)]
    Random(1).shuffle(names)
    subscriber = Subscriber(StringTransport(), EventStream(), hub, make_backlog_limits())
    hub.join(subscriber, names, None, b"")
    clock.advance(0)
    bus = AdminBus(hub, clock, Revocations(clock.seconds), True)
    found: list[Any] = []
    filters = {"after": "channel-00009", "limit": "2"}
    bus.request("channels", filters).addCallback(found.extend)
    assert not found
    turns = 0
    while not found:
        run_turn(clock)
        turns += 1
        assert turns < 100

    assert [(one["name"], one["subscribers"]) for one in found] == [
        ("channel-00010", 1),
        ("channel-00011", 1),
    ]
    hub.stop(0)
