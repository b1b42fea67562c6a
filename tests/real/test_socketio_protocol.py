"""
Engine.IO and Socket.IO word by word: what their documents and official servers do.
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


class Http:
    """
    Requests to a server's sessions.

    Args:
        server: the daemon.
        version: of Engine.IO.
    """

    def __init__(self, server: Server, version: int = 4) -> None:
        self.server = server
        self._version = version
        self.headers: dict[str, str] = {}

    def ask(
        self, method: str, query: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """
        Status and body.
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
        A new session's id.
        """
        status, body = self.ask("GET", f"EIO={self._version}&transport=polling&b64=1")
        assert status == 200
        sid: str = json.loads(body[body.index(b"{") : body.index(b"}") + 1])["sid"]
        return sid

    def poll(self, sid: str) -> tuple[int, bytes]:
        """
        What waits, or comes next.
        """
        return self.ask("GET", f"EIO={self._version}&transport=polling&sid={sid}")

    def post(self, sid: str, body: bytes, **headers: str) -> tuple[int, bytes]:
        """
        Post packets.
        """
        query = f"EIO={self._version}&transport=polling&sid={sid}"
        return self.ask("POST", query, body, **headers)


@contextmanager
def websocket(server: Server, version: int = 4, sid: str = "") -> Iterator[ClientConnection]:
    """
    One that is open; the first message is the session's.
    """
    query = f"EIO={version}&transport=websocket" + (f"&sid={sid}" if sid else "")
    url = f"ws://127.0.0.1:{server.port}/socket.io/?{query}"
    with connect(url, ping_interval=None) as opened:
        yield opened


def is_closed(socket: ClientConnection) -> bool:
    """
    Whether it ends, whatever is said before.
    """
    try:
        while True:
            socket.recv(PATIENCE)
    except ConnectionClosed:
        return True


def publish(server: Server, channel: str, data: bytes) -> None:
    """
    As others do, by HTTP.
    """
    with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
        connection.request("POST", f"/publish?channel={channel}", data)
        assert connection.getresponse().status == 200


def code(body: bytes) -> Any:
    """
    The number of an error.
    """
    return json.loads(body)["code"]


def test_the_handshake_by_polling(daemon: StartDaemon) -> None:
    """
    A session says who it is, and its times.
    """
    http = Http(daemon(*ROUTES, "--socketio-ping-interval=3", "--socketio-max-payload=1000"))
    status, body = http.ask("GET", "EIO=4&transport=polling")

    assert (status, body[:1]) == (200, b"0")
    said = json.loads(body[1:])
    assert len(said.pop("sid")) > 20
    assert said == {
        "upgrades": ["websocket"],
        "pingInterval": 3000,
        "pingTimeout": 20000,
        "maxPayload": 1000,
    }
    assert http.headers["content-type"] == "text/plain; charset=UTF-8"
    assert http.headers["cache-control"] == "no-store"


def test_wrong_requests(daemon: StartDaemon) -> None:
    """
    They get Engine.IO's own errors, by number.
    """
    http = Http(daemon(*ROUTES, "--socketio-max-payload=1000"))
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
        status, body = http.ask(method, query, b"" if method == "POST" else None)
        assert (status, code(body)) == (400, number), query
    assert http.ask("HEAD", f"EIO=4&transport=polling&sid={sid}")[0] == 400
    for method in ("PUT", "PATCH", "DELETE"):
        status, body = http.ask(method, "EIO=4&transport=polling", b"")
        assert (status, code(body)) == (400, 2)
        status, body = http.ask(method, f"EIO=4&transport=polling&sid={sid}", b"40")
        assert (status, code(body)) == (400, 3)
    assert http.ask("GET", "EIO=4&transport=websocket")[0] == 426
    assert http.post(sid, b"4" * 1001)[0] == 413
    assert http.post(sid, b"40", content_type="application/octet-stream")[0] == 400
    # None of these has cost the session anything.
    assert http.post(sid, b"40") == (200, b"ok")


def test_pages_of_other_origins(daemon: StartDaemon) -> None:
    """
    May poll where CORS lets them, and open a websocket where that is allowed.
    """
    server = daemon(*ROUTES, "--origins=https://good.example")
    http = Http(server)
    query = "EIO=4&transport=polling"
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    assert http.ask("OPTIONS", query, None, origin="https://good.example", **asks)[0] == 204
    assert "POST" in http.headers["access-control-allow-methods"]
    assert http.headers["access-control-allow-origin"] == "https://good.example"
    http.ask("GET", query, None, origin="https://bad.example")
    assert "access-control-allow-origin" not in http.headers

    url = f"ws://127.0.0.1:{server.port}/socket.io/?EIO=4&transport=websocket"
    with pytest.raises(InvalidStatus) as refused:
        connect(url, additional_headers={"Origin": "https://bad.example"})
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("version", [3, 4])
def test_polls_and_posts(version: int, daemon: StartDaemon) -> None:
    """
    A post is heard, the next poll has the answers, all of them.
    """
    http = Http(daemon(*ROUTES), version)
    sid = http.open()
    if version == 4:
        assert http.post(sid, b"40") == (200, b"ok")
        assert http.poll(sid)[1].startswith(b'40{"sid":"')
        body = b'420["subscribe","a"]\x1e421["nothing"]'
    else:
        body = b'20:420["subscribe","a"]14:421["nothing"]'
    assert http.post(sid, body) == (200, b"ok")

    status, said = http.poll(sid)
    assert status == 200
    assert b'42["position","' in said
    assert b'430[{"status":"ok","channels":["a"]}]' in said
    assert b"""431[{"status":"error","error":"unknown event 'nothing'"}]""" in said


def test_bytes_by_revision_3(daemon: StartDaemon) -> None:
    """
    Clients that take bytes get polls in bytes if there are bytes in them, else as
    text; and may post them.
    """
    http = Http(daemon(*ROUTES), 3)
    status, body = http.ask("GET", "EIO=3&transport=polling")
    assert http.headers["content-type"] == "text/plain; charset=UTF-8"
    length, _, rest = body.partition(b":")
    sid = json.loads(rest[1 : int(length)])["sid"]
    assert (status, rest[int(length) :]) == (200, b"2:40")

    binary = {"content_type": "application/octet-stream"}
    assert http.post(sid, b'\x00\x02\x00\xff420["subscribe","a"]', **binary) == (200, b"ok")
    text = b'451-0["publish","a",{"_placeholder":true,"num":0}]'
    packets = b"\x00%s\xff%s" % (bytes(map(int, str(len(text)))), text)
    assert http.post(sid, packets + b"\x01\x04\xff\x04\x01\xff\x00", **binary) == (200, b"ok")
    heard = b""
    while b"\x01\x04\xff\x04\x01\xff\x00" not in heard:
        heard += http.poll(sid)[1]
    assert b'451-["message",{"_placeholder":true,"num":0},"' in heard


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
    (3, b"1:3"),  # the client does
    (3, b"5:4abc"),
    (3, b"4:4abc"),
]


def test_malformed_packets_end_the_session(daemon: StartDaemon) -> None:
    """
    400, and nobody finds it again.
    """
    server = daemon(*ROUTES)
    for version, body in MALFORMED_POSTS:
        http = Http(server, version)
        sid = http.open()

        assert http.post(sid, body)[0] == 400, body
        assert code(http.poll(sid)[1]) == 1, body


def test_malformed_messages_end_the_session(daemon: StartDaemon) -> None:
    """
    The websocket is closed.
    """
    server = daemon(*ROUTES)
    for message in ("abc", "4abc", "2", b"\x01", '42["a"]', "4" + "9" * 50):
        with websocket(server) as socket:
            socket.recv(PATIENCE)
            socket.send(message)
            assert is_closed(socket), message


def test_odd_values_are_answered(daemon: StartDaemon) -> None:
    """
    Each has a reason, and costs the session nothing: what JSON can say is not
    always text, or a number that others know.
    """
    server = daemon(r"--route=^/socket\.io/ socket.io:publish=news", ROUTES[1])
    odd = [
        ('["\\ud800","x"]', "an event type has no half of a surrogate pair"),
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


def test_thousands_of_packets_in_a_post(daemon: StartDaemon) -> None:
    """
    They are all heard, in order.
    """
    http = Http(daemon(*ROUTES))
    sid = http.open()
    assert http.post(sid, b"40") == (200, b"ok")
    http.poll(sid)
    asked = b"\x1e".join(b'42%d["x"]' % number for number in range(5000))
    assert http.post(sid, asked) == (200, b"ok")

    answers: list[bytes] = []
    while len(answers) < 5000:
        answers += http.poll(sid)[1].split(b"\x1e")
    assert [int(answer[2 : answer.index(b"[")]) for answer in answers] == list(range(5000))


@pytest.mark.parametrize("version", [3, 4])
def test_much_comes_in_portions(version: int, daemon: StartDaemon) -> None:
    """
    So that a bad line carries some of it: the rest is there for the next polls, at once.
    """
    http = Http(daemon(*ROUTES, "--history-bytes=10m"), version)
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
    told = [packet for packet in packets if packet.startswith('2["message"')]
    texts = [json.loads(packet[1:])[1] for packet in told]
    assert [int(text.split()[0]) for text in texts] == list(range(200))
    assert len(answers) < 30


@pytest.mark.parametrize("version", [3, 4])
def test_a_poll_fails_when_the_daemon_stops(version: int, daemon: StartDaemon) -> None:
    """
    By its status: python-socketio takes a CLOSE for a wish that it stay away.
    """
    http = Http(daemon(*ROUTES), version)
    sid = http.open()
    if version == 4:
        http.post(sid, b"40")
        http.poll(sid)
    with closing(HTTPConnection("127.0.0.1", http.server.port, timeout=PATIENCE)) as waiting:
        waiting.request("GET", f"/socket.io/?EIO={version}&transport=polling&sid={sid}")
        for _ in range(3):  # answered later than it is heard
            http.ask("GET", "EIO=4")
        http.server.restart()
        answer = waiting.getresponse()
        assert (answer.status, answer.read()) == (503, b"the session is over\n")


def test_who_does_not_say_where_it_was_is_new(daemon: StartDaemon) -> None:
    """
    It was cut off before it heard anything: it asks once more, and is told.
    """
    server = daemon(*ROUTES)
    publish(server, "a", b"first")
    claim = "40"
    for _ in range(2):
        with websocket(server) as socket:
            socket.recv(PATIENCE)
            socket.send(claim)
            key = json.loads(str(socket.recv(PATIENCE))[2:])["pid"]
            assert key not in claim
            claim = "40" + json.dumps({"pid": key})
            socket.send('420["subscribe","a",{"since":"all"}]')
            assert str(socket.recv(PATIENCE)).startswith('42["message","first"')


def test_who_got_no_answer_asks_once_more(daemon: StartDaemon) -> None:
    """
    A client is cut off before it is told what it asked for. When it has come back, it
    asks again, as `retries` has it do: it gets what came before it was cut off, and
    nothing that it was told since; and if it asks a third time, nothing.
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
        while "news 0" not in (heard := str(socket.recv(PATIENCE))):
            pass
        offset = json.loads(heard[2:])[-1]
        socket.send('42["subscribe","sport",{"since":"all"}]')  # and what follows is not read

    def ask() -> list[str]:
        socket.send('421["subscribe",["sport","news"],{"since":"all"}]')
        found: list[str] = []
        while not (heard := str(socket.recv(PATIENCE))).startswith("431"):
            event, *arguments = json.loads(heard[2:])
            found += arguments[:1] if event == "message" else []
        return found

    with websocket(server) as socket:
        socket.recv(PATIENCE)
        socket.send("40" + json.dumps({"pid": key, "offset": offset}))
        assert json.loads(str(socket.recv(PATIENCE))[2:])["pid"] == key
        publish(server, "sport", b"sport 3")
        while "sport 3" not in str(socket.recv(PATIENCE)):
            pass
        assert ask() == ["sport 0", "sport 1", "sport 2", "news 0"]
        assert ask() == []


@pytest.mark.parametrize("version", [3, 4])
def test_two_polls_at_once_end_the_session(version: int, daemon: StartDaemon) -> None:
    """
    The first one is told so, the second one refused.
    """
    http = Http(daemon(*ROUTES), version)
    sid = http.open()
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: Http(http.server, version).poll(sid), range(2)))

    assert sorted(status for status, _ in both) == [200, 400]
    assert {body for status, body in both if status == 200} == {b"1" if version == 4 else b"1:1"}
    assert code(http.poll(sid)[1]) == 1


@pytest.mark.parametrize("version", [3, 4])
def test_a_client_says_goodbye(version: int, daemon: StartDaemon) -> None:
    """
    Its poll is answered with a noop.
    """
    http = Http(daemon(*ROUTES), version)
    sid = http.open()
    with ThreadPoolExecutor(1) as threads:
        polled = threads.submit(Http(http.server, version).poll, sid)
        assert http.post(sid, b"1" if version == 4 else b"1:1") == (200, b"ok")
        status, body = polled.result(PATIENCE)
    # It may have been answered with what it was told, or come too late.
    assert status in (200, 400)
    assert code(http.poll(sid)[1]) == 1
    assert body


def test_the_client_pings_in_revision_3(daemon: StartDaemon) -> None:
    """
    And is answered with the same words.
    """
    server = daemon(*ROUTES)
    http = Http(server, 3)
    sid = http.open()
    assert http.post(sid, b"6:2probe") == (200, b"ok")
    assert http.poll(sid)[1].endswith(b"6:3probe")
    with websocket(server, 3) as socket:
        assert str(socket.recv(PATIENCE)).startswith("0")
        assert socket.recv(PATIENCE) == "40"
        socket.send("2")
        assert socket.recv(PATIENCE) == "3"


@pytest.mark.parametrize("version", [3, 4])
def test_who_is_silent_is_gone(version: int, daemon: StartDaemon) -> None:
    """
    Interval and timeout later, on either transport.
    """
    server = daemon(*ROUTES, "--socketio-ping-interval=1", "--socketio-ping-timeout=1")
    http = Http(server, version)
    sid = http.open()
    with websocket(server, version) as socket:
        heard = list(socket)  # until it is closed
    assert ("2" in heard) == (version == 4)
    status, body = 200, b""
    while status == 200:
        status, body = http.poll(sid)
    assert code(body) == 1


@pytest.mark.parametrize("version", [3, 4])
def test_handshakes_take_no_place(version: int, daemon: StartDaemon) -> None:
    """
    Any number of them that nobody follows up leaves room for subscribers, for
    Socket.IO's too.
    """
    http = Http(daemon(*ROUTES, "--max-readers=5", "--socketio-max-pending=10"), version)
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


def test_who_joins_nothing_is_gone(daemon: StartDaemon) -> None:
    """
    After `socketio-connect-seconds`.
    """
    with websocket(daemon(*ROUTES, "--socketio-connect-seconds=1")) as socket:
        assert is_closed(socket)


def test_the_upgrade(daemon: StartDaemon) -> None:
    """
    Probe, answer, a noop for the poll; then the websocket is the session's, and
    what was not polled comes by it.
    """
    server = daemon(*ROUTES)
    http = Http(server)
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


def test_an_upgrade_between_portions(daemon: StartDaemon) -> None:
    """
    What was not polled comes by the websocket, from the first packet that was not.
    """
    server = daemon(*ROUTES, "--history-bytes=10m")
    http = Http(server)
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

    told = [json.loads(packet[2:])[1] for packet in packets if packet.startswith(b'42["message"')]
    assert [int(text.split()[0]) for text in told] == list(range(100))


def test_an_upgrade_that_fails(daemon: StartDaemon) -> None:
    """
    Costs the session nothing: it goes on polling, and may try again.
    """
    server = daemon(*ROUTES, "--socketio-upgrade-seconds=1")
    http = Http(server)
    sid = http.open()
    http.post(sid, b"40")
    with websocket(server, sid=sid) as socket:
        socket.send("4nonsense")
        assert is_closed(socket)
    with websocket(server, sid=sid) as socket:
        socket.send("2probe")
        assert socket.recv(PATIENCE) == "3probe"
        assert is_closed(socket)  # it never says that it takes over
    assert http.poll(sid)[1].startswith(b"40{")
    with websocket(server, sid=sid) as socket:
        socket.send("2probe")
        assert socket.recv(PATIENCE) == "3probe"
        socket.send("5")
        socket.send("1")
        assert is_closed(socket)


def test_namespaces(daemon: StartDaemon) -> None:
    """
    Without an application there is but one; who leaves it may join again.
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


def test_socketio_2_reports_errors_and_leaves(daemon: StartDaemon) -> None:
    """
    With Engine.IO 3 a client may report an error of its own, speak in a namespace
    that it has not joined, leave the last one and join it again; its session stays.
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
def test_another_parser_is_named(version: int, daemon: StartDaemon) -> None:
    """
    A client with socket.io-msgpack-parser is told by the close frame and by the
    answer to its post what is wrong, and so is the log.
    """
    server = daemon(*ROUTES)
    connect_packet = b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\xc0"
    with websocket(server, version) as socket:
        socket.send(connect_packet if version == 4 else b"\x04" + connect_packet)
        assert is_closed(socket)
        assert "not msgpack" in str(socket.close_reason)
    http = Http(server, version)
    text = ("b" if version == 4 else "b4") + base64.b64encode(connect_packet).decode()
    framed = text if version == 4 else f"{len(text)}:{text}"
    status, body = http.post(http.open(), framed.encode())
    assert (status, "not msgpack" in json.loads(body)["message"]) == (400, True)
    assert server.log.count("socket.io-msgpack-parser is not supported") == 1


def test_events_of_the_server_cannot_be_published(daemon: StartDaemon) -> None:
    """
    Whoever publishes them, and however: a subscriber could not tell them apart.
    """
    server = daemon(
        r"--route=^/chat/ socket.io:subscribe=chat,publish=chat", "--route=^/ws$ websocket", *ROUTES
    )
    url = f"ws://127.0.0.1:{server.port}"
    with (
        websocket(server) as asking,
        connect(f"{url}/chat/?EIO=4&transport=websocket") as chatting,
        connect(f"{url}/ws") as plain,
    ):
        for line in (asking, chatting):
            line.recv(PATIENCE)
            line.send("40")
            while not str(line.recv(PATIENCE)).startswith("40"):
                pass
        assert str(chatting.recv(PATIENCE)).startswith('42["position",')
        for event in ("gap", "position"):
            with closing(HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as http:
                http.request("POST", f"/publish?channel=a&event={event}", b"x")
                assert http.getresponse().status == 400
            asking.send(f'420["publish","a","x","{event}"]')
            assert "is the server's own" in str(asking.recv(PATIENCE))
            chatting.send(f'420["{event}","x"]')
            assert "is the server's own" in str(chatting.recv(PATIENCE))
            said = {"type": "publish", "id": 1, "channel": "a", "message": "x", "event": event}
            plain.send(json.dumps(said))
            answer = json.loads(plain.recv(PATIENCE))
            while answer["type"] != "error":
                assert answer["type"] == "position"
                answer = json.loads(plain.recv(PATIENCE))
            assert answer["status"] == 400


def test_keys_and_routes_decide_who_publishes(daemon: StartDaemon) -> None:
    """
    A key in `auth`, or a route that publishes whatever is emitted.
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
        assert "does not open channel" in str(socket.recv(PATIENCE))
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
def test_pages_from_elsewhere_cannot_publish_without_a_key(
    version: int, transport: str, daemon: StartDaemon
) -> None:
    """
    Without a key only this machine's programs and the server's own pages may
    publish: not a page of another site, and not under a name that somebody
    else made to point to this machine.
    """
    server = daemon(*ROUTES, "--websocket-origins=*")
    local = f"localhost:{server.port}"
    may: tuple[dict[str, str], ...] = (
        {},
        {"Host": local, "Origin": f"http://{local}", "Sec-Fetch-Site": "same-origin"},
        {"Host": local, "Sec-Fetch-Site": "none"},
    )
    may_not: tuple[dict[str, str], ...] = (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.port}", "Origin": f"http://evil.example:{server.port}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Forwarded-For": "127.0.0.1"},
    )
    emit = _emit_by_polls if transport == "polling" else _emit_by_websocket
    for headers in may:
        assert '"status":"ok"' in emit(server, version, headers), headers
    for headers in may_not:
        answer = emit(server, version, headers)
        assert "no key is set" in answer, headers


_PUBLISH = '421["publish","news","x"]'


def _emit_by_polls(server: Server, version: int, headers: dict[str, str]) -> str:
    query = f"EIO={version}&transport=polling&b64=1"
    framed: PollFraming = Poll4() if version == 4 else Poll3Text()

    def post(text: str) -> None:
        body = framed.body(framed.text(text.encode()))
        assert http.ask("POST", f"{query}&sid={sid}", body, **headers)[0] == 200

    http = Http(server, version)
    status, opening = http.ask("GET", query, None, **headers)
    assert status == 200
    sid = json.loads(opening[opening.index(b"{") : opening.index(b"}") + 1])["sid"]
    if version == 4:
        post("40")
    post(_PUBLISH)
    answer = b""
    while b"430[" not in answer and b"431[" not in answer:
        status, answer = http.ask("GET", f"{query}&sid={sid}", None, **headers)
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
