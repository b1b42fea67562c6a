"""
Websockets as clients meet them, without sockets: what a `Clock` drives.
"""

from __future__ import annotations

import gc
import json
import re
import tracemalloc
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from websockets.frames import Close, Frame
from websockets.frames import Opcode as TheirOpcode
from websockets.protocol import Protocol, Side
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rt_twisted.access.channel_names import ChannelNames
from rt_twisted.access.keys import Key, Keys
from rt_twisted.actions.context import ActionContext, WebSocketLimits
from rt_twisted.actions.interfaces import IAction, IWebSocketApp, Match
from rt_twisted.actions.websocket.action import WebSocketAction
from rt_twisted.actions.websocket.connection import IN_FLIGHT, WebSocket
from rt_twisted.actions.websocket.endpoint import BUCKETS, WebSocketEndpoint
from rt_twisted.brokers.interfaces import ILimited
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.formats.websocket import RawFrames
from rt_twisted.http.interfaces import IExchange
from rt_twisted.http.server import HttpServer
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, HubLimits
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, Position, PublishResult
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.routes import Route, Routes, parse_route
from tests.unit.codecs.test_websocket import FRAMES, KEY, masked, pressed
from tests.unit.http.test_h1 import Caller, Place, get
from tests.unit.http.test_h2 import Client

HANDSHAKE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
)
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
LARGE = WebSocketLimits(message=1 << 20, rate=0, bytes=0)
LIMITS = WebSocketLimits(message=10_000, rate=50, bytes=100_000, silence=50.0)


@implementer(IWebSocketApp)
class Notes:
    """
    Writes down what it is told.
    """

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.websocket: Any = None

    def opened(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        self.told.append((data, binary))
        if data == b"raise":
            raise ZeroDivisionError

    def closed(self, code: int, reason: str) -> None:
        self.told.append((code, reason))


@implementer(IAction)
class Own:
    """
    An action of the user's, which takes notes.
    """

    methods = ("GET",)

    def __init__(self, context: ActionContext) -> None:
        self.websockets = WebSocketEndpoint(context)
        self.notes: list[Notes] = []

    def act(self, exchange: IExchange, match: Match) -> None:
        agreement = self.websockets.check(exchange, ("mqtt",))
        self.notes.append(Notes())
        format = RawFrames(agreement.deflate)
        self.websockets.open(exchange, agreement, self.notes[-1], format, ["news"])


class Sockets(Place):
    """
    A daemon's front with websockets: /ws, /chat, /own, and what is asked for.
    """

    def __init__(
        self, *lines: str, limits: HubLimits = HubLimits(), broker: Any = None, **context: Any
    ) -> None:
        super().__init__()
        self.clock = Clock()
        self.hub = Hub(broker or MemoryBroker(self.clock, "e"), self.clock, limits=limits)
        context.setdefault("websockets", LIMITS)
        context.setdefault("inbound", InboundMemory(self.clock, 0))
        self.context = ActionContext(self.hub, self.clock, **context)
        self.own = Own(self.context)
        lines = (
            "^/ws$ websocket",
            "^/chat$ websocket:subscribe=chat,publish=chat,prefix=${qs[name]}:,suffix=!",
            "^/news$ sse:news",
            *lines,
        )
        routes = [parse_route(line, self.context) for line in lines]
        routes.append(Route(re.compile("^/own$"), None, self.own))
        self.server = HttpServer(self.clock, Routes(routes).find)
        self.server.start()
        self.hub.start()

    def publish(self, *texts: str | bytes, channel: str = "news") -> None:
        data = [text.encode() if isinstance(text, str) else text for text in texts]
        self.hub.publish([Draft(channel, each) for each in data])
        self.turn()

    def turn(self) -> None:
        self.clock.pump([0] * 4)

    def open(self, path: str = "/ws", headers: str = "", address: str = "127.0.0.1") -> Peer:
        request = get(path.encode(), (HANDSHAKE + headers).encode())
        peer = Peer(self, address)
        peer.say(request.replace(b"Host: a", b"Host: localhost:80"))
        return peer


class Peer:
    """
    A client that reads with the `websockets` library, and writes what it likes.
    """

    def __init__(self, place: Sockets, address: str = "127.0.0.1") -> None:
        self._place = place
        self.caller = Caller(place.server, address)
        self._reader = Protocol(Side.CLIENT, max_size=None)
        self._read = 0

    @property
    def head(self) -> str:
        return self.caller.written().partition(b"\r\n\r\n")[0].decode()

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def gone(self) -> bool:
        return bool(self.caller.wire.disconnecting or self.caller.wire.disconnected)

    def say(self, data: bytes) -> None:
        self.caller.say(data)
        self._place.turn()

    def text(self, text: str) -> None:
        self.say(masked(1, text.encode()))

    def command(self, **fields: Any) -> list[Any]:
        self.text(json.dumps(fields))
        return self.heard()

    def heard(self) -> list[Any]:
        """
        What has come since the last look: text as JSON if it is some, bytes, the
        names of pings and pongs, and Close.
        """
        body = self.caller.written().partition(b"\r\n\r\n")[2]
        self._reader.receive_data(body[self._read :])
        self._read = len(body)
        assert self._reader.parser_exc is None
        events: Any = self._reader.events_received()
        return [_plain(event) for event in events]

    @property
    def is_read(self) -> bool:
        return self.caller.wire.producerState == "producing"

    def hang_up(self) -> None:
        self.caller.hang_up()


def _plain(event: Frame) -> Any:
    if event.opcode is TheirOpcode.TEXT:
        text = bytes(event.data).decode()
        return json.loads(text) if text[:1] == "{" else text
    if event.opcode is TheirOpcode.BINARY:
        return bytes(event.data)
    if event.opcode is TheirOpcode.CLOSE:
        return Close.parse(event.data)
    return (event.opcode.name, bytes(event.data))


def deflated(data: bytes) -> bytes:
    """
    A client's frame of bytes, compressed.
    """
    return masked(2, pressed(data), rsv=4)


def position(offset: int) -> dict[str, Any]:
    return {"type": "position", "position": f"e.{offset}"}


def message(data: str, offset: int, channel: str = "news") -> dict[str, Any]:
    return {"type": "message", "channel": channel, "position": f"e.{offset}", "data": data}


# Opening.


def test_opening() -> None:
    """
    101 with what RFC 6455, 4.2.2 asks for, and nothing that frames a body.
    """
    peer = Sockets().open()

    assert peer.status == 101
    assert peer.head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in peer.head
    for name in ("Content-Length", "Transfer-Encoding", "Connection: close", "Extensions"):
        assert name not in peer.head
    assert peer.heard() == [position(0)]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(b"/ws"), 426),
        (get(b"/ws", HANDSHAKE.replace("13", "8").encode()), 426),
        (get(b"/ws", HANDSHAKE.replace("Connection: Upgrade\r\n", "").encode()), 400),
        (get(b"/ws", HANDSHAKE.encode(), b"1.0"), 501),
        (get(b"/ws", HANDSHAKE.encode()).replace(b"GET", b"HEAD"), 405),
        (get(b"/ws", HANDSHAKE.encode()).replace(b"GET", b"POST"), 405),
        (get(b"/ws?channels=%20", HANDSHAKE.encode()), 400),
        (get(b"/ws?since=x", HANDSHAKE.encode()), 400),
        (get(b"/own", HANDSHAKE.encode() + b"Origin: http://evil\r\n"), 403),
    ],
)
def test_what_is_no_handshake_is_answered(request_: bytes, status: int) -> None:
    """
    As any request, and another may follow on the connection.
    """
    place = Sockets()
    caller = place.call(request_)
    place.turn()

    answers = caller.heard(request_.split()[0].decode())
    assert [answer.status for answer in answers] == [status]
    if status == 426:
        assert answers[0].headers["upgrade"] == "websocket"
        assert answers[0].headers["sec-websocket-version"] == "13"
    if caller.open:
        caller.say(get(b"/none"))
        assert [answer.status for answer in caller.heard(request_.split()[0].decode())][1:] == [404]


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ("same", "http://localhost:3000", 101),
        ("same", "https://LOCALHOST", 101),
        ("same", "http://localhost.evil", 403),
        ("same", "http://evil", 403),
        ("same", "null", 403),
        ("same", "http://evil/localhost:80", 403),
        ("https://a.example same", "https://a.example", 101),
        ("https://a.example", "http://a.example", 403),
        ("https://a.example", "http://localhost", 403),
        ("*", "http://evil", 101),
    ],
)
def test_pages_from_elsewhere(origins: str, origin: str, status: int) -> None:
    """
    A browser opens a websocket for any page, with cookies: only listed pages get one.
    """
    place = Sockets(websockets=WebSocketLimits(origins=frozenset(origins.split())))

    assert place.open(headers=f"Origin: {origin}\r\n").status == status


@pytest.mark.parametrize("cut", [0, 1, 5])
@pytest.mark.parametrize("late", [False, True])
def test_nothing_behind_the_handshake_is_lost(late: bool, cut: int) -> None:
    """
    Also what comes with it in one segment, and if its turn is not now.
    """
    place = Sockets(limits=HubLimits(join_rate=1, join_queue=5) if late else HubLimits())
    if late:
        for _ in range(3):
            place.open()
    sent = get(b"/ws", HANDSHAKE.encode()) + masked(1, b'{"type":"ping","id":1}')
    peer = Peer(place)
    for at in range(0, len(sent), cut or len(sent)):
        peer.say(sent[at : at + (cut or len(sent))])
    assert (peer.caller.written() == b"") is late
    place.clock.pump([0.5] * 20)

    assert peer.heard()[:2] == [position(0), {"type": "pong", "id": 1}]


def test_requests_around_an_upgrade_that_is_refused() -> None:
    """
    Pipelined before and behind it: each gets its answer, in order, however many.
    """
    place = Sockets()
    refused = get(b"/none", HANDSHAKE.encode())
    caller = place.call((get(b"/none") + refused) * 300 + get(b"/none"))

    assert [answer.status for answer in caller.heard()] == [404] * 601


@pytest.mark.parametrize(
    ("framing", "body"),
    [("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")],
)
def test_a_handshake_has_no_body(framing: str, body: bytes) -> None:
    """
    A proxy would forward as a body what is read as frames here.
    """
    place = Sockets()
    caller = place.call(get(b"/ws", f"{HANDSHAKE}{framing}\r\n".encode()) + body)
    place.turn()

    assert [answer.status for answer in caller.heard()] == [400]
    assert not caller.open


def test_a_page_without_a_host_is_nobody_s() -> None:
    """
    A sandboxed page's origin is null: it is not the same as no host at all.
    """
    place = Sockets()
    handshake = get(b"/ws", f"{HANDSHAKE}Origin: null\r\n".encode())
    peer = Peer(place)
    peer.say(handshake.replace(b"Host: a", b"Host:"))

    assert peer.status == 403


def test_a_client_that_leaves_before_its_turn() -> None:
    """
    Nobody is left over.
    """
    place = Sockets(limits=HubLimits(join_rate=1, join_queue=5))
    before = len(place.clock.getDelayedCalls())
    peers = [place.open() for _ in range(4)]
    for peer in peers:
        peer.hang_up()
    place.clock.pump([0.5] * 20)

    assert place.hub.current_metrics().subscribers == 0
    assert len(place.clock.getDelayedCalls()) == before


def test_admission() -> None:
    """
    A full daemon says so.
    """
    place = Sockets(limits=HubLimits(subscribers=1))
    place.open()

    assert place.open().status == 503


# The conversation.


def test_messages_of_both_kinds() -> None:
    """
    Whole, in order, each as what it was; the end with its code and reason.
    """
    place = Sockets()
    peer = place.open("/own")
    peer.say(masked(1, b"a", fin=False))
    peer.say(masked(9, b"!") + masked(0, b"b") + masked(2, b"\xff"))
    assert peer.heard() == [("PONG", b"!")]
    peer.say(masked(8, b"\x0f\xa0so long") + masked(1, b"more"))

    (notes,) = place.own.notes
    assert peer.heard() == [Close(4000, "so long")]
    assert peer.gone
    peer.hang_up()
    assert notes.told == [(b"ab", False), (b"\xff", True), (4000, "so long")]
    assert place.hub.current_metrics().closed == {"client": 1}


def test_broadcasts_and_own_words_in_one_order() -> None:
    """
    On one connection, what is sent first arrives first.
    """
    place = Sockets()
    peer = place.open("/own")
    websocket = place.own.notes[0].websocket
    websocket.send(b"1")
    place.publish("2")
    websocket.send(b"\x03", binary=True)
    websocket.ping(b"4")

    assert peer.heard() == ["1", "2", b"\x03", ("PING", b"4")]


def test_closing() -> None:
    """
    Our goodbye comes behind what was sent, nothing behind it; then theirs is waited for.
    """
    place = Sockets()
    peer = place.open("/own")
    notes = place.own.notes[0]
    notes.websocket.send(b"last")
    notes.websocket.close(4001, "done")
    notes.websocket.close(4002)
    notes.websocket.send(b"too late")
    place.publish("too late")
    peer.say(masked(1, b"too late"))

    assert peer.heard() == ["last", Close(4001, "done")]
    assert not peer.gone
    assert place.hub.current_metrics().subscribers == 0
    peer.say(masked(8, b"\x0f\xa1"))
    assert peer.gone
    peer.hang_up()
    assert notes.told == [(4001, "done")]
    assert place.hub.current_metrics().closed == {"ended": 1}


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("path", ["/own", "/ws"])
def test_bytes_after_a_close_frame_harm_no_other_client(path: str, deflate: bool) -> None:
    """
    A client sends a close frame and 9,000 more bytes in one write; the pings of
    other clients of the route are answered before and afterwards.
    """
    place = Sockets()
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""

    def is_answered() -> bool:
        peer = place.open(path, offer)
        peer.say(masked(9, b"there?"))
        return ("PONG", b"there?") in peer.heard()

    assert is_answered()
    for tail in (bytes(9000), masked(9, b"") * 3000, masked(8, b"") * 3000):
        closing = place.open(path, offer)
        closing.say(masked(8, b"\x03\xe8") + tail)
        assert closing.heard()[-1] == Close(1000, "")
        closing.hang_up()
        assert [is_answered() for _ in range(3)] == [True] * 3


@given(
    st.lists(FRAMES | st.binary(max_size=30) | st.just(bytes(9000)), max_size=10).map(b"".join),
    st.booleans(),
    st.sampled_from(["/ws", "/chat", "/own"]),
    st.sampled_from([1, 50, 4096, 65536]),
    st.booleans(),
)
def test_whatever_one_client_sends_others_are_answered(
    data: bytes, deflate: bool, path: str, cut: int, leaves: bool
) -> None:
    """
    Clients of the same route, there before or opened afterwards, with and without
    compression, have each message processed.
    """
    place = Sockets()
    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    early = [place.open(path, headers) for headers in ("", offer)]
    wild = place.open(path, offer if deflate else "")
    for at in range(0, len(data), max(cut, len(data) // 50)):
        if not wild.gone:
            wild.say(data[at : at + max(cut, len(data) // 50)])
    if leaves:
        wild.hang_up()
    for peer in (*early, *(place.open(path, headers) for headers in ("", offer))):
        peer.say(masked(9, b"1") + masked(2, b"?", fin=False) + masked(9, b"2") + masked(0, b""))
        pongs = [each for each in peer.heard() if isinstance(each, tuple)]
        assert pongs == [("PONG", b"1"), ("PONG", b"2")]
        if path == "/own":
            peer.say(masked(1, b"a word"))
            assert (b"a word", False) in [each for note in place.own.notes for each in note.told]


def test_a_goodbye_that_is_not_answered() -> None:
    """
    After some seconds the connection is cut.
    """
    place = Sockets()
    peer = place.open("/own")
    place.own.notes[0].websocket.close()
    place.clock.pump([1.0] * 4)
    assert not peer.caller.wire.aborted
    place.clock.pump([1.0] * 2)

    assert peer.caller.wire.aborted


def test_a_code_that_may_not_be_sent() -> None:
    """
    The application learns it at once; the websocket stays.
    """
    place = Sockets()
    peer = place.open("/own")
    with pytest.raises(ValueError, match="1006"):
        place.own.notes[0].websocket.close(1006)

    peer.say(masked(9, b""))
    assert peer.heard() == [("PONG", b"")]


def test_a_conversation_that_fails(clean_reactor: list[Failure]) -> None:
    """
    It is logged, the client is told 1011 and nothing else.
    """
    place = Sockets()
    peer = place.open("/own")
    peer.say(masked(1, b"raise") + masked(1, b"more"))

    assert peer.heard() == [Close(1011, "internal error")]
    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()
    assert place.own.notes[0].told == [(b"raise", False)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (masked(1, b"\xff"), 1007),
        (masked(2, bytes(10_001)), 1009),
        (masked(3, b""), 1002),
        (b"\x81\x01x", 1002),
        (masked(1, b"x") * 51, 1008),
        (masked(9, b"x") * 51, 1008),
        (masked(2, b"", fin=False) + masked(0, b"", fin=False) * 50, 1008),
        (masked(2, bytes(9_900)) * 11, 1008),
    ],
)
def test_mistakes_and_limits(data: bytes, code: int) -> None:
    """
    The client is told its mistake, and heard no more; TCP is closed when it has
    seen that, or in time.
    """
    place = Sockets()
    peer = place.open("/own")
    peer.say(data)
    peer.say(masked(1, b"more"))

    (close,) = peer.heard()
    assert close.code == code
    assert place.hub.current_metrics().closed == {"broken": 1}
    assert (b"more", False) not in place.own.notes[0].told
    place.clock.pump([1.0] * 7)
    assert peer.caller.wire.aborted
    peer.hang_up()
    assert place.own.notes[0].told[-1] == (code, close.reason)


def test_many_channels_count_as_frames() -> None:
    """
    Ten of them as one more, in a second: a few dear frames would keep us busy otherwise.
    """
    place = Sockets()
    names = [f"c{number}" for number in range(80)]
    hasty, patient = place.open("/ws"), place.open("/ws")
    for type in ("subscribe", "unsubscribe") * 4:
        place.clock.advance(1.0)
        assert {"type": "ack", "id": 1} in patient.command(type=type, id=1, channels=names)
    said: list[Any] = []
    for type in ("subscribe", "unsubscribe") * 4:
        said += hasty.command(type=type, id=1, channels=names)

    assert said.count({"type": "ack", "id": 1}) == 6
    assert said[-1].code == 1008


def test_the_rate_is_for_each_second() -> None:
    """
    Who keeps to it talks for ever.
    """
    place = Sockets()
    peer = place.open("/own")
    for _ in range(10):
        peer.say(masked(1, b"x") * 40)
        place.clock.advance(1.0)

    assert peer.heard() == []
    assert len(place.own.notes[0].told) == 400


def test_a_lost_connection() -> None:
    """
    1006, as RFC 6455, 7.1.5 has it.
    """
    place = Sockets()
    peer = place.open("/own")
    peer.hang_up()

    assert place.own.notes[0].told == [(1006, "")]
    assert not place.own.notes[0].websocket.open
    place.own.notes[0].websocket.send(b"nowhere")
    place.own.notes[0].websocket.close()


def test_a_stop() -> None:
    """
    1001, and in the reason when to come back.
    """
    place = Sockets()
    peers = [place.open("/own"), place.open("/ws")]
    peers[1].heard()
    place.hub.stop(2000)

    assert [peer.heard() for peer in peers] == [
        [Close(1001, "retry=2000")],
        [Close(1001, "retry=3000")],
    ]
    for peer in peers:
        assert peer.gone
        peer.hang_up()
    assert place.own.notes[0].told == [(1001, "")]
    assert place.hub.current_metrics().closed == {"shutdown": 2}


# The server's clock.


def test_pings_and_silence() -> None:
    """
    A ping every 30 seconds; who says nothing for 20 more is told so and cut off.
    Any byte is a sign of life, an unasked pong too.
    """
    place = Sockets()
    dumb, pongs, talks, unasked = (place.open("/own") for _ in range(4))
    pings = 0
    for second in range(120):
        place.clock.advance(1.0)
        pings += sum(each == ("PING", b"") for each in pongs.heard())
        if second % 30 == 0:
            pongs.say(masked(10, b""))
            talks.say(masked(1, b"x"))
            unasked.say(masked(10, b"?"))

    assert pings == 4
    assert dumb.heard()[-1] == Close(1011, "no answer to a ping")
    assert [peer.heard()[-1] for peer in (talks, unasked)] == [("PING", b"")] * 2
    assert place.hub.current_metrics().closed == {"silent": 1}


def test_a_message_that_never_ends() -> None:
    """
    What waits for its end is not kept for ever; who says one after the other
    without a pause may.
    """
    place = Sockets(websockets=WebSocketLimits(message_seconds=20.0))
    drips, talks = place.open("/own"), place.open("/own")
    drips.say(masked(2, b"x", fin=False))
    talks.say(masked(2, b"x")[:3])
    for _ in range(40):
        drips.say(masked(9, b""))
        talks.say(masked(2, b"x")[3:] + masked(2, b"x")[:3])
        place.clock.advance(1.0)

    assert drips.heard()[-1] == Close(1008, "a message took too long")
    assert Close not in map(type, talks.heard())


def test_the_rate_counts_what_was_compressed() -> None:
    """
    A small message that grows is a large one.
    """
    place = Sockets()
    peer = place.open("/own", DEFLATE)
    peer.say(deflated(bytes(9_000)) * 11)
    assert [len(data) for data, _ in place.own.notes[0].told] == [9_000] * 11
    peer.say(deflated(bytes(9_000)))

    assert peer.heard() == [Close(1008, "too much at once")]


HALF = masked(2, bytes(60_000), fin=False)
ROOMY = WebSocketLimits(message=1 << 20, rate=0, bytes=0, silence=0.0)


def test_unfinished_messages_are_bounded_in_sum() -> None:
    """
    Clients that send half of a message each take no more than the limit and a
    quarter; what stalls is closed (1013) while others wait, who are read then.
    """
    place = Sockets(websockets=ROOMY)
    memory = place.context.inbound
    memory.limit = 1 << 20
    stalled = [place.open("/own") for _ in range(100)]
    for peer in stalled:
        peer.say(HALF)
        assert memory.used <= memory.limit
    dropped = [peer for peer in stalled if [each.code for each in peer.heard()] == [1013]]
    assert len(dropped) == memory.dropped > 50

    small = place.open("/own")
    small.say(masked(1, b"a whole ", fin=False))
    small.say(masked(0, b"message"))
    assert place.own.notes[-1].told == [(b"a whole message", False)]
    healthy = place.open("/own")
    healthy.say(HALF)
    for _ in range(30):
        if not healthy.is_read:
            place.clock.pump([1.0])
    healthy.say(masked(0, b""))
    assert place.own.notes[-1].told == [(bytes(60_000), True)]
    for peer in stalled:
        peer.hang_up()
    assert (memory.used, memory.waiting) == (0, 0)


def test_messages_that_wait_count_as_unfinished() -> None:
    """
    Whole messages that are kept while their websocket is held are bounded likewise.
    """
    place = Sockets(websockets=ROOMY)
    memory = place.context.inbound
    peers = [place.open("/own") for _ in range(3)]
    for note in place.own.notes:
        note.websocket.pause_reading()
    for peer in peers:
        peer.say(masked(2, bytes(1000)) * 4)
    assert 3 * 4000 < memory.used < 3 * 5000
    peers[0].hang_up()
    assert memory.used < 2 * 5000
    for note in place.own.notes[1:]:
        note.websocket.resume_reading()
    place.turn()

    assert [len(note.told) for note in place.own.notes[1:]] == [4, 4]
    assert memory.used == 0


def test_a_large_message_waits_for_others_and_arrives() -> None:
    """
    Many clients send large messages piece by piece: all of them arrive.
    """
    place = Sockets(websockets=ROOMY)
    memory = place.context.inbound
    memory.limit = 4 << 20
    peers = [place.open("/own") for _ in range(30)]
    left = [3] * len(peers)
    for _ in range(100):
        for at, peer in enumerate(peers):
            if left[at] and peer.is_read:
                left[at] -= 1
                kind = 2 if left[at] == 2 else 0
                peer.say(masked(kind, bytes(50_000), fin=not left[at]))
        place.turn()

    assert [[len(data) for data, _ in note.told] for note in place.own.notes] == [[150_000]] * 30
    assert (memory.used, memory.waiting, memory.dropped) == (0, 0, 0)


def test_what_clients_send_is_counted() -> None:
    """
    Open websockets, frames of every kind, and messages that were processed: an
    operator sees that input comes in and is not processed.
    """
    place = Sockets()
    metrics = place.hub.metrics
    first, second = place.open("/own"), place.open("/ws")
    assert metrics.websockets == 2
    first.say(masked(10, b"") + masked(1, b"a", fin=False) + masked(0, b"b"))
    second.say(masked(9, b"") + masked(3, b""))
    assert (metrics.websocket_frames, metrics.websocket_messages) == (4, 1)
    first.say(masked(8, b"") + masked(1, b"late"))
    first.hang_up()
    second.hang_up()

    assert metrics.websockets == 0
    assert (metrics.websocket_frames, metrics.websocket_messages) == (5, 1)


@pytest.mark.parametrize("how", ["close", "fail", "lost", "too big"])
def test_an_end_gives_its_memory_back(how: str) -> None:
    """
    However a websocket ends, what it had sent counts no more.
    """
    place = Sockets(websockets=ROOMY)
    memory = place.context.inbound
    peer = place.open("/own")
    peer.say(HALF)
    assert memory.used == 60_000
    match how:
        case "close":
            peer.say(masked(8, b""))
        case "fail":
            peer.say(masked(3, b""))
        case "lost":
            peer.hang_up()
        case "too big":
            peer.say(b"\x80\xff" + (1 << 30).to_bytes(8, "big"))

    assert memory.used == 0


def test_others_have_their_turn_while_much_is_inflated() -> None:
    """
    Of a segment that becomes many MiB no more than two at a time, in order.
    """
    place = Sockets(websockets=LARGE)
    peer = place.open("/own", DEFLATE)
    told = place.own.notes[0].told
    sent = [bytes([number]) * (1 << 20) for number in range(8)]
    peer.caller.say(b"".join(map(deflated, sent)))
    at_first = len(told)
    assert 1 <= at_first <= 2
    assert peer.caller.wire.producerState == "paused"
    place.clock.pump([0] * 40)

    assert [data for data, _ in told] == sent
    assert peer.caller.wire.producerState == "producing"
    peer.say(masked(1, b"more"))
    assert told[-1] == (b"more", False)


@pytest.mark.parametrize("both", [False, True])
def test_an_end_amid_much_that_is_inflated(both: bool) -> None:
    """
    The close frame is said, whatever waits; and what waits is not waited for.
    """
    place = Sockets(websockets=LARGE)
    peer = place.open("/own", DEFLATE)
    notes = place.own.notes[0]
    much = deflated(bytes(1 << 20)) * 8
    if both:
        notes.websocket.close(4000, "enough")
        peer.caller.say(much)
    else:
        peer.caller.say(much)
        notes.websocket.close(4000, "enough")
    before = len(notes.told)
    place.clock.pump([0] * 40)

    assert peer.heard() == [Close(4000, "enough")]
    assert len(notes.told) == before <= 2
    place.clock.pump([1.0] * 7)
    assert peer.gone
    peer.hang_up()
    assert notes.told[-1] == (4000, "enough")


def test_others_have_their_turn_while_an_application_is_slow() -> None:
    """
    What one client says in a segment is done at several turns, if it takes
    long; nothing of it is lost, or overtaken by what comes next.
    """
    place = Sockets()
    peer = place.open("/own")
    notes = place.own.notes[0]
    plain = notes.message

    def work(data: bytes, binary: bool) -> None:
        plain(data, binary)
        place.clock.rightNow += 0.1

    notes.message = work  # type: ignore[method-assign]  # that is what it is for
    peer.caller.say(b"".join(masked(1, b"%d" % number) for number in range(5)))
    assert notes.told == [(b"0", False)]
    peer.caller.say(masked(1, b"5"))
    place.clock.pump([0] * 40)

    assert notes.told == [(b"%d" % number, False) for number in range(6)]
    assert peer.caller.wire.producerState == "producing"


def test_who_broke_a_limit_keeps_no_memory() -> None:
    """
    While its close frame is awaited: what was inflated until then is gone.
    """
    place = Sockets(websockets=LARGE)
    peers = [place.open("/own", DEFLATE) for _ in range(20)]
    bomb = deflated(bytes(20 << 20))
    peers.pop().say(bomb)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for peer in peers:
            peer.say(bomb)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert [peer.heard()[-1].code for peer in peers] == [1009] * len(peers)
    assert kept / len(peers) < 200_000


def test_an_application_publishes_in_its_clients_name() -> None:
    """
    The positions at once where the broker has them; else the client is not
    listened to while too much is under way.
    """
    broker = Moody(Clock())
    place, far = Sockets(), Sockets(broker=broker)
    place.open("/own")
    peer = far.open("/own")
    draft = [Draft("news", b"x")]
    assert place.own.notes[0].websocket.publish(draft) == PublishResult((Position("e", 1),))

    published = [far.own.notes[0].websocket.publish(draft) for _ in range(IN_FLIGHT)]
    assert peer.caller.wire.producerState == "paused"
    broker.answer()

    assert peer.caller.wire.producerState == "producing"
    assert [len(each.result.positions) for each in published if each.called] == [1]


def test_http_2_has_no_websockets() -> None:
    """
    It says so, and the connection goes on.
    """
    client = Client(Sockets())

    assert client.ask("/ws").status == 501
    assert client.ask("/none").status == 404


def test_silence_is_allowed() -> None:
    """
    By the setting.
    """
    place = Sockets(websockets=WebSocketLimits(silence=0.0))
    peer = place.open("/own")
    place.clock.pump([1.0] * 300)

    assert set(peer.heard()) == {("PING", b"")}


def test_there_is_no_clock_without_websockets() -> None:
    """
    The last one gone, nothing is to be called any more.
    """
    place = Sockets()
    before = len(place.clock.getDelayedCalls())
    peers = [place.open("/own") for _ in range(BUCKETS + 3)]
    assert len(place.clock.getDelayedCalls()) == before + 1
    for peer in peers:
        peer.hang_up()

    assert len(place.clock.getDelayedCalls()) == before


# Who does not read is not read.


def test_a_client_that_does_not_read_is_not_read() -> None:
    """
    What it said already waits, and goes on when it has caught up: in order, once.
    """
    place = Sockets()
    peer = place.open("/own")
    notes = place.own.notes[0]
    notes.websocket.subscriber.pauseProducing()  # its transport has enough
    assert peer.caller.wire.producerState == "paused"
    peer.say(masked(1, b"1") + masked(1, b"2"))
    peer.say(masked(1, b"3"))
    assert notes.told == []

    notes.websocket.subscriber.resumeProducing()
    place.turn()
    assert notes.told == [(b"1", False), (b"2", False), (b"3", False)]
    assert peer.caller.wire.producerState == "producing"


def test_being_behind_twice_is_being_behind_once() -> None:
    """
    TLS pauses within a write that then turns out not to have gone whole.
    """
    place = Sockets()
    peer = place.open("/own")
    websocket = place.own.notes[0].websocket
    wire: Any = peer.caller.wire
    write = wire.write

    def full(data: bytes) -> None:
        write(data)
        websocket.subscriber.pauseProducing()

    wire.write = full
    websocket.send(b"x" * 50_000)
    wire.write = write
    assert websocket.subscriber.behind
    websocket.subscriber.resumeProducing()

    assert peer.heard() == ["x" * 50_000]
    assert peer.caller.wire.producerState == "producing"


def test_holding() -> None:
    """
    A conversation may have enough for now, also in the middle of a segment.
    """
    place = Sockets()
    peer = place.open("/own")
    notes = place.own.notes[0]
    websocket = notes.websocket
    plain = notes.message

    def hear(data: bytes, binary: bool) -> None:
        plain(data, binary)
        websocket.pause_reading()

    notes.message = hear  # type: ignore[method-assign]  # that is what it is for
    peer.say(masked(1, b"1") + masked(1, b"2"))
    assert notes.told == [(b"1", False)]
    websocket.resume_reading()
    place.turn()
    assert notes.told == [(b"1", False), (b"2", False)]
    assert peer.caller.wire.producerState == "paused"
    websocket.resume_reading()

    assert peer.caller.wire.producerState == "producing"


def test_who_is_not_heard_is_not_silent() -> None:
    """
    However long a conversation has enough; afterwards the time begins anew.
    """
    place = Sockets()
    peer = place.open("/own")
    websocket = place.own.notes[0].websocket
    websocket.pause_reading()
    place.clock.pump([1.0] * 100)
    assert set(peer.heard()) == {("PING", b"")}
    websocket.resume_reading()
    place.clock.pump([1.0] * 40)
    assert set(peer.heard()) == {("PING", b"")}
    place.clock.pump([1.0] * 40)

    assert peer.heard()[-1] == Close(1011, "no answer to a ping")


def test_a_close_that_waits_behind_what_is_held() -> None:
    """
    Our own goodbye does not wait for it.
    """
    place = Sockets()
    peer = place.open("/own")
    websocket = place.own.notes[0].websocket
    websocket.pause_reading()
    peer.say(masked(1, b"1") + masked(8, b""))
    websocket.close(4000)

    assert peer.heard() == [Close(4000, "")]
    assert peer.gone


def test_a_goodbye_waits_for_what_was_sent() -> None:
    """
    A client that is behind gets all of it, and then the close frame.
    """
    place = Sockets()
    peer = place.open("/own")
    websocket = place.own.notes[0].websocket
    websocket.subscriber.pauseProducing()
    websocket.send(b"x" * 5000)
    websocket.close(4000)
    place.publish("too late")
    assert peer.heard() == []
    websocket.subscriber.resumeProducing()

    assert peer.heard() == ["x" * 5000, Close(4000, "")]
    assert not peer.gone


def test_patience() -> None:
    """
    As with any reader: who is too far behind is cut off, and comes back.
    """
    place = Sockets(backlog_limits=BacklogLimits(1000, 30.0))
    peer = place.open("/own")
    place.own.notes[0].websocket.subscriber.pauseProducing()
    for _ in range(4):
        place.publish("x" * 500)

    assert peer.caller.wire.aborted
    peer.hang_up()
    assert place.own.notes[0].told == [(1006, "")]
    assert place.hub.current_metrics().closed == {"behind": 1}
    assert place.hub.current_metrics().behind == 0


# Raw.


def test_a_chat_as_in_uwsgi() -> None:
    """
    Out and in on one channel, with prefix and suffix; what a request brings
    cannot become an argument.
    """
    place = Sockets()
    ann = place.open("/chat?name=Ann,publish=x")
    bob = place.open("/chat?name=Bob")
    ann.text("hi")
    bob.say(masked(2, b"\xff"))

    assert bob.heard() == ann.heard() == ["Ann,publish=x:hi!", b"Bob:\xff!"]


def test_what_a_raw_route_may_say() -> None:
    """
    Listening alone, binary always, history, subprotocols.
    """
    place = Sockets(
        "^/listen$ websocket:news",
        "^/binary$ websocket:subscribe=news,binary=yes,history=1,subprotocol=v1,subprotocol=v2",
        "^/talk$ websocket:publish=news",
    )
    place.publish("old", "new")
    listener = place.open("/listen")
    binary = place.open("/binary", "Sec-WebSocket-Protocol: v3, v2\r\n")
    place.open("/talk").text("said")

    assert "Sec-WebSocket-Protocol: v2" in binary.head
    assert listener.heard() == ["said"]
    assert binary.heard() == [b"new", b"said"]
    listener.text("me too")
    assert listener.heard() == [Close(1003, "nothing can be published here")]


def test_a_message_that_is_too_large_to_publish() -> None:
    """
    With its prefix.
    """
    place = Sockets(max_message=100)
    peer = place.open("/chat")
    peer.text("x" * 100)

    assert peer.heard() == [Close(1009, "the message is larger than 100 bytes")]


class Moody(MemoryBroker):
    """
    A broker that answers when it is told to.
    """

    def __init__(self, clock: Any) -> None:
        super().__init__(clock, "e")
        self.asked: list[tuple[Any, Deferred[Any]]] = []

    def publish(self, drafts: Any) -> Any:
        self.asked.append((drafts, Deferred()))
        return self.asked[-1][1]

    def answer(self) -> None:
        drafts, deferred = self.asked.pop(0)
        MemoryBroker.publish(self, drafts).chainDeferred(deferred)


@pytest.mark.parametrize(("path", "close"), [("/chat", True), ("/ws", False)])
def test_a_broker_that_is_away(path: str, close: bool) -> None:
    """
    Whoever publishes learns it: by an error, or where there are no words, by 1013.
    """
    broker = Moody(Clock())
    place = Sockets(broker=broker)
    peer = place.open(path)
    peer.heard()
    peer.text('{"type":"publish","id":1,"channel":"a","message":"x"}')
    broker.asked.pop()[1].errback(Failure(Unavailable("away")))

    said = peer.heard()
    if close:
        assert said == [Close(1013, "away")]
    else:
        assert said == [{"type": "error", "id": 1, "status": 503, "reason": "away"}]


@pytest.mark.parametrize("path", ["/chat", "/ws"])
def test_a_slow_broker_slows_its_publishers(path: str) -> None:
    """
    No more than 32 of a client's messages wait for it; nothing is lost.
    """
    broker = Moody(Clock())
    place = Sockets(broker=broker)
    peer = place.open(path)
    text = b'{"type":"publish","channel":"a","message":"x"}'
    peer.say(masked(1, text) * 40)
    assert len(broker.asked) == 32
    while broker.asked:
        broker.answer()
        place.turn()

    assert place.hub.current_metrics().published == 40


# JSON.


def test_several_channels() -> None:
    """
    Asked for in the URL or by command, left again; each message says its own.
    """
    place = Sockets()
    peer = place.open("/ws?channels=news,sport")
    assert peer.heard() == [position(0)]
    assert peer.command(type="subscribe", id=1, channels=["sport", "art"]) == [
        {"type": "ack", "id": 1},
        position(0),
    ]
    for channel in ("news", "sport", "art", "other"):
        place.publish("x", channel=channel)
    assert peer.heard() == [
        message("x", 1),
        message("x", 2, "sport"),
        message("x", 3, "art"),
    ]
    assert peer.command(type="unsubscribe", id="b", channels=["news", "none"]) == [
        {"type": "ack", "id": "b"}
    ]
    place.publish("y")
    assert peer.heard() == []
    assert peer.command(type="subscribe", channels="news", since="e.3") == [
        message("y", 5),
        position(5),
    ]


def test_resuming() -> None:
    """
    From a position, by URL or command; what is forgotten is said.
    """
    place = Sockets()
    place.publish("1", "2", "3")

    assert place.open("/ws?channels=news&since=e.1").heard() == [
        message("2", 2),
        message("3", 3),
        position(3),
    ]
    peer = place.open("/ws")
    peer.heard()
    assert peer.command(type="subscribe", channels="news", since="other.1")[0] == {
        "type": "gap",
        "position": "e.3",
    }
    peer.command(type="unsubscribe", channels="news")
    assert peer.command(type="subscribe", channels="news", history=1) == [
        message("3", 3),
        position(3),
    ]


def test_a_quiet_reader_s_position_moves() -> None:
    """
    With a heartbeat, so that it does not grow old.
    """
    place = Sockets()
    peer = place.open("/ws?channels=quiet")
    peer.heard()
    place.publish("x")
    place.clock.pump([1.0] * 30)

    assert peer.heard() == [position(1), ("PING", b"")]


def test_mistakes_of_a_client() -> None:
    """
    Are answered by what is wrong, with the id if there is one; nothing is closed.
    """
    place = Sockets()
    peer = place.open("/ws?channels=news")
    peer.heard()

    def status(**fields: Any) -> Any:
        ((said),) = peer.command(**fields)
        assert said["type"] == "error"
        return said["status"], said.get("id")

    assert status(type="dance", id=3) == (400, 3)
    assert status(type="subscribe", id=3, channels=["a b"]) == (400, 3)
    assert status(type="subscribe", channels=[f"c{n}" for n in range(100)]) == (400, None)
    assert status(type="subscribe", id=4, channels="a", since="yesterday") == (400, 4)
    assert status(type="publish", id=5, channel="a") == (400, 5)
    assert status(type="publish", id=5, message="a") == (400, 5)
    assert status(type="publish", id=5, channel="a b", message="a") == (400, 5)
    peer.say(masked(2, b"{}"))
    assert peer.heard() == [{"type": "error", "status": 400, "reason": "commands are text"}]
    assert peer.command(type="ping") == [{"type": "pong"}]


SECRETS = Keys([Key.of("s3cret"), Key.of("art", ["art*"])])


def test_who_may_publish() -> None:
    """
    Whose key opens the channel: from a header, the query, a command or the message.
    """
    place = Sockets(publish_keys=SECRETS)

    def status(peer: Peer, channel: str = "news", **more: Any) -> Any:
        said = peer.command(type="publish", id=1, channel=channel, message="x", **more)
        return said[-1].get("status", said[-1]["type"])

    bare = place.open()
    bare.heard()
    assert status(bare) == 403
    assert status(bare, key="wrong") == 401
    assert status(bare, key="s3cret") == "ack"
    assert status(bare) == 403
    assert bare.command(type="key", id=2, key="wrong")[0]["status"] == 401
    assert bare.command(type="key", id=2, key="art") == [{"type": "ack", "id": 2}]
    assert (status(bare), status(bare, "art-1")) == (403, "ack")
    for peer in (
        place.open("/ws?key=s3cret"),
        place.open(headers="Authorization: Bearer s3cret\r\n"),
        place.open(headers="X-Publish-Key: s3cret\r\n"),
        place.open(headers="Sec-WebSocket-Protocol: realtime, key.czNjcmV0\r\n"),
    ):
        peer.heard()
        assert status(peer) == "ack"


@pytest.mark.parametrize("path", ["/ws", "/chat", "/own", "/socket.io/?EIO=4&transport=websocket"])
def test_a_response_names_a_subprotocol_and_never_a_key(path: str) -> None:
    """
    On every route with websockets; a key that stands alone is refused.
    """
    place = Sockets("^/socket.io/ socket.io", publish_keys=SECRETS)
    own = path == "/own"
    name = "mqtt" if own else "realtime"
    peer = place.open(path, f"Sec-WebSocket-Protocol: key.czNjcmV0, {name}\r\n")

    assert peer.status == 101
    assert f"Sec-WebSocket-Protocol: {name}" in peer.head.split("\r\n")
    assert "czNjcmV0" not in peer.head
    assert place.open(path, "Sec-WebSocket-Protocol: key.czNjcmV0\r\n").status == 400
    for wrong in ("key.", "key.a b", "key.=="):
        refused = place.open(path, f"Sec-WebSocket-Protocol: {name}, {wrong}\r\n")
        assert refused.status == 400


def test_without_a_key_only_this_machine_publishes() -> None:
    """
    Everybody may read.
    """
    place = Sockets()
    near, far = place.open("/ws?channels=news"), place.open(address="192.0.2.1")
    far.heard()
    near.heard()

    (refused,) = far.command(type="publish", channel="news", message="x")
    assert refused["status"] == 403
    assert near.command(type="publish", id=1, channel="news", message="x", event="e") == [
        {"type": "ack", "id": 1, "position": "e.1"},
        {**message("x", 1), "event": "e"},
    ]


def test_a_channel_that_is_named_again_and_again() -> None:
    """
    One frame is one message for each channel: nobody multiplies it.
    """
    place = Sockets("^/room$ websocket:subscribe=room,publish=room,protocol=json")
    peer = place.open("/room")
    peer.heard()
    names = ["room"] * 500

    assert peer.command(type="publish", id=1, channel=names, message="x") == [
        {"type": "ack", "id": 1, "position": "e.1"},
        message("x", 1, "room"),
    ]


def test_unsubscribing_from_what_is_not_heard() -> None:
    """
    Changes nothing, and takes no time for each name.
    """
    place = Sockets(websockets=WebSocketLimits())
    peer = place.open("/ws?channels=news,sport")
    peer.heard()
    asked: list[Sequence[str]] = []
    remove = place.hub.remove_channels

    def noted(subscriber: Subscriber, names: Sequence[str]) -> None:
        asked.append(names)
        remove(subscriber, names)

    place.hub.remove_channels = noted  # type: ignore[method-assign]  # it is looked at
    others = [f"c{number}" for number in range(5000)]
    assert peer.command(type="unsubscribe", id=1, channels=[*others, "sport"] * 2) == [
        {"type": "ack", "id": 1}
    ]
    assert asked == [["sport"]]
    place.publish("x", channel="sport")
    place.publish("y")
    assert peer.heard() == [message("y", 2)]


def test_a_key_of_idempotency() -> None:
    """
    Published once, and told the same position again.
    """
    peer = Sockets().open()
    peer.heard()
    fields = {"type": "publish", "id": 1, "channel": "a", "message": "x", "idempotency_key": "k"}

    assert peer.command(**fields) == peer.command(**fields)


def test_a_route_may_fix_the_channels() -> None:
    """
    In JSON too: they are heard and published to without a key, and no others.
    """
    place = Sockets(
        "^/room/(.+)$ websocket:subscribe=room-$1,publish=room-$1,protocol=json",
        publish_keys=SECRETS,
    )
    peer = place.open("/room/7")
    peer.heard()
    assert peer.command(type="publish", id=1, message="x") == [
        {"type": "ack", "id": 1, "position": "e.1"},
        message("x", 1, "room-7"),
    ]
    assert peer.command(type="subscribe", channels="room-8")[0]["status"] == 403
    assert peer.command(type="unsubscribe", channels="room-7")[0]["status"] == 403
    assert peer.command(type="publish", channel="room-8", message="x")[0]["status"] == 403


@given(st.lists(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), max_size=5))
def test_any_words_get_an_answer(words: list[bytes]) -> None:
    """
    Whatever clients say to the JSON protocol: an answer, or a close, never a traceback.
    """
    place = Sockets()
    peer = place.open()
    peer.heard()
    for word in words:
        peer.say(masked(1, word))

    said = peer.heard()
    assert all(isinstance(each, Close) or each["type"] in ("error", "pong") for each in said)
    peer.hang_up()


# Compression.


def test_a_broadcast_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    For all who can, and not at all for the others; short messages for nobody.
    """
    place = Sockets("^/listen$ websocket:news")
    able = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    subscribers = [place.open("/listen", able) for _ in range(5)]
    plain = place.open("/listen")
    made: list[object] = []
    compress: Callable[..., Any] = zlib.compressobj

    def count(**how: Any) -> Any:
        made.append(1)
        return compress(**how)

    monkeypatch.setattr(zlib, "compressobj", count)
    place.publish("short")
    assert made == []
    place.publish("x" * 600)

    assert made == [1]
    assert plain.heard() == ["short", "x" * 600]
    sent = {subscriber.caller.written().partition(b"\r\n\r\n")[2] for subscriber in subscribers}
    assert len(sent) == 1
    assert len(sent.pop()) < 100


def test_an_ack_may_overtake_messages() -> None:
    """
    So it is not where to resume from: who follows messages and positions misses nothing.
    """
    place = Sockets()
    peer = place.open("/ws?channels=news")
    assert peer.heard() == [position(0)]
    place.hub.publish([Draft("news", b"first")])
    peer.caller.say(masked(1, b'{"type":"publish","id":1,"channel":"sport","message":"x"}'))
    assert peer.heard() == [{"type": "ack", "id": 1, "position": "e.2"}]
    peer.hang_up()
    place.turn()

    back = place.open("/ws?channels=news&since=e.0")
    assert back.heard() == [message("first", 1), position(2)]


# The route word.


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("websocket:subscribe=a b", "a channel cannot be called"),
        ("websocket:publish=a b", "a channel cannot be called"),
        ("websocket:history=-1", "history= cannot be negative"),
        ("websocket:protocol=raw", "protocol=raw needs subscribe=, publish= or app="),
        ("websocket:binary=yes", "are for protocol=raw"),
        ("websocket:subscribe=a,protocol=json,prefix=x", "are for protocol=raw"),
        ("websocket:subscribe=a,protocol=xml", "protocol= must be one of raw, json"),
        ("websocket:room=a", "has no argument 'room'"),
        ("websocket:subscribe=a,subprotocol=key.v1", "subprotocol= cannot begin with key."),
        ("websocket:app=tests.nowhere.Echo", "cannot load tests.nowhere.Echo"),
        ("websocket:app=tests.unit.actions.test_websocket.LIMITS", "cannot be called"),
        ("websocket:app=examples.echo.Echo,publish=a", "with app= the application reads"),
    ],
)
def test_wrong_arguments(line: str, complaint: str) -> None:
    """
    One sentence, at the start.
    """
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_route(f"^/x$ {line}", Sockets().context)


def test_it_is_an_action() -> None:
    """
    As any other.
    """
    place = Sockets()

    assert verifyObject(IAction, WebSocketAction(place.context))
    assert verifyObject(IWebSocketApp, Notes())


@implementer(ILimited)
class Narrow(Moody):
    """
    A broker whose channel names are short, and that refuses messages for good.
    """

    def check_channel(self, channel: str) -> None:
        if len(channel) > 8:
            raise HttpError(400, "too long for the broker")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/ws", 413, {"type": "error", "id": 1, "status": 413, "reason": "never"}),
        ("/chat", 413, Close(1009, "never")),
        ("/chat", 400, Close(1008, "never")),
    ],
)
def test_a_message_that_the_broker_can_never_take(path: str, status: int, said: Any) -> None:
    """
    Whoever publishes it learns that another try is of no use.
    """
    broker = Narrow(Clock())
    peer = Sockets(broker=broker).open(path)
    peer.heard()
    peer.text('{"type":"publish","id":1,"channel":"a","message":"x"}')
    broker.asked.pop()[1].errback(Failure(HttpError(status, "never")))

    assert peer.heard() == [said]


def test_a_name_that_the_broker_cannot_carry_is_400_for_everybody() -> None:
    """
    Subscribers and publishers are refused at once, by the daemon's own broker and
    by that of a route with `server=`.
    """
    clock = Clock()
    far = Hub(Narrow(clock), clock)
    names = ChannelNames(check_broker=far.check_channel)
    place = Sockets(broker=Narrow(clock), hubs=lambda _: far, names=names)
    elsewhere = place.context.at("elsewhere")

    for context in (place.context, elsewhere):
        context.names.check("short")
        with pytest.raises(HttpError, match="too long for the broker") as caught:
            context.names.check_all(["short", "longer-than-that"])
        assert caught.value.status == 400
    peer = place.open()
    for kind in ("subscribe", "publish"):
        peer.text(f'{{"type":"{kind}","channels":["short","longer-than-that"],"message":""}}')
        assert peer.heard()[-1]["status"] == 400
