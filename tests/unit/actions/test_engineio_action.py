"""
Tests of the route word `engine.io`: who may publish, what is refused, and back-pressure.
"""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from rt_twisted.actions.engineio.action import ChannelMessages
from rt_twisted.codecs.engineio_framing import Poll3, Poll4, Socket4
from rt_twisted.formats.engineio import EngineIOMessages
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Message, Position, Replay
from rt_twisted.routes import parse_route
from tests.contracts.formats import FormatContract
from tests.unit.actions.websocket.daemon import SECRETS, DeferringBroker, WebSocketDaemon
from tests.unit.codecs.websocket_frames import masked
from tests.unit.http.clients import Caller

ROUTE = r"^/engine\.io/ engine.io:subscribe=art,publish=art"
QUERY = "/engine.io/?EIO=4&transport="


class Client:
    """
    A polling client.

    Attributes:
        replay: packets in the first response behind the one that opens the session.
    """

    def __init__(
        self, daemon: WebSocketDaemon, query: str = "", address: str = "127.0.0.1"
    ) -> None:
        self._daemon = daemon
        self._address = address
        self.path = f"{QUERY}polling{query}"
        status, body = self.request("GET")
        assert status == 200, body
        opened, _, self.replay = body.partition(b"\x1e")
        self.path += f"&sid={json.loads(opened[1:])['sid']}"

    def request(self, method: str, body: bytes = b"") -> tuple[int, bytes]:
        """
        Send a request; return status and body, 0 while there is no response.
        """
        caller = Caller(self._daemon.server, self._address)
        head = f"{method} {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}"
        caller.send(f"{head}\r\n\r\n".encode() + body)
        self._daemon.turn()
        self.written = caller.written
        return self.response()

    def response(self) -> tuple[int, bytes]:
        head, _, body = self.written().partition(b"\r\n\r\n")
        return int(head.split()[1]) if head else 0, body


def test_messages_of_clients_are_published_as_they_are() -> None:
    """
    Text and bytes of a client are messages of the channel, and come back to it.
    """
    daemon = WebSocketDaemon(ROUTE)
    client = Client(daemon)
    assert client.request("POST", b"4h\xc3\xa4llo\x1ebAP8=") == (200, b"ok")

    assert client.request("GET") == (200, b"4h\xc3\xa4llo\x1ebAP8=")


@pytest.mark.parametrize(
    ("query", "status"), [("", 401), ("&key=wrong", 401), ("&key=art", 200), ("&key=s3cret", 200)]
)
def test_publishing_needs_a_key_where_keys_are_set(query: str, status: int) -> None:
    """
    The key may be in the query of the first request; without it the client is disconnected when
    it sends, and nothing is published.
    """
    daemon = WebSocketDaemon(ROUTE, publish_keys=SECRETS)
    client, other = Client(daemon, query), Client(daemon)

    assert client.request("POST", b"4x")[0] == status
    assert other.request("GET") == ((200, b"4x") if status == 200 else (0, b""))
    assert client.request("GET")[0] == (200 if status == 200 else 400)


def test_publishing_needs_a_key_for_the_channel() -> None:
    """
    A key for other channels does not permit it.
    """
    daemon = WebSocketDaemon(ROUTE.replace("art", "news"), publish_keys=SECRETS)

    assert Client(daemon, "&key=art").request("POST", b"4x")[0] == 403


def test_without_keys_only_this_machine_may_publish() -> None:
    """
    A client from elsewhere receives, and is disconnected when it sends.
    """
    daemon = WebSocketDaemon(ROUTE)
    elsewhere = Client(daemon, address="192.0.2.7")
    Client(daemon).request("POST", b"4local")

    assert elsewhere.request("GET") == (200, b"4local")
    assert elsewhere.request("POST", b"4x")[0] == 403


def test_a_session_that_may_not_publish_holds_no_request() -> None:
    """
    The session keeps why, without the frames and the request in them.
    """
    daemon = WebSocketDaemon(ROUTE, publish_keys=SECRETS)
    Client(daemon)
    made = [each for each in gc.get_objects() if type(each) is ChannelMessages]
    [refusal] = [each._refusal for each in made if each._context.hub is daemon.hub]

    assert refusal is not None and refusal.status == 401
    assert refusal.__traceback__ is None and refusal.__context__ is None


@pytest.mark.parametrize(
    ("route", "sent", "code"),
    [
        (ROUTE, b"4" + bytes(2_001), 1009),
        (r"^/engine\.io/ engine.io:art", b"4x", 1008),
        (ROUTE, b"9", 1002),
    ],
)
def test_websocket_is_closed_with_the_code_of_the_error(route: str, sent: bytes, code: int) -> None:
    """
    A message that is too large, not permitted or malformed closes the websocket.
    """
    daemon = WebSocketDaemon(route, max_message=2_000)
    peer = daemon.open(f"{QUERY}websocket")
    assert peer.received()[0].startswith("0{")
    peer.send(masked(1, sent))

    assert peer.received()[-1].code == code


def test_a_post_is_answered_when_its_messages_are_published() -> None:
    """
    Until the broker has confirmed them, the client cannot post more.
    """
    broker: Any = DeferringBroker(None)
    daemon = WebSocketDaemon(ROUTE, broker=broker)
    client = Client(daemon)
    assert client.request("POST", b"4a\x1e4b") == (0, b"")
    broker.answer()
    assert client.response() == (0, b"")
    broker.answer()
    assert client.response() == (200, b"ok")

    assert client.request("POST", b"4c") == (0, b"")
    broker.drafts_waiting.pop()[1].errback(Unavailable("away"))
    assert client.request("GET")[0] == 400  # the session is closed


def test_websocket_is_not_read_while_much_is_unconfirmed() -> None:
    """
    A broker that does not confirm stops the client, not the daemon; when it fails, the
    websocket is closed with 1013.
    """
    broker: Any = DeferringBroker(None)
    daemon = WebSocketDaemon(ROUTE, broker=broker)
    peer = daemon.open(f"{QUERY}websocket")
    peer.send(b"".join(masked(1, b"4%d" % number) for number in range(40)))
    assert len(broker.drafts_waiting) == 32
    assert not peer.is_read
    for _ in range(8):
        broker.answer()
    daemon.turn()
    assert len(broker.drafts_waiting) == 32
    broker.drafts_waiting[0][1].errback(Unavailable("away"))

    assert peer.received()[-1].code == 1013


def test_history_and_start_of_the_query() -> None:
    """
    `history=` of the route is for clients that name no start.
    """
    daemon = WebSocketDaemon(r"^/engine\.io/ engine.io:subscribe=news,history=1")
    daemon.publish("1", "2", "3")

    assert Client(daemon).replay == b"43"
    assert Client(daemon, "&history=2").replay == b"42\x1e43"


def test_clients_of_a_route_without_channels_choose_them() -> None:
    """
    Without `channels=` the first request is refused.
    """
    daemon = WebSocketDaemon(r"^/engine\.io/ engine.io")
    client = Client(daemon, "&channels=news,art")
    daemon.publish("1")
    daemon.publish("2", channel="art")
    assert client.request("GET") == (200, b"41\x1e42")

    with pytest.raises(AssertionError, match="400"):
        Client(daemon)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("history=-1", "negative"),
        ("subscribe=a b\t", "cannot be called"),
        ("slow=no", "one of"),
        ("x=1", "'x'"),
    ],
)
def test_wrong_arguments_are_errors_at_start(arguments: str, error: str) -> None:
    """
    The error names the argument.
    """
    with pytest.raises(ValueError, match=error):
        parse_route(f"^/e engine.io:{arguments}", WebSocketDaemon().context)


@pytest.mark.parametrize(
    ("format", "data", "frame"),
    [
        (EngineIOMessages(Poll4()), "ä".encode(), "4ä\x1e".encode()),
        (EngineIOMessages(Poll4()), b"\xff", b"b/w==\x1e"),
        (EngineIOMessages(Poll4()), b"a\x1eb", b"bYR5i\x1e"),
        (EngineIOMessages(Poll4(), binary=True), b"a", b"bYQ==\x1e"),
        (EngineIOMessages(Poll3()), b"a", b"\x00\x02\xff4a"),
        (EngineIOMessages(Poll3()), b"\xff", b"\x01\x02\xff\x04\xff"),
        (EngineIOMessages(Socket4()), b"a", b"\x81\x024a"),
        (EngineIOMessages(Socket4()), b"\xff", b"\x82\x01\xff"),
    ],
)
def test_each_message_is_one_packet(format: EngineIOMessages, data: bytes, frame: bytes) -> None:
    """
    UTF-8 is text and other data is bytes, on every transport.
    """
    assert format.encode(Message("news", data, Position("e", 1))) == frame


def test_frames_of_live_streams_are_bytes() -> None:
    """
    Of a live stream the frames are sent, and neither heads nor ends.
    """
    frames = [
        EngineIOMessages(Socket4()).encode(Message("cam", b"a", Position("e", 1), event))
        for event in ("unit/head", "unit/k 1 0 0 33367 0 0", "unit/end")
    ]
    assert frames == [b"", b"\x82\x01a", b""]


def test_format_keeps_the_contract() -> None:
    """
    The welcome comes before the replay; a quiet format sends only the welcome.
    """
    FormatContract(
        (EngineIOMessages(Poll4()),), (EngineIOMessages(Poll4()),), (b"x", b"", b"\xff")
    ).check()
    message = Message("news", b"x", Position("e", 1))
    replay = Replay((message,), True, Position("e", 1))
    loud, quiet = EngineIOMessages(Poll4(), welcome=b"w"), EngineIOMessages(Poll4(), quiet=True)
    assert list(loud.start(replay)) == [b"w", message]
    assert list(quiet.start(replay)) == [b""]
    assert loud == EngineIOMessages(Poll4())
