"""
The dialogue of an encoder and the server, without a connection.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.rtmp import amf
from rt_twisted.rtmp.chunks import MessageType, RtmpMessage, write_message
from rt_twisted.rtmp.handshake import SIZE
from rt_twisted.rtmp.session import (
    BAD_NAME,
    WINDOW,
    MetadataReceived,
    PlayRequested,
    PublishEnded,
    PublishRequested,
    RtmpSession,
)
from tests.unit.rtmp.client import (
    DATA,
    HANDSHAKE,
    VIDEO,
    codes,
    command,
    commands,
    dialogue,
    media,
    metadata,
    replies,
)


class Talk:
    """
    A session, what it has sent, and its events.
    """

    def __init__(self) -> None:
        self._sent: list[bytes] = []
        self.session = RtmpSession(bytes(SIZE), self._sent.append)
        self.events: list[Any] = []

    @property
    def sent(self) -> bytes:
        return b"".join(self._sent)

    def feed(self, data: bytes, step: int = 0) -> Talk:
        """
        Feed *data*, accept all names, and let the client publish.
        """
        for start in range(0, len(data), step or len(data)):
            for event in self.session.feed(data[start : start + (step or len(data))]):
                self.events.append(event)
                if isinstance(event, PublishRequested):
                    if event.announced:
                        self.session.accept_name()
                    else:
                        self.session.accept(1 << 20)
        return self


@pytest.mark.parametrize("step", [0, 1, 77])
def test_the_dialogue_of_ffmpeg(step: int) -> None:
    """
    Each request is answered, and the publication begins.
    """
    talk = Talk().feed(dialogue("live", "cam?key=a"), step)

    assert talk.events == [
        PublishRequested("live/cam", "key=a", announced=True),
        PublishRequested("live/cam", "key=a"),
    ]
    connected, *following = commands(talk.sent)
    assert connected[:2] == ["_result", 1]
    assert connected[3]["code"] == "NetConnection.Connect.Success"
    assert following[:4] == [
        ["_result", 2, None],
        ["_result", 3, None],
        ["onFCPublish", 0, None, following[2][3]],
        ["_result", 4, None, 1],
    ]
    assert codes(talk.sent) == ["NetStream.Publish.Start"]
    types = [each.type for each in replies(talk.sent)]
    assert types[:3] == [MessageType.WINDOW_SIZE, MessageType.PEER_BANDWIDTH, MessageType.COMMAND]


def test_media_and_metadata() -> None:
    """
    Frames and what the encoder says are events; captions and such are not.
    """
    talk = Talk().feed(dialogue("live", "cam"))
    del talk.events[:]
    talk.feed(metadata(width=640.0) + media(VIDEO, 40, b"v") + media(8, 41, b"a"))
    talk.feed(media(DATA, 42, amf.encode("onTextData", {"text": "x"})))
    talk.feed(media(MessageType.DATA_AMF3, 43, b"\0" + amf.encode("onMetaData", {"height": 1.0})))

    assert talk.events == [
        MetadataReceived({"width": 640.0}),
        RtmpMessage(VIDEO, 1, 40, b"v"),
        RtmpMessage(8, 1, 41, b"a"),
        MetadataReceived({"height": 1.0}),
    ]


def test_commands_in_frames_of_amf3() -> None:
    """
    A message of type 17 is a command behind its first byte.
    """
    payload = b"\0" + amf.encode("connect", 1, {"app": "live", "objectEncoding": 3.0})
    framed = write_message(RtmpMessage(MessageType.COMMAND_AMF3, 0, 0, payload), 128, 3)

    talk = Talk().feed(HANDSHAKE + framed)

    [connected] = commands(talk.sent)
    assert connected[3]["objectEncoding"] == 3.0


def test_enhanced_codecs_are_named() -> None:
    """
    A client that names its codecs gets the server's.
    """
    talk = Talk().feed(dialogue("live", "cam", fourCcList=["av01", "hvc1"]))

    assert {"hvc1", "av01", "vp09", "Opus"} <= set(commands(talk.sent)[0][3]["fourCcList"])


@pytest.mark.parametrize(
    ("app", "name", "path", "query"),
    [
        ("live", "cam", "live/cam", ""),
        ("live/", "/cam", "live/cam", ""),
        ("live?key=a", "cam", "live/cam", "key=a"),
        ("live?a=1", "cam?b=2&c=3", "live/cam", "a=1&b=2&c=3"),
        ("", "cam", "cam", ""),
        ("live/x", "", "live/x", ""),
    ],
)
def test_names(app: str, name: str, path: str, query: str) -> None:
    """
    Application and stream name are one path, and each may have a query.
    """
    talk = Talk().feed(dialogue(app, name))

    assert talk.events[-1] == PublishRequested(path, query)


def test_the_end_of_a_publication() -> None:
    """
    After FCUnpublish and deleteStream, the client may publish again.
    """
    talk = Talk().feed(dialogue("live", "cam"))
    talk.feed(command("FCUnpublish", 6, None, "cam") + command("deleteStream", 7, None, 1.0))
    talk.feed(command("publish", 8, None, "cam", "live", stream=1))

    assert talk.events[2:] == [PublishEnded(), PublishRequested("live/cam", "")]
    assert "onFCUnpublish" in [each[0] for each in commands(talk.sent)]


def test_a_refusal() -> None:
    """
    A refused client gets no Start, and is not read any more.
    """
    talk = Talk()
    for event in talk.session.feed(dialogue("live", "cam")):
        talk.events.append(event)
        talk.session.refuse(BAD_NAME, "wrong key")

    assert len(talk.events) == 1
    assert b"Start" not in talk.sent
    assert codes(talk.sent) == [BAD_NAME]
    assert list(talk.session.feed(command("publish", 5, None, "cam", stream=1))) == []


def test_play() -> None:
    """
    A player is recognized.
    """
    talk = Talk()
    talk.feed(HANDSHAKE + command("connect", 1, {"app": "live"}))
    talk.events += talk.session.feed(command("play", 2, None, "cam", stream=1))

    assert talk.events == [PlayRequested("live/cam")]


def test_acknowledgements_and_pings() -> None:
    """
    Bytes are acknowledged by the client's window, or by the server's.
    """
    talk = Talk().feed(dialogue("live", "cam"))
    talk.feed(write_message(RtmpMessage(MessageType.USER_CONTROL, 0, 0, b"\0\6\0\0\1\2"), 128))
    assert replies(talk.sent)[-1].payload == b"\0\7\0\0\1\2"

    talk.feed(write_message(RtmpMessage(MessageType.WINDOW_SIZE, 0, 0, b"\0\0\4\0"), 128))
    talk.feed(media(VIDEO, 0, bytes(1500)) + media(VIDEO, 1, bytes(10)))
    acknowledged = [m for m in replies(talk.sent) if m.type == MessageType.ACKNOWLEDGEMENT]
    assert len(acknowledged) == 1
    assert int.from_bytes(acknowledged[0].payload) > 2 * SIZE + 1500

    plain = Talk().feed(dialogue("live", "cam"))
    for number in range(3):
        plain.feed(media(VIDEO, number, bytes(WINDOW // 3)))
    acknowledged = [m for m in replies(plain.sent) if m.type == MessageType.ACKNOWLEDGEMENT]
    assert len(acknowledged) == 1


def test_unknown_commands() -> None:
    """
    A call gets an error, a notification nothing.
    """
    talk = Talk().feed(HANDSHAKE + command("connect", 1, {"app": "live"}))
    talk.feed(command("whatever", 9, None) + command("whatever", 0, None))
    talk.feed(command("_checkbw", 10, None))

    assert [each[:2] for each in commands(talk.sent)[1:]] == [["_error", 9], ["_result", 10]]


@pytest.mark.parametrize(
    "sent",
    [
        command("publish", 1, None, "cam"),
        command("connect", 1, {"app": "x"}) * 2,
        command("connect", 1, {"app": "x"}) + command("publish", 2, None, "x" * 2000),
        command("connect", 1, {"app": "x"}) + command("publish", 2, None, "a") * 2,
        b"\xff",
    ],
)
def test_broken_dialogues(sent: bytes) -> None:
    """
    Commands out of order end the connection.
    """
    with pytest.raises(RemoteProtocolError):
        Talk().feed(HANDSHAKE + sent)


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 2, 3, 4, 5, 6, 8, 9, 15, 17, 18, 20, 22]), st.binary()),
        max_size=8,
    )
)
def test_no_message_raises_another_error(sent: list[tuple[int, bytes]]) -> None:
    """
    Only the codecs' error is raised, before and in a publication.
    """
    for opening in (HANDSHAKE, dialogue("live", "cam")):
        talk = Talk().feed(opening)
        with contextlib.suppress(RemoteProtocolError):
            for type, payload in sent:
                talk.feed(write_message(RtmpMessage(type, 1, 0, payload), 128, 3))
