"""
Tests of sockets: what is sent and joined before and after they are accepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock

from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.actions.socketio.stream import NamespaceStream
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.engineio_framing import Framing, Poll4
from rt_twisted.codecs.socketio import SocketIOPacket, SocketIOPacketType
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Newest, Replay, Since
from tests.defaults import make_context, make_hub
from tests.unit.hub.test_catchup import ManualHistoryBroker, old

ANSWER = SocketIOPacket(SocketIOPacketType.CONNECT, "/", {"sid": "me"})


class RecordingStream:
    """
    A stream that records, in order, what is written and subscribed.
    """

    framing: Framing = Poll4()
    complete = True

    def __init__(self) -> None:
        self.done: list[Any] = []

    @property
    def channels(self) -> Any:
        return self

    def write(self, frames: bytes) -> None:
        if frames:
            self.done.append(frames)

    def join(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        self.done.append((list(names), since, head))

    def leave(self, names: Sequence[str]) -> None:
        self.done.append(list(names))


class Owner:
    """
    A connection without other sockets.
    """

    def events_format(self, framing: Framing, namespace: str) -> SocketIOEvents:
        return SocketIOEvents(framing, namespace)

    def disconnect_socket(self, socket: Socket) -> None:
        raise NotImplementedError


def connecting() -> tuple[RecordingStream, Socket]:
    """
    Return a socket that waits for the application, and its stream.
    """
    stream = RecordingStream()
    clock = Clock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    handshake: Any = None
    return stream, Socket(make_context(hub), Owner(), stream, "me", "/", handshake)


def test_output_before_the_connect_packet_comes_after_it() -> None:
    """
    The packet is written with the replay of the first channels, which saves a write per
    client.
    """
    stream, socket = connecting()
    socket.emit("hello")
    socket.join(["a", "b", "a"], Newest(3))
    socket.join(["b", "c"], None)
    socket.leave(["a"])
    assert stream.done == []
    assert socket.channels == ("b", "c")

    socket.accept(ANSWER, ANSWER, None)
    assert stream.done == [
        (["b"], Newest(3), b'40{"sid":"me"}\x1e'),
        (["c"], None, b""),
        b'42["hello"]\x1e',
    ]


def test_a_client_without_channels_gets_the_connect_packet() -> None:
    """
    Channels that it has left before do not count; it may join them later.
    """
    stream, socket = connecting()
    socket.join(["a"], None)
    socket.leave(["a", "z"])
    socket.accept(ANSWER, ANSWER, None)
    socket.join(["a"], None)
    socket.join(["a"], None)
    socket.leave(["a", "z"])

    assert stream.done == [b'40{"sid":"me"}\x1e', (["a"], None, b""), ["a"]]


@pytest.mark.parametrize("wrong", [object(), float("nan")])
def test_arguments_that_json_cannot_express_are_refused_at_once(wrong: object) -> None:
    """
    The application gets the error, even before the client is accepted; the client does not.
    """
    stream, socket = connecting()
    with pytest.raises((TypeError, ValueError)):
        socket.emit("a", wrong)

    socket.accept(ANSWER, ANSWER, None)
    assert stream.done == [b'40{"sid":"me"}\x1e']


def test_calls_fail_when_the_client_disconnects() -> None:
    """
    Calls of a client that was never accepted fail as well.
    """
    failures: list[Any] = []
    _, socket = connecting()
    socket.call("a").addErrback(failures.append)
    socket.close()
    socket.call("b").addErrback(failures.append)

    assert [failure.type for failure in failures] == [ConnectionDone] * 2


def test_a_namespace_replays_history_that_the_broker_has_to_fetch() -> None:
    """
    Channels of a further namespace may have to be requested from the broker first.
    """
    clock, broker = Clock(), ManualHistoryBroker()
    hub = make_hub(broker, clock)
    session: Any = RecordingStream()
    format = SocketIOEvents(Poll4(), "/chat")
    quiet = SocketIOEvents(Poll4(), "/chat", quiet=True)
    stream = NamespaceStream(make_context(hub, clock), session, format, quiet, "")

    stream.channels.join(["a"], Newest(1), format)
    broker.confirm("a")
    broker.queries[-1][2].callback(Replay(old("a", 90), True, broker.head))
    clock.advance(0)

    assert b"".join(session.done).startswith(b'42/chat,["message","old","e.90"]\x1e')
