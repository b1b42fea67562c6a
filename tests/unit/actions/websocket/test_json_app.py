"""
The JSON application: clients send commands (docs/websocket.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close

from rt_twisted.codecs.wildcards import Selector
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.message import Draft
from tests.defaults import make_websocket_limits
from tests.unit.actions.websocket.daemon import (
    SECRETS,
    Peer,
    WebSocketDaemon,
    message,
    position,
)
from tests.unit.codecs.websocket_frames import masked


def test_subscribe_and_unsubscribe() -> None:
    """
    Channels come from the URL or from commands; each message names its channel.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/ws?channels=news,sport")
    assert peer.received() == [position(0)]
    assert peer.command(type="subscribe", id=1, channels=["sport", "art"]) == [
        {"type": "ack", "id": 1},
        position(0),
    ]
    for channel in ("news", "sport", "art", "other"):
        daemon.publish("x", channel=channel)
    assert peer.received() == [
        message("x", 1),
        message("x", 2, "sport"),
        message("x", 3, "art"),
    ]
    assert peer.command(type="unsubscribe", id="b", channels=["news", "none"]) == [
        {"type": "ack", "id": "b"}
    ]
    daemon.publish("y")
    assert peer.received() == []
    assert peer.command(type="subscribe", channels="news", since="e.3") == [
        message("y", 5),
        position(5),
    ]


def test_resume_from_a_position() -> None:
    """
    A client resumes by URL or command; forgotten messages are reported as a gap.
    """
    daemon = WebSocketDaemon()
    daemon.publish("1", "2", "3")

    assert daemon.open("/ws?channels=news&since=e.1").received() == [
        message("2", 2),
        message("3", 3),
        position(3),
    ]
    peer = daemon.open("/ws")
    peer.received()
    assert peer.command(type="subscribe", channels="news", since="other.1")[0] == {
        "type": "gap",
        "position": "e.3",
    }
    peer.command(type="unsubscribe", channels="news")
    assert peer.command(type="subscribe", channels="news", history=1) == [
        message("3", 3),
        position(3),
    ]


def test_heartbeat_moves_the_position() -> None:
    """
    The position of a subscriber without messages moves with each heartbeat.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/ws?channels=quiet")
    peer.received()
    daemon.publish("x")
    daemon.clock.pump([1.0] * 30)

    assert peer.received() == [position(1), ("PING", b"")]


def test_invalid_commands_get_errors() -> None:
    """
    Errors name status and id, and the websocket stays open.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/ws?channels=news")
    peer.received()

    def status(**fields: Any) -> Any:
        ((received),) = peer.command(**fields)
        assert received["type"] == "error"
        return received["status"], received.get("id")

    assert status(type="dance", id=3) == (400, 3)
    assert status(type="subscribe", id=3, channels=["a b"]) == (400, 3)
    assert status(type="subscribe", channels=[f"c{n}" for n in range(100)]) == (400, None)
    assert status(type="subscribe", id=4, channels="a", since="yesterday") == (400, 4)
    assert status(type="publish", id=5, channel="a") == (400, 5)
    assert status(type="publish", id=5, message="a") == (400, 5)
    assert status(type="publish", id=5, channel="a b", message="a") == (400, 5)
    peer.send(masked(2, b"{}"))
    assert peer.received() == [{"type": "error", "status": 400, "reason": "commands are text"}]
    assert peer.command(type="ping") == [{"type": "pong"}]


def test_publish_needs_a_key_for_the_channel() -> None:
    """
    The key comes from a header, the query, a command or the message.
    """
    daemon = WebSocketDaemon(publish_keys=SECRETS)

    def status(peer: Peer, channel: str = "news", **more: Any) -> Any:
        received = peer.command(type="publish", id=1, channel=channel, message="x", **more)
        return received[-1].get("status", received[-1]["type"])

    bare = daemon.open()
    bare.received()
    assert status(bare) == 403
    assert status(bare, key="wrong") == 401
    assert status(bare, key="s3cret") == "ack"
    assert status(bare) == 403
    assert bare.command(type="key", id=2, key="wrong")[0]["status"] == 401
    assert bare.command(type="key", id=2, key="art") == [{"type": "ack", "id": 2}]
    assert (status(bare), status(bare, "art-1")) == (403, "ack")
    for peer in (
        daemon.open("/ws?key=s3cret"),
        daemon.open(headers="Authorization: Bearer s3cret\r\n"),
        daemon.open(headers="X-Publish-Key: s3cret\r\n"),
        daemon.open(headers="Sec-WebSocket-Protocol: realtime, key.czNjcmV0\r\n"),
    ):
        peer.received()
        assert status(peer) == "ack"


def test_without_keys_only_local_clients_publish() -> None:
    """
    Without publish keys remote clients may only subscribe.
    """
    daemon = WebSocketDaemon()
    near, far = daemon.open("/ws?channels=news"), daemon.open(address="192.0.2.1")
    far.received()
    near.received()

    (refused,) = far.command(type="publish", channel="news", message="x")
    assert refused["status"] == 403
    assert near.command(type="publish", id=1, channel="news", message="x", event="e") == [
        {"type": "ack", "id": 1, "position": "e.1"},
        {**message("x", 1), "event": "e"},
    ]


def test_repeated_channel_is_published_once() -> None:
    """
    One frame is one message for each channel, however often it is named.
    """
    daemon = WebSocketDaemon("^/room$ websocket:subscribe=room,publish=room,protocol=json")
    peer = daemon.open("/room")
    peer.received()
    names = ["room"] * 500

    assert peer.command(type="publish", id=1, channel=names, message="x") == [
        {"type": "ack", "id": 1, "position": "e.1"},
        message("x", 1, "room"),
    ]


def test_unsubscribe_ignores_other_channels() -> None:
    """
    Names that are not subscribed change nothing and cost no call of the hub.
    """
    daemon = WebSocketDaemon(websockets=make_websocket_limits())
    peer = daemon.open("/ws?channels=news,sport")
    peer.received()
    subscribed: list[Sequence[Selector]] = []
    remove = daemon.hub.remove_channels

    def noted(subscriber: Subscriber, names: Sequence[Selector]) -> None:
        subscribed.append(names)
        remove(subscriber, names)

    daemon.hub.remove_channels = noted  # type: ignore[method-assign]  # recorded by this test
    others = [f"c{number}" for number in range(5000)]
    assert peer.command(type="unsubscribe", id=1, channels=[*others, "sport"] * 2) == [
        {"type": "ack", "id": 1}
    ]
    assert subscribed == [["sport"]]
    daemon.publish("x", channel="sport")
    daemon.publish("y")
    assert peer.received() == [message("y", 2)]


def test_idempotency_key() -> None:
    """
    A repeated publish returns the same position.
    """
    peer = WebSocketDaemon().open()
    peer.received()
    fields = {"type": "publish", "id": 1, "channel": "a", "message": "x", "idempotency_key": "k"}

    assert peer.command(**fields) == peer.command(**fields)


def test_route_with_fixed_channels() -> None:
    """
    Clients publish to the route's channels without a key, and cannot change them.
    """
    daemon = WebSocketDaemon(
        "^/room/(.+)$ websocket:subscribe=room-$1,publish=room-$1,protocol=json",
        publish_keys=SECRETS,
    )
    peer = daemon.open("/room/7")
    peer.received()
    assert peer.command(type="publish", id=1, message="x") == [
        {"type": "ack", "id": 1, "position": "e.1"},
        message("x", 1, "room-7"),
    ]
    assert peer.command(type="subscribe", channels="room-8")[0]["status"] == 403
    assert peer.command(type="unsubscribe", channels="room-7")[0]["status"] == 403
    assert peer.command(type="publish", channel="room-8", message="x")[0]["status"] == 403


@given(st.lists(st.binary(max_size=40) | st.text(max_size=40).map(str.encode), max_size=5))
def test_any_input_gets_a_response(words: list[bytes]) -> None:
    """
    Any input is answered by an error, a pong or a close, and raises nothing.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open()
    peer.received()
    for word in words:
        peer.send(masked(1, word))

    received = peer.received()
    assert all(isinstance(each, Close) or each["type"] in ("error", "pong") for each in received)
    peer.disconnect()


def test_ack_may_overtake_messages() -> None:
    """
    The position of an ack is not one to resume from: messages before it may follow.
    """
    daemon = WebSocketDaemon()
    peer = daemon.open("/ws?channels=news")
    assert peer.received() == [position(0)]
    daemon.hub.publish([Draft("news", b"first")])
    peer.caller.send(masked(1, b'{"type":"publish","id":1,"channel":"sport","message":"x"}'))
    assert peer.received() == [{"type": "ack", "id": 1, "position": "e.2"}]
    peer.disconnect()
    daemon.turn()

    back = daemon.open("/ws?channels=news&since=e.0")
    assert back.received() == [message("first", 1), position(2)]
