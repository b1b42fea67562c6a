"""
Tests of Engine.IO and Socket.IO packet by packet, as documented and as official servers do.
"""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from rt_twisted.codecs.engineio_framing import Poll3Text, Poll4, PollFraming
from tests.real.conftest import PATIENCE, Server, StartDaemon

ROUTES = (r"--route=^/socket\.io/ socket.io", "--route=^/publish$ publish")


class SessionHttp:
    """
    Sends requests to the sessions of a server.

    Args:
        server: the daemon.
        version: of Engine.IO.
    """

    def __init__(self, server: Server, version: int = 4) -> None:
        self.server = server
        self._version = version
        self.headers: dict[str, str] = {}

    def request(
        self, method: str, query: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """
        Send a request to the route, and return status and body.
        """
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, f"/socket.io/?{query}", body, named)
            response = connection.getresponse()
            self.headers = {name.lower(): value for name, value in response.getheaders()}
            return response.status, response.read()
        finally:
            connection.close()

    def open(self) -> str:
        """
        Open a session, and return its id.
        """
        status, body = self.request("GET", f"EIO={self._version}&transport=polling&b64=1")
        assert status == 200
        sid: str = json.loads(body[body.index(b"{") : body.index(b"}") + 1])["sid"]
        return sid

    def poll(self, sid: str) -> tuple[int, bytes]:
        """
        Return status and body of the next poll.
        """
        return self.request("GET", f"EIO={self._version}&transport=polling&sid={sid}")

    def post(self, sid: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """
        Post packets, and return status and body.
        """
        query = f"EIO={self._version}&transport=polling&sid={sid}"
        return self.request("POST", query, body, **headers)


@contextmanager
def websocket(server: Server, version: int = 4, sid: str = "") -> Iterator[ClientConnection]:
    """
    Yield an open websocket, whose first message describes the session.
    """
    query = f"EIO={version}&transport=websocket" + (f"&sid={sid}" if sid else "")
    url = f"ws://127.0.0.1:{server.port}/socket.io/?{query}"
    with connect(url, ping_interval=None) as opened:
        yield opened


def is_closed(socket: ClientConnection) -> bool:
    """
    Return True when the websocket is closed; messages before that are ignored.
    """
    try:
        while True:
            socket.recv(PATIENCE)
    except ConnectionClosed:
        return True


def publish(server: Server, channel: str, data: bytes) -> None:
    """
    Publish a message by HTTP.
    """
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request("POST", f"/publish?channel={channel}", data)
        assert connection.getresponse().status == 200


def code(body: bytes) -> Any:
    """
    Return the number of an Engine.IO error.
    """
    return json.loads(body)["code"]


def test_the_first_poll_describes_the_session(daemon: StartDaemon) -> None:
    """
    The first poll returns the session's id, its intervals and its limits.
    """
    http = SessionHttp(daemon(*ROUTES, "--socketio-ping-interval=3", "--socketio-max-payload=1000"))
    status, body = http.request("GET", "EIO=4&transport=polling")

    assert (status, body[:1]) == (200, b"0")
    opened = json.loads(body[1:])
    assert len(opened.pop("sid")) > 20
    assert opened == {
        "upgrades": ["websocket"],
        "pingInterval": 3000,
        "pingTimeout": 20000,
        "maxPayload": 1000,
    }
    assert http.headers["content-type"] == "text/plain; charset=UTF-8"
    assert http.headers["cache-control"] == "no-store"


def test_wrong_requests_get_engineio_errors(daemon: StartDaemon) -> None:
    """
    Engine.IO numbers its errors; none of these requests closes the session.
    """
    http = SessionHttp(daemon(*ROUTES, "--socketio-max-payload=1000"))
    sid = http.open()
    wrong = [
        ("GET", "EIO=4", 0),
        ("GET", "EIO=4&transport=abc", 0),
        ("GET", "transport=polling", 5),
        ("GET", "EIO=2&transport=polling", 5),
        ("GET", "EIO=abc&transport=polling", 5),
        ("POST", "EIO=4&transport=polling", 2),
        ("GET", "EIO=4&transport=polling&sid=unknown", 1),
        ("POST", "EIO=4&transport=polling&sid=unknown", 1),
        ("GET", f"EIO=3&transport=polling&sid={sid}", 3),
    ]
    for method, query, number in wrong:
        status, body = http.request(method, query, b"" if method == "POST" else None)
        assert (status, code(body)) == (400, number), query
    assert http.request("HEAD", f"EIO=4&transport=polling&sid={sid}")[0] == 400
    for method in ("PUT", "PATCH", "DELETE"):
        status, body = http.request(method, "EIO=4&transport=polling", b"")
        assert (status, code(body)) == (400, 2)
        status, body = http.request(method, f"EIO=4&transport=polling&sid={sid}", b"40")
        assert (status, code(body)) == (400, 3)
    assert http.request("GET", "EIO=4&transport=websocket")[0] == 426
    assert http.post(sid, b"4" * 1001)[0] == 413
    assert http.post(sid, b"40", content_type="application/octet-stream")[0] == 400
    # None of these closes the session.
    assert http.post(sid, b"40") == (200, b"ok")


def test_pages_of_other_origins_need_permission(daemon: StartDaemon) -> None:
    """
    CORS decides whether they may poll, `websocket-origins` whether they may open a websocket.
    """
    server = daemon(*ROUTES, "--origins=https://good.example")
    http = SessionHttp(server)
    query = "EIO=4&transport=polling"
    preflight = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    assert (
        http.request("OPTIONS", query, None, origin="https://good.example", **preflight)[0] == 204
    )
    assert "POST" in http.headers["access-control-allow-methods"]
    assert http.headers["access-control-allow-origin"] == "https://good.example"
    http.request("GET", query, None, origin="https://bad.example")
    assert "access-control-allow-origin" not in http.headers

    url = f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, additional_headers={"Origin": "https://bad.example"})
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("version", [3, 4])
def test_the_next_poll_has_the_answers_to_a_post(version: int, daemon: StartDaemon) -> None:
    """
    All events of the post are answered.
    """
    http = SessionHttp(daemon(*ROUTES), version)
    sid = http.open()
    if version == 4:
        assert http.post(sid, b"40") == (200, b"ok")
        assert http.poll(sid)[1].startswith(b'40{"sid":"')
        body = b'420["subscribe","a"]\x1e421["nothing"]'
    else:
        body = b'20:420["subscribe","a"]14:421["nothing"]'
    assert http.post(sid, body) == (200, b"ok")

    status, packets = http.poll(sid)
    assert status == 200
    assert b'42["position","' in packets
    assert b'430[{"status":"ok","channels":["a"]}]' in packets
    assert b"""431[{"status":"error","error":"unknown event 'nothing'"}]""" in packets


def test_revision_3_sends_and_accepts_bytes(daemon: StartDaemon) -> None:
    """
    A poll is binary if it has binary data, else text; posts may be binary.
    """
    http = SessionHttp(daemon(*ROUTES), 3)
    status, body = http.request("GET", "EIO=3&transport=polling")
    assert http.headers["content-type"] == "text/plain; charset=UTF-8"
    length, _, rest = body.partition(b":")
    sid = json.loads(rest[1 : int(length)])["sid"]
    assert (status, rest[int(length) :]) == (200, b"2:40")

    binary = {"content_type": "application/octet-stream"}
    assert http.post(sid, b'\x00\x02\x00\xff420["subscribe","a"]', **binary) == (200, b"ok")
    text = b'451-0["publish","a",{"_placeholder":true,"num":0}]'
    packets = b"\x00%s\xff%s" % (bytes(map(int, str(len(text)))), text)
    assert http.post(sid, packets + b"\x01\x04\xff\x04\x01\xff\x00", **binary) == (200, b"ok")
    received = b""
    while b"\x01\x04\xff\x04\x01\xff\x00" not in received:
        received += http.poll(sid)[1]
    assert b'451-["message",{"_placeholder":true,"num":0},"' in received


MALFORMED_POSTS = [
    (4, b"abc"),
    (4, b"2"),  # the server pings
    (4, b"4abc"),
    (4, b'42["before joining"]'),
    (4, b"40\x1e40"),
    (4, b"b!"),
    (4, b"bAQID"),
    (4, b'40\x1e450-["a"]'),
    (4, b'40\x1e451-["a"\x1ebAQID'),
    (4, b"40" + b"\x1e6" * 10_000),
    (3, b"abc"),
    (3, b"1:3"),  # the client pings
    (3, b"5:4abc"),
    (3, b"4:4abc"),
]


def test_malformed_posts_close_the_session(daemon: StartDaemon) -> None:
    """
    The status is 400, and the session is unknown afterwards.
    """
    server = daemon(*ROUTES)
    for version, body in MALFORMED_POSTS:
        http = SessionHttp(server, version)
        sid = http.open()

        assert http.post(sid, body)[0] == 400, body
        assert code(http.poll(sid)[1]) == 1, body


def test_malformed_messages_close_the_websocket(daemon: StartDaemon) -> None:
    """
    The session is closed with it.
    """
    server = daemon(*ROUTES)
    for message in ("abc", "4abc", "2", b"\x01", '42["a"]', "4" + "9" * 50):
        with websocket(server) as socket:
            socket.recv(PATIENCE)
            socket.send(message)
            assert is_closed(socket), message


def test_values_that_cannot_be_published_are_answered(daemon: StartDaemon) -> None:
    """
    Each is answered with a reason, and the session stays: JSON can express strings that are not
    text, and numbers that other programs cannot read.
    """
    server = daemon(r"--route=^/socket\.io/ socket.io:publish=news", ROUTES[1])
    odd = [
        ('["\\ud800","x"]', "an event type cannot have half a surrogate pair"),
        ('["a\\nb","x"]', "an event type is one line of up to 200 characters"),
        ('["x",1e999]', "JSON cannot express bytes, NaN or infinity in the data"),
        ('["subscribe","\\ud800"]', "a channel cannot be called '\\\\ud800'"),
        ('["subscribe","a",{"since":"²s"}]', "since is a position, an age"),
        ('["subscribe","a",{"history":99999999999999999999}]', "history must be a whole number"),
        (json.dumps(["subscribe", [f"c{number}" for number in range(5000)]]), "channels"),
    ]
    with websocket(server) as socket:
        socket.recv(PATIENCE)
        socket.send('40{"pid":"\\ud800","offset":[],"key":"\\ud800"}')
        assert str(socket.recv(PATIENCE)).startswith("40{")
        for event, reason in odd:
            socket.send(f"420{event}")
            answer = str(socket.recv(PATIENCE))
            assert answer.startswith('430[{"status":"error","error":"'), event
            assert reason in answer
        socket.send('421["x","\\ud800"]')
        assert str(socket.recv(PATIENCE)).startswith('431[{"status":"ok"')


def test_a_post_may_have_thousands_of_packets(daemon: StartDaemon) -> None:
    """
    All of them are processed, in order.
    """
    http = SessionHttp(daemon(*ROUTES))
    sid = http.open()
    assert http.post(sid, b"40") == (200, b"ok")
    http.poll(sid)
    events = b"\x1e".join(b'42%d["x"]' % number for number in range(5000))
    assert http.post(sid, events) == (200, b"ok")

    answers: list[bytes] = []
    while len(answers) < 5000:
        answers += http.poll(sid)[1].split(b"\x1e")
    assert [int(answer[2 : answer.index(b"[")]) for answer in answers] == list(range(5000))


@pytest.mark.parametrize("version", [3, 4])
def test_a_long_replay_comes_in_portions(version: int, daemon: StartDaemon) -> None:
    """
    A bad connection can carry a portion; the next polls get the rest at once.
    """
    http = SessionHttp(daemon(*ROUTES, "--history-bytes=10m"), version)
    for number in range(200):
        publish(http.server, "a", f"{number} ".encode() * 1000)
    sid = http.open()
    if version == 4:
        http.post(sid, b"40")
    event = '42["subscribe","a",{"since":"all"}]'
    http.post(sid, (event if version == 4 else f"{len(event)}:{event}").encode())
    answers: list[bytes] = []
    while b'"199 ' not in b"".join(answers):
        status, body = http.poll(sid)
        assert (status, len(body) <= 65536) == (200, True)
        answers.append(body)

    framing = Poll4() if version == 4 else Poll3Text()
    packets = [str(packet.data) for answer in answers for packet in framing.packets(answer)]
    events = [packet for packet in packets if packet.startswith('2["message"')]
    texts = [json.loads(packet[1:])[1] for packet in events]
    assert [int(text.split()[0]) for text in texts] == list(range(200))
    assert len(answers) < 30


@pytest.mark.parametrize("version", [3, 4])
def test_a_poll_fails_when_the_daemon_stops(version: int, daemon: StartDaemon) -> None:
    """
    The status is 503: python-socketio does not reconnect after a CLOSE packet.
    """
    http = SessionHttp(daemon(*ROUTES), version)
    sid = http.open()
    if version == 4:
        http.post(sid, b"40")
        http.poll(sid)
    with closing(HTTPConnection("127.0.0.1", http.server.port, timeout=PATIENCE)) as waiting:
        waiting.request("GET", f"/socket.io/?EIO={version}&transport=polling&sid={sid}")
        for _ in range(3):  # answered after the daemon has received the poll
            http.request("GET", "EIO=4")
        http.server.restart()
        answer = waiting.getresponse()
        assert (answer.status, answer.read()) == (503, b"the session is over\n")


def test_a_client_that_recovers_without_an_offset_is_new(daemon: StartDaemon) -> None:
    """
    A client that was disconnected before it received anything joins again, and gets the replay.
    """
    server = daemon(*ROUTES)
    publish(server, "a", b"first")
    connect_packet = "40"
    for _ in range(2):
        with websocket(server) as socket:
            socket.recv(PATIENCE)
            socket.send(connect_packet)
            key = json.loads(str(socket.recv(PATIENCE))[2:])["pid"]
            assert key not in connect_packet
            connect_packet = "40" + json.dumps({"pid": key})
            socket.send('420["subscribe","a",{"since":"all"}]')
            assert str(socket.recv(PATIENCE)).startswith('42["message","first"')


def test_a_recovered_client_may_request_a_missed_replay(daemon: StartDaemon) -> None:
    """
    A client is disconnected before it gets the replay that it requested. After it has recovered
    it requests it again, as `retries` does: it gets what lies before its position, once, and
    nothing that it has received since.
    """
    server = daemon(*ROUTES)
    for number in range(3):
        publish(server, "sport", b"sport %d" % number)
    with websocket(server) as socket:
        socket.recv(PATIENCE)
        socket.send("40")
        key = json.loads(str(socket.recv(PATIENCE))[2:])["pid"]
        socket.send('420["subscribe","news"]')
        while not str(socket.recv(PATIENCE)).startswith("430"):
            pass
        publish(server, "news", b"news 0")
        while "news 0" not in (packet := str(socket.recv(PATIENCE))):
            pass
        offset = json.loads(packet[2:])[-1]
        socket.send('42["subscribe","sport",{"since":"all"}]')  # what follows is not received

    def subscribe() -> list[str]:
        socket.send('421["subscribe",["sport","news"],{"since":"all"}]')
        found: list[str] = []
        while not (packet := str(socket.recv(PATIENCE))).startswith("431"):
            event, *arguments = json.loads(packet[2:])
            found += arguments[:1] if event == "message" else []
        return found

    with websocket(server) as socket:
        socket.recv(PATIENCE)
        socket.send("40" + json.dumps({"pid": key, "offset": offset}))
        assert json.loads(str(socket.recv(PATIENCE))[2:])["pid"] == key
        publish(server, "sport", b"sport 3")
        while "sport 3" not in str(socket.recv(PATIENCE)):
            pass
        assert subscribe() == ["sport 0", "sport 1", "sport 2", "news 0"]
        assert subscribe() == []


@pytest.mark.parametrize("version", [3, 4])
def test_two_polls_at_once_close_the_session(version: int, daemon: StartDaemon) -> None:
    """
    The first one gets a CLOSE packet, the second one is refused.
    """
    http = SessionHttp(daemon(*ROUTES), version)
    sid = http.open()
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: SessionHttp(http.server, version).poll(sid), range(2)))

    assert sorted(status for status, _ in both) == [200, 400]
    assert {body for status, body in both if status == 200} == {b"1" if version == 4 else b"1:1"}
    assert code(http.poll(sid)[1]) == 1


@pytest.mark.parametrize("version", [3, 4])
def test_a_client_may_close_the_session(version: int, daemon: StartDaemon) -> None:
    """
    Its waiting poll is answered with a NOOP packet.
    """
    http = SessionHttp(daemon(*ROUTES), version)
    sid = http.open()
    with ThreadPoolExecutor(1) as threads:
        polled = threads.submit(SessionHttp(http.server, version).poll, sid)
        assert http.post(sid, b"1" if version == 4 else b"1:1") == (200, b"ok")
        status, body = polled.result(PATIENCE)
    # The poll may have been answered with packets, or have come too late.
    assert status in (200, 400)
    assert code(http.poll(sid)[1]) == 1
    assert body


def test_clients_of_revision_3_ping(daemon: StartDaemon) -> None:
    """
    The pong has the data of the ping.
    """
    server = daemon(*ROUTES)
    http = SessionHttp(server, 3)
    sid = http.open()
    assert http.post(sid, b"6:2probe") == (200, b"ok")
    assert http.poll(sid)[1].endswith(b"6:3probe")
    with websocket(server, 3) as socket:
        assert str(socket.recv(PATIENCE)).startswith("0")
        assert socket.recv(PATIENCE) == "40"
        socket.send("2")
        assert socket.recv(PATIENCE) == "3"


@pytest.mark.parametrize("version", [3, 4])
def test_a_silent_client_times_out(version: int, daemon: StartDaemon) -> None:
    """
    A session ends an interval and a timeout after its last packet, on either transport.
    """
    server = daemon(*ROUTES, "--socketio-ping-interval=1", "--socketio-ping-timeout=1")
    http = SessionHttp(server, version)
    sid = http.open()
    with websocket(server, version) as socket:
        received = list(socket)  # until it is closed
    assert ("2" in received) == (version == 4)
    status, body = 200, b""
    while status == 200:
        status, body = http.poll(sid)
    assert code(body) == 1


@pytest.mark.parametrize("version", [3, 4])
def test_handshakes_do_not_count_as_subscribers(version: int, daemon: StartDaemon) -> None:
    """
    Any number of handshakes without a second request leaves room for subscribers, those of
    Socket.IO included.
    """
    http = SessionHttp(daemon(*ROUTES, "--max-readers=5", "--socketio-max-pending=10"), version)
    for _ in range(30):
        http.open()
    sid = http.open()
    if version == 4:
        assert http.post(sid, b"40") == (200, b"ok")
    else:
        assert http.post(sid, b"1:2") == (200, b"ok")
    assert http.poll(sid)[0] == 200
    with websocket(http.server, version) as opened:
        assert str(opened.recv(PATIENCE)).startswith("0{")


def test_a_client_without_a_namespace_is_closed(daemon: StartDaemon) -> None:
    """
    A client must connect to a namespace within `socketio-connect-seconds`.
    """
    with websocket(daemon(*ROUTES, "--socketio-connect-seconds=1")) as socket:
        assert is_closed(socket)


def test_a_session_upgrades_to_a_websocket(daemon: StartDaemon) -> None:
    """
    The probe is answered, and the poll with a NOOP packet; then the websocket is the session's,
    and gets what was not polled.
    """
    server = daemon(*ROUTES)
    http = SessionHttp(server)
    sid = http.open()
    http.post(sid, b"40")
    with websocket(server, sid=sid) as socket:
        socket.send("2probe")
        assert socket.recv(PATIENCE) == "3probe"
        assert http.poll(sid)[1].startswith(b"40{")
        assert http.poll(sid) == (200, b"6")
        http.post(sid, b'420["subscribe","a"]')
        socket.send("5")
        assert str(socket.recv(PATIENCE)).startswith('42["position"')
        assert str(socket.recv(PATIENCE)).startswith("430[")

        status, body = http.poll(sid)
        assert (status, code(body)) == (400, 3)
        with pytest.raises(InvalidStatus), websocket(server, sid=sid):
            pass
        socket.send('421["publish","a","x"]')
        assert {str(socket.recv(PATIENCE))[:3] for _ in range(2)} == {"431", "42["}


def test_an_upgrade_between_portions_loses_nothing(daemon: StartDaemon) -> None:
    """
    The websocket gets what was not polled, from the first such packet on.
    """
    server = daemon(*ROUTES, "--history-bytes=10m")
    http = SessionHttp(server)
    for number in range(100):
        publish(server, "a", f"{number} ".encode() * 1000)
    sid = http.open()
    http.post(sid, b'40\x1e42["subscribe","a",{"since":"all"}]')
    packets = http.poll(sid)[1].split(b"\x1e")
    with websocket(server, sid=sid) as socket:
        socket.send("2probe")
        assert socket.recv(PATIENCE) == "3probe"
        packets += http.poll(sid)[1].split(b"\x1e")
        assert b'"99 ' not in packets[-1]
        socket.send("5")
        while b'"99 ' not in packets[-1]:
            packets.append(str(socket.recv(PATIENCE)).encode())

    texts = [json.loads(packet[2:])[1] for packet in packets if packet.startswith(b'42["message"')]
    assert [int(text.split()[0]) for text in texts] == list(range(100))


def test_a_session_polls_on_after_a_failed_upgrade(daemon: StartDaemon) -> None:
    """
    The session stays usable by polls, and the client may try the upgrade again.
    """
    server = daemon(*ROUTES, "--socketio-upgrade-seconds=1")
    http = SessionHttp(server)
    sid = http.open()
    http.post(sid, b"40")
    with websocket(server, sid=sid) as socket:
        socket.send("4nonsense")
        assert is_closed(socket)
    with websocket(server, sid=sid) as socket:
        socket.send("2probe")
        assert socket.recv(PATIENCE) == "3probe"
        assert is_closed(socket)  # it never sends the upgrade packet
    assert http.poll(sid)[1].startswith(b"40{")
    with websocket(server, sid=sid) as socket:
        socket.send("2probe")
        assert socket.recv(PATIENCE) == "3probe"
        socket.send("5")
        socket.send("1")
        assert is_closed(socket)


def test_only_the_main_namespace_exists_without_an_application(daemon: StartDaemon) -> None:
    """
    A client that has left it may connect to it again.
    """
    with websocket(daemon(*ROUTES)) as socket:
        assert str(socket.recv(PATIENCE)).startswith('0{"sid":')
        socket.send("40/random")
        refused = '44/random,{"message":"Invalid namespace","data":{"status":404}}'
        assert socket.recv(PATIENCE) == refused
        socket.send('40{"token":"123"}')
        answer = str(socket.recv(PATIENCE))
        assert answer.startswith("40{")
        assert set(json.loads(answer[2:])) == {"sid", "pid"}
        socket.send("41")
        socket.send("40")
        assert str(socket.recv(PATIENCE)).startswith("40{")
        socket.send('420["subscribe","a"]')
        assert str(socket.recv(PATIENCE)).startswith('42["position",')
        assert socket.recv(PATIENCE) == '430[{"status":"ok","channels":["a"]}]'


def test_clients_of_socketio_2_may_report_errors_and_leave(daemon: StartDaemon) -> None:
    """
    A client of Engine.IO 3 may report an error, send to a namespace that it has not joined, and
    leave the last namespace and join it again; its session stays.
    """
    with websocket(daemon(*ROUTES), 3) as socket:
        assert str(socket.recv(PATIENCE)).startswith("0{")
        assert socket.recv(PATIENCE) == "40"
        for text in ('44"encode error"', '44["any"]', "44null", '42/none,["x"]', "41", "40"):
            socket.send(text)
        assert socket.recv(PATIENCE) == "40"
        socket.send("40/none")
        assert socket.recv(PATIENCE) == '44/none,"Invalid namespace"'
        socket.send('420["subscribe","a"]')
        assert str(socket.recv(PATIENCE)).startswith('42["position",')
        assert socket.recv(PATIENCE) == '430[{"status":"ok","channels":["a"]}]'


@pytest.mark.parametrize("version", [3, 4])
def test_the_msgpack_parser_is_named(version: int, daemon: StartDaemon) -> None:
    """
    The close frame, the response to the post, and the log tell what is wrong.
    """
    server = daemon(*ROUTES)
    connect_packet = b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\xc0"
    with websocket(server, version) as socket:
        socket.send(connect_packet if version == 4 else b"\x04" + connect_packet)
        assert is_closed(socket)
        assert "not msgpack" in str(socket.close_reason)
    http = SessionHttp(server, version)
    text = ("b" if version == 4 else "b4") + base64.b64encode(connect_packet).decode()
    framed = text if version == 4 else f"{len(text)}:{text}"
    status, body = http.post(http.open(), framed.encode())
    assert (status, "not msgpack" in json.loads(body)["message"]) == (400, True)
    assert server.log.count("socket.io-msgpack-parser is not supported") == 1


def test_events_of_the_server_cannot_be_published(daemon: StartDaemon) -> None:
    """
    No publisher may do so on any transport: a subscriber could not tell them apart.
    """
    server = daemon(
        r"--route=^/chat/ socket.io:subscribe=chat,publish=chat", "--route=^/ws$ websocket", *ROUTES
    )
    url = f"ws://127.0.0.1:{server.port}"
    with (
        websocket(server) as publisher,
        connect(f"{url}/chat/?EIO=4&transport=websocket") as chatting,
        connect(f"{url}/ws") as plain,
    ):
        for line in (publisher, chatting):
            line.recv(PATIENCE)
            line.send("40")
            while not str(line.recv(PATIENCE)).startswith("40"):
                pass
        assert str(chatting.recv(PATIENCE)).startswith('42["position",')
        for event in ("gap", "position"):
            with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as http:
                http.request("POST", f"/publish?channel=a&event={event}", b"x")
                assert http.getresponse().status == 400
            publisher.send(f'420["publish","a","x","{event}"]')
            assert "is the server's own" in str(publisher.recv(PATIENCE))
            chatting.send(f'420["{event}","x"]')
            assert "is the server's own" in str(chatting.recv(PATIENCE))
            request = {"type": "publish", "id": 1, "channel": "a", "message": "x", "event": event}
            plain.send(json.dumps(request))
            answer = json.loads(plain.recv(PATIENCE))
            while answer["type"] != "error":
                assert answer["type"] == "position"
                answer = json.loads(plain.recv(PATIENCE))
            assert answer["status"] == 400


def test_keys_and_routes_decide_who_may_publish(daemon: StartDaemon) -> None:
    """
    A key in `auth` permits it, or a route that publishes whatever is emitted.
    """
    server = daemon(
        r"--route=^/chat/ socket.io:subscribe=chat,publish=chat,positions=no",
        *ROUTES,
        "--publish-key=secret news*",
    )
    with websocket(server) as socket:
        socket.recv(PATIENCE)
        socket.send("40")
        socket.recv(PATIENCE)
        socket.send('420["publish","news","x"]')
        assert socket.recv(PATIENCE) == '430[{"status":"error","error":"a key is needed"}]'
    with websocket(server) as socket:
        socket.recv(PATIENCE)
        socket.send('40{"key":"secret"}')
        socket.recv(PATIENCE)
        socket.send('420["publish","news","x"]')
        assert str(socket.recv(PATIENCE)).startswith('430[{"status":"ok","position":"')
        socket.send('421["publish","other","x"]')
        assert "does not permit channel" in str(socket.recv(PATIENCE))
    url = f"ws://127.0.0.1:{server.port}/chat/?EIO=4&transport=websocket"
    with connect(url) as socket:
        socket.recv(PATIENCE)
        socket.send("40")
        assert set(json.loads(str(socket.recv(PATIENCE))[2:])) == {"sid"}
        socket.send('42["typing",{"who":"Ann"},true]')
        assert socket.recv(PATIENCE) == '42["typing",[{"who":"Ann"},true]]'
        socket.send('420["subscribe","other"]')
        assert "clients cannot choose them" in str(socket.recv(PATIENCE))


@pytest.mark.parametrize("version", [3, 4])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_pages_of_other_sites_cannot_publish_without_a_key(
    version: int, transport: str, daemon: StartDaemon
) -> None:
    """
    Without a key only programs on this machine and the server's own pages may publish: no page
    of another site, and no page under a name that was made to resolve to this machine.
    """
    server = daemon(*ROUTES, "--websocket-origins=*")
    local = f"localhost:{server.port}"
    allowed: tuple[dict[str, str], ...] = (
        {},
        {"Host": local, "Origin": f"http://{local}", "Sec-Fetch-Site": "same-origin"},
        {"Host": local, "Sec-Fetch-Site": "none"},
    )
    refused: tuple[dict[str, str], ...] = (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.port}", "Origin": f"http://evil.example:{server.port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Forwarded-For": "127.0.0.1"},
    )
    emit = _emit_by_polling if transport == "polling" else _emit_by_websocket
    for headers in allowed:
        assert '"status":"ok"' in emit(server, version, headers), headers
    for headers in refused:
        answer = emit(server, version, headers)
        assert "no key is set" in answer, headers


_PUBLISH = '421["publish","news","x"]'


def _emit_by_polling(server: Server, version: int, headers: dict[str, str]) -> str:
    query = f"EIO={version}&transport=polling&b64=1"
    framing: PollFraming = Poll4() if version == 4 else Poll3Text()

    def post(text: str) -> None:
        body = framing.body(framing.text(text.encode()))
        assert http.request("POST", f"{query}&sid={sid}", body, **headers)[0] == 200

    http = SessionHttp(server, version)
    status, opening = http.request("GET", query, None, **headers)
    assert status == 200
    sid = json.loads(opening[opening.index(b"{") : opening.index(b"}") + 1])["sid"]
    if version == 4:
        post("40")
    post(_PUBLISH)
    answer = b""
    while b"430[" not in answer and b"431[" not in answer:
        status, answer = http.request("GET", f"{query}&sid={sid}", None, **headers)
        assert status == 200
    return answer.decode()


def _emit_by_websocket(server: Server, version: int, headers: dict[str, str]) -> str:
    with closing(socket.create_connection(("127.0.0.1", server.port), PATIENCE)) as line:
        host = headers.get("Host", f"127.0.0.1:{server.port}")
        more = {name: value for name, value in headers.items() if name != "Host"}
        url = f"ws://{host}/socket.io/?EIO={version}&transport=websocket"
        with connect(url, sock=line, additional_headers=more, ping_interval=None) as opened:
            opened.recv(PATIENCE)
            if version == 4:
                opened.send("40")
            opened.recv(PATIENCE)
            opened.send(_PUBLISH)
            return str(opened.recv(PATIENCE))
