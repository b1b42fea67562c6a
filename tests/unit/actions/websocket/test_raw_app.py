"""
The raw application: one frame is one message.
"""

from __future__ import annotations

from websockets.frames import Close

from tests.unit.actions.websocket.daemon import (
    WebSocketDaemon,
)
from tests.unit.codecs.websocket_frames import masked


def test_chat_with_prefix_and_suffix() -> None:
    """
    Messages are published with prefix and suffix; text of the request cannot become an
    argument.
    """
    daemon = WebSocketDaemon()
    ann = daemon.open("/chat?name=Ann,publish=x")
    bob = daemon.open("/chat?name=Bob")
    ann.text("hi")
    bob.send(masked(2, b"\xff"))

    assert bob.received() == ann.received() == ["Ann,publish=x:hi!", b"Bob:\xff!"]


def test_arguments_of_raw_routes() -> None:
    """
    Subscribing alone, publishing alone, binary frames, history, subprotocols.
    """
    daemon = WebSocketDaemon(
        "^/listen$ websocket:news",
        "^/binary$ websocket:subscribe=news,binary=yes,history=1,subprotocol=v1,subprotocol=v2",
        "^/talk$ websocket:publish=news",
    )
    daemon.publish("old", "new")
    listener = daemon.open("/listen")
    binary = daemon.open("/binary", "Sec-WebSocket-Protocol: v3, v2\r\n")
    daemon.open("/talk").text("said")

    assert "Sec-WebSocket-Protocol: v2" in binary.head
    assert listener.received() == ["said"]
    assert binary.received() == [b"new", b"said"]
    listener.text("me too")
    assert listener.received() == [Close(1003, "nothing can be published here")]


def test_too_large_message_closes_with_1009() -> None:
    """
    The limit applies to the message with its prefix and suffix.
    """
    daemon = WebSocketDaemon(max_message=100)
    peer = daemon.open("/chat")
    peer.text("x" * 100)

    assert peer.received() == [Close(1009, "the message is larger than 100 bytes")]
