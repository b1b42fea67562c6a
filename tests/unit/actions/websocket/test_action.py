"""
The route word `websocket`: arguments, compression, brokers that refuse.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from websockets.frames import Close
from zope.interface.verify import verifyObject

from rt_twisted.actions.interfaces import IAction, IWebSocketApp
from rt_twisted.actions.websocket.action import WebSocketAction
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.routes import parse_route
from tests.defaults import make_channel_names, make_hub
from tests.unit.actions.websocket.daemon import (
    DeferringBroker,
    LimitedBroker,
    RecordingApp,
    WebSocketDaemon,
)


@pytest.mark.parametrize(("path", "close"), [("/chat", True), ("/ws", False)])
def test_unavailable_broker_is_reported(path: str, close: bool) -> None:
    """
    The publisher receives an error, or 1013 on a raw route.
    """
    broker = DeferringBroker(Clock())
    daemon = WebSocketDaemon(broker=broker)
    peer = daemon.open(path)
    peer.received()
    peer.text('{"type":"publish","id":1,"channel":"a","message":"x"}')
    broker.drafts_waiting.pop()[1].errback(Failure(Unavailable("away")))

    received = peer.received()
    if close:
        assert received == [Close(1013, "away")]
    else:
        assert received == [{"type": "error", "id": 1, "status": 503, "reason": "away"}]


def test_broadcast_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    All subscribers with compression share one frame; short messages are not compressed.
    """
    daemon = WebSocketDaemon("^/listen$ websocket:news")
    able = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    subscribers = [daemon.open("/listen", able) for _ in range(5)]
    plain = daemon.open("/listen")
    made: list[object] = []
    compress: Callable[..., Any] = zlib.compressobj

    def count(**how: Any) -> Any:
        made.append(1)
        return compress(**how)

    monkeypatch.setattr(zlib, "compressobj", count)
    daemon.publish("short")
    assert made == []
    daemon.publish("x" * 600)

    assert made == [1]
    assert plain.received() == ["short", "x" * 600]
    sent = {subscriber.caller.written().partition(b"\r\n\r\n")[2] for subscriber in subscribers}
    assert len(sent) == 1
    assert len(sent.pop()) < 100


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
        ("websocket:app=tests.unit.actions.websocket.daemon.LIMITS", "cannot be called"),
        ("websocket:app=examples.echo.Echo,publish=a", "with app= the application reads"),
    ],
)
def test_invalid_arguments_are_refused_at_start(line: str, complaint: str) -> None:
    """
    Invalid arguments raise a ValueError of one sentence.
    """
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse_route(f"^/x$ {line}", WebSocketDaemon().context)


def test_interfaces_are_provided() -> None:
    """
    WebSocketAction provides IAction, and the recording application IWebSocketApp.
    """
    daemon = WebSocketDaemon()

    assert verifyObject(IAction, WebSocketAction(daemon.context))
    assert verifyObject(IWebSocketApp, RecordingApp())


@pytest.mark.parametrize(
    ("path", "status", "response"),
    [
        ("/ws", 413, {"type": "error", "id": 1, "status": 413, "reason": "never"}),
        ("/chat", 413, Close(1009, "never")),
        ("/chat", 400, Close(1008, "never")),
    ],
)
def test_message_that_the_broker_refuses_for_good(path: str, status: int, response: Any) -> None:
    """
    The publisher receives the status, or the matching close code on a raw route.
    """
    broker = LimitedBroker(Clock())
    peer = WebSocketDaemon(broker=broker).open(path)
    peer.received()
    peer.text('{"type":"publish","id":1,"channel":"a","message":"x"}')
    broker.drafts_waiting.pop()[1].errback(Failure(HttpError(status, "never")))

    assert peer.received() == [response]


def test_channel_name_that_the_broker_refuses_is_400() -> None:
    """
    Subscribers and publishers are refused, by the daemon's broker and by that of `server=`.
    """
    clock = Clock()
    far = make_hub(LimitedBroker(clock), clock)
    names = make_channel_names(check_broker=far.capabilities.check_channel)
    daemon = WebSocketDaemon(broker=LimitedBroker(clock), hubs=lambda *_: far, names=names)
    elsewhere = daemon.context.for_server("elsewhere")

    for context in (daemon.context, elsewhere):
        context.names.check("short")
        with pytest.raises(HttpError, match="too long for the broker") as caught:
            context.names.check_all(["short", "longer-than-that"])
        assert caught.value.status == 400
    peer = daemon.open()
    for kind in ("subscribe", "publish"):
        peer.text(f'{{"type":"{kind}","channels":["short","longer-than-that"],"message":""}}')
        assert peer.received()[-1]["status"] == 400
