"""
The clients of all transports parse what the daemon's formats encode.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from websockets.http11 import Request
from websockets.server import ServerProtocol

from rt_twisted.codecs.engineio import EngineIOPacketType as EngineKind
from rt_twisted.codecs.engineio import encode_text, open_payload
from rt_twisted.codecs.engineio_framing import Poll4, Socket4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import SocketIOPacket, SocketIOPacketType
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.poll import JsonPoll
from rt_twisted.formats.raw import Raw
from rt_twisted.formats.socketio import SocketIOEvents, encode_packet
from rt_twisted.formats.sse import EventStream
from rt_twisted.formats.websocket import JsonFrames
from rt_twisted.model.message import Message, Position, Replay
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest, IClient
from rt_twisted.tools.clients.poll import PollClient
from rt_twisted.tools.clients.registry import CLIENT_TYPES, parse_transport
from rt_twisted.tools.clients.socketio import (
    make_polling_client,
    make_recovering_client,
    make_websocket_client,
)
from rt_twisted.tools.clients.sse import SseClient
from rt_twisted.tools.clients.stream import StreamClient
from rt_twisted.tools.clients.websocket import WebSocketClient
from rt_twisted.tools.errors import SetupError
from tests.fakes import started

URL = "http://127.0.0.1:8888/there"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n"


def at(offset: int) -> Position:
    return Position("e", offset)


def message(offset: int) -> Message:
    return Message("a", f"text {offset}".encode(), at(offset))


MISSED = Replay((message(3), message(4)), False, at(5))
EXPECTED = [
    ClientEvent("", "e.5", True),
    ClientEvent("text 3", "e.3"),
    ClientEvent("text 4", "e.4"),
    ClientEvent("text 6", "e.6"),
]


def feed(client: IClient, data: bytes, piece: int) -> list[ClientEvent]:
    """
    WriteMode *data* in pieces of *piece* bytes, and return the events.
    """
    return [
        event for start in range(0, len(data), piece) for event in client.feed(data[start:][:piece])
    ]


def accept_websocket(client: IClient) -> tuple[Any, Request]:
    """
    Accept the client's websocket, and return the server side and the request.
    """
    server = ServerProtocol()
    server.receive_data(client.begin())
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    assert client.feed(b"".join(server.data_to_send())) == []
    return server, request


def sent_messages(server: Any, client: IClient) -> list[str]:
    """
    Return the messages that the client has sent to the server.
    """
    server.receive_data(client.data_to_send())
    return [event.data.decode() for event in server.events_received()]


pieces = pytest.mark.parametrize("piece", [1, 7, 100_000])


@pieces
def test_event_streams_are_parsed(piece: int) -> None:
    """
    The client returns messages with their positions, and gaps, which do not change its position.
    """
    client = SseClient(ClientRequest(URL, ["a", "b,c"]), "e.2")
    request_text = client.begin().decode()
    assert request_text.startswith(
        "GET /there?channels=a,b%2Cc HTTP/1.1\r\nHost: 127.0.0.1:8888\r\n"
    )
    assert "\r\nLast-Event-ID: e.2\r\n" in request_text
    format = Chunked(EventStream(1500))
    data = HEAD % b"text/event-stream; charset=utf-8" + started(format, MISSED)
    assert feed(client, data + format.encode(message(6)), piece) == EXPECTED

    assert (client.position, client.retry, client.opened, client.close_reason) == (
        "e.6",
        1.5,
        True,
        "",
    )
    client.feed(b"0\r\n\r\n")
    assert client.close_reason == "ended by the server"


@pieces
@pytest.mark.parametrize("number", [0, 1])
def test_polls_are_parsed_and_repeated(piece: int, number: int) -> None:
    """
    Each poll resumes after the last response, by query or header; an empty response has no
    event.
    """
    client = PollClient(ClientRequest(URL, ["a"], number), "e.2")
    format = JsonPoll()
    body = format.build_body(started(format, MISSED) + format.encode(message(6)), 10_000).body
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    resume_header = ("since=e.2 ", 'If-None-Match: "e.2"\r\n')[number]
    assert resume_header in client.begin().decode()
    # The gap reports losses up to the end of the response.
    assert feed(client, answer, piece) == [ClientEvent("", "e.6", True), *EXPECTED[1:]]
    assert (client.position, client.opened, client.close_reason) == ("e.6", True, "")
    assert ("since=e.6 ", 'If-None-Match: "e.6"\r\n')[number] in client.data_to_send().decode()
    assert client.data_to_send() == b""
    assert feed(client, b"HTTP/1.1 304 Not Modified\r\n\r\n", piece) == []
    assert client.data_to_send() != b""

    assert (
        feed(client, b"HTTP/1.1 503 No\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", piece) == []
    )
    assert (client.close_reason, client.retry) == ("status 503", 7.0)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"{", b'{"messages": [1], "position": "e.1"}'])
def test_malformed_poll_responses_are_errors(body: bytes) -> None:
    """
    Any malformed response raises RemoteProtocolError.
    """
    client = PollClient(ClientRequest(URL, ["a"]), "")
    client.begin()
    with pytest.raises(RemoteProtocolError):
        client.feed(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


@pieces
@pytest.mark.parametrize("number", range(4))
def test_websockets_are_parsed(piece: int, number: int) -> None:
    """
    The client subscribes by URL or by command, compressed or not, and parses the frames.
    """
    client = WebSocketClient(ClientRequest(URL, ["a", "b"], number), "e.2")
    server, request = accept_websocket(client)
    assert ("Sec-WebSocket-Extensions" in request.headers) is (number > 1)
    format = JsonFrames()
    if number % 2:
        assert request.path == "/there"
        expected = {"type": "subscribe", "id": 1, "channels": ["a", "b"], "since": "e.2"}
        assert list(map(json.loads, sent_messages(server, client))) == [expected]
        # Not subscribed yet: the position does not refer to its channels.
        assert feed(client, format.cursor(at(9)), piece) == []
        assert (client.opened, client.position) == (False, "e.2")
        client.feed(format.encode_object({"type": "ack", "id": 1}))
    else:
        assert request.path == "/there?channels=a,b&since=e.2"
    assert feed(client, started(format, MISSED) + format.encode(message(6)), piece) == EXPECTED
    assert (client.position, client.opened, client.close_reason) == ("e.6", True, "")

    assert feed(client, format.end(2500), piece) == []
    assert (client.close_reason, client.retry) == ("closed with 1001", 2.5)


@pieces
def test_socket_io_is_parsed(piece: int) -> None:
    """
    The client subscribes by an event, answers pings, and tracks its position.
    """
    client = make_websocket_client(ClientRequest(URL, ["a", "b"]), "e.2")
    server, request = accept_websocket(client)
    assert request.path == "/there?EIO=4&transport=websocket"
    framing = Socket4()
    format = SocketIOEvents(framing)
    client.feed(framing.text(encode_text(EngineKind.OPEN, open_payload("s", [], 25, 20, 1000))))
    assert sent_messages(server, client) == ["40"]
    client.feed(
        encode_packet(SocketIOPacket(SocketIOPacketType.CONNECT, data={"sid": "c"}), framing)
    )
    assert sent_messages(server, client) == ['420["subscribe",["a","b"],{"since":"e.2"}]']
    client.feed(framing.text(b"2"))
    assert sent_messages(server, client) == ["3"]
    # Not subscribed yet.
    assert feed(client, format.cursor(at(9)), piece) == []
    assert (client.opened, client.position) == (False, "e.2")
    subscribed = encode_packet(
        SocketIOPacket(SocketIOPacketType.ACK, data=[{"status": "ok"}], id=0), framing
    )
    data = started(format, MISSED) + subscribed + format.encode(message(6))
    assert feed(client, data, piece) == EXPECTED
    assert (client.position, client.opened, client.close_reason) == ("e.6", True, "")
    feed(client, format.cursor(at(8)), piece)
    assert client.position == "e.8"

    assert feed(client, format.end(0), piece) == []
    assert client.close_reason == "closed with 1001"


def test_a_resume_without_missed_messages_ends_with_the_acknowledgement() -> None:
    """
    Positions before the acknowledgement do not refer to the client's channels.
    """
    client = make_websocket_client(ClientRequest(URL, ["a"]), "e.2")
    accept_websocket(client)
    framing = Socket4()
    client.feed(started(SocketIOEvents(framing), Replay((), True, at(2))))
    assert not client.opened
    client.feed(
        encode_packet(
            SocketIOPacket(SocketIOPacketType.ACK, data=[{"status": "ok"}], id=0), framing
        )
    )

    assert (client.opened, client.position) == (True, "e.2")


def test_a_refused_subscription_closes() -> None:
    """
    A client whose subscription is refused has a reason to close.
    """
    client = make_websocket_client(ClientRequest(URL, ["a"]), "")
    accept_websocket(client)
    refused = SocketIOPacket(
        SocketIOPacketType.ACK, data=[{"status": "error", "error": "no"}], id=0
    )
    client.feed(encode_packet(refused, Socket4()))
    assert client.close_reason == "subscription refused"

    socket = WebSocketClient(ClientRequest(URL, ["a"]), "")
    accept_websocket(socket)
    socket.feed(
        JsonFrames().encode_object({"type": "error", "id": 1, "status": 403, "reason": "no"})
    )
    assert socket.close_reason == "error 403"


OWN = "load-77-0123abcd-0-{}-"


@pieces
def test_plain_streams_are_split_into_own_messages(piece: int) -> None:
    """
    Text of other publishers in between is no event.
    """
    client = StreamClient(ClientRequest(URL, ["a"], size=40), "")
    assert b"GET /there?channels=a HTTP/1.1\r\n" in client.begin()
    texts = [OWN.format(number).ljust(40, "x") for number in range(12)]
    format = Chunked(Raw("text/plain", b"", b""))
    data = HEAD % b"text/plain"
    for text in texts:
        for each in ("x" * 5, text, "load-", "another's " * 20):
            data += format.encode(Message("a", each.encode(), at(1)))
    assert feed(client, data, piece) == [ClientEvent(text) for text in texts]

    assert (client.opened, client.position) == (True, "")


@pytest.mark.parametrize("make", [choice.make for choice in CLIENT_TYPES.values()])
def test_an_error_status_closes(make: Callable[[ClientRequest, str], IClient]) -> None:
    """
    Every client reports an error status as its reason to close.
    """
    client = make(ClientRequest(URL, ["a"]), "")
    client.begin()
    client.feed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n")

    assert (client.close_reason, client.opened) == ("status 404", False)


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pieces
def test_socket_io_by_polling_is_parsed(piece: int) -> None:
    """
    The client polls and posts in turn on one connection.
    """
    client = make_polling_client(ClientRequest(URL, ["a", "b"]), "e.2")
    assert client.begin().startswith(b"GET /there?EIO=4&transport=polling HTTP/1.1\r\n")
    framing = Poll4()
    format = SocketIOEvents(framing)
    opening = framing.text(encode_text(EngineKind.OPEN, open_payload("s/1", [], 25, 20, 1000)))
    feed(client, answer(framing.body(opening)), piece)
    assert posted_body(client) == "40"
    assert feed(client, answer(b"ok"), piece) == []
    assert client.data_to_send().startswith(
        b"GET /there?EIO=4&transport=polling&sid=s/1 HTTP/1.1\r\n"
    )
    welcome = encode_packet(SocketIOPacket(SocketIOPacketType.CONNECT, data={"sid": "c"}), framing)
    feed(client, answer(framing.body(welcome + framing.text(b"2"))), piece)
    assert posted_body(client) == '420["subscribe",["a","b"],{"since":"e.2"}]\x1e3'
    feed(client, answer(b"ok"), piece)
    client.data_to_send()
    subscribed = encode_packet(
        SocketIOPacket(SocketIOPacketType.ACK, data=[{"status": "ok"}], id=0), framing
    )
    frames = started(format, MISSED) + subscribed + format.encode(message(6))
    assert feed(client, answer(framing.body(frames)), piece) == EXPECTED
    assert (client.position, client.opened, client.close_reason) == ("e.6", True, "")
    assert client.data_to_send().startswith(b"GET ")

    feed(client, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", piece)
    assert client.close_reason == "status 400"


def test_socket_io_sessions_are_recovered() -> None:
    """
    The client sends key and offset if it has them. It subscribes in a new session, and in one
    whose subscription was never confirmed.
    """
    framing = Socket4()
    client_request = ClientRequest(URL, ["a"])
    opening = framing.text(encode_text(EngineKind.OPEN, open_payload("s", [], 25, 20, 1000)))
    subscribed = encode_packet(
        SocketIOPacket(SocketIOPacketType.ACK, data=[{"status": "ok"}], id=0), framing
    )
    subscribe = '420["subscribe",["a"],{}]'
    since = '420["subscribe",["a"],{"since":"e.6"}]'
    for position, claim, key, expected, acknowledgement in (
        ("", "40", "one", [subscribe], b""),
        ("", '40{"pid":"one"}', "two", [subscribe], subscribed),
        ("e.6", '40{"pid":"two","offset":"e.6"}', "two", [], b""),
        ("e.6", '40{"pid":"two","offset":"e.6"}', "three", [since], b""),
        ("e.6", '40{"pid":"three","offset":"e.6"}', "three", [since], subscribed),
        ("e.6", '40{"pid":"three","offset":"e.6"}', "three", [], b""),
    ):
        client = make_recovering_client(client_request, position)
        server, _ = accept_websocket(client)
        client.feed(opening)
        assert sent_messages(server, client) == [claim]
        client.feed(
            encode_packet(
                SocketIOPacket(SocketIOPacketType.CONNECT, data={"sid": "c", "pid": key}), framing
            )
        )
        assert sent_messages(server, client) == expected
        assert client.opened is not bool(expected)
        client.feed(acknowledgement)
    assert client_request.session.recovered == 3

    client = make_recovering_client(client_request, "")
    accept_websocket(client)
    client.feed(opening)
    with pytest.raises(RemoteProtocolError):
        client.feed(
            encode_packet(SocketIOPacket(SocketIOPacketType.CONNECT, data={"sid": "c"}), framing)
        )

    polling = make_recovering_client(
        ClientRequest(URL, ["a"], 1, session=client_request.session), "e.6"
    )
    polling.begin()
    opening = Poll4().text(encode_text(EngineKind.OPEN, open_payload("s/1", [], 25, 20, 1000)))
    polling.feed(answer(Poll4().body(opening)))
    assert posted_body(polling) == '40{"pid":"three","offset":"e.6"}'


def posted_body(client: IClient) -> str:
    """
    Return the body of the POST request that the client sends.
    """
    head, _, body = client.data_to_send().decode().partition("\r\n\r\n")
    assert head.startswith("POST /there?EIO=4&transport=polling&sid=s/1 HTTP/1.1\r\n")
    assert f"Content-Length: {len(body)}" in head
    return body


def test_urls_of_the_transports() -> None:
    """
    URLs are the daemon's defaults or the given paths, without `channels`.
    """
    base = "https://h:1/deep/?channels=a,b&key=k"
    sse, socket = CLIENT_TYPES["sse"], CLIENT_TYPES["websocket"]
    assert sse.url(base) == "https://h:1/deep/?key=k"
    assert socket.url(base) == "https://h:1/deep/ws?key=k"
    assert socket.url(base, "/chat?x=1") == "https://h:1/chat?x=1"
    assert parse_transport("websocket=/chat") == (socket, "/chat")
    assert parse_transport("sse") == (sse, "")
    with pytest.raises(
        SetupError, match="none of sse, websocket, poll, stream, socketio, socketio-polling"
    ):
        parse_transport("smoke")
