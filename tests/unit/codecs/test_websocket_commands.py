"""
Commands of the JSON protocol on websockets.
"""

from __future__ import annotations

import json
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket_commands import (
    KeyCommand,
    PingCommand,
    PublishCommand,
    SubscribeCommand,
    UnsubscribeCommand,
    read_command,
    read_frame,
    read_id,
)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"type":"subscribe","channels":["a","b"]}', SubscribeCommand(["a", "b"])),
        ('{"type":"subscribe","channels":"a","since":"e.7"}', SubscribeCommand(["a"], "e.7")),
        ('{"type":"subscribe","channels":"a","history":3}', SubscribeCommand(["a"], "", 3)),
        ('{"type":"unsubscribe","channels":"a","id":1}', UnsubscribeCommand(["a"])),
        ('{"type":"key","key":"s"}', KeyCommand(b"s")),
        ('{"type":"ping","id":"x"}', PingCommand()),
    ],
)
def test_valid_commands(text: str, command: object) -> None:
    """
    Each object is one command.
    """
    assert read_command(read_frame(text.encode())) == command


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('"message":"ü"', "ü".encode()),
        ('"message":{"a":[1, 2]}', b'{"a":[1, 2]}'),
        ('"message":1.10', b"1.10"),
        ('"base64":"/w=="', b"\xff"),
    ],
)
def test_publish_command(text: str, data: bytes) -> None:
    """
    The fields are those of POST /publish, and base64 for bytes.
    """
    command = read_command(
        read_frame(
            f'{{"type":"publish","id":1,"channel":"a",{text},"event":"x",'
            '"idempotency_key":"i","key":"s"}'.encode()
        )
    )

    assert isinstance(command, PublishCommand)
    submission = command.submission
    assert (list(submission.channels), submission.message) == (["a"], data)
    assert (submission.event, submission.idempotency_key, submission.key) == ("x", "i", b"s")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "[]",
        "1",
        "{}",
        '{"type":"dance"}',
        '{"type":["subscribe"]}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","channels":[]}',
        '{"type":"subscribe","channels":[1]}',
        '{"type":"subscribe","channels":"a","since":1}',
        '{"type":"subscribe","channels":"a","history":-1}',
        '{"type":"subscribe","channels":"a","history":true}',
        '{"type":"subscribe","channels":"a","colour":1}',
        '{"type":"publish","channel":"a","message":"a","base64":""}',
        '{"type":"publish","channel":"a","base64":"?"}',
        '{"type":"publish","channel":"a","base64":1}',
        '{"type":"publish","channel":1,"message":"a"}',
        '{"type":"publish","channel":"a","message":"a","event":"gap"}',
        '{"type":"publish","channel":"a","message":"\\ud800"}',
        '{"type":"ping","id":1.5}',
        '{"type":"ping","id":true}',
        '{"type":"ping","id":9007199254740992}',
        '{"type":"ping","id":"' + "x" * 65 + '"}',
        "[" * 5000,
        "1" * 5000,
    ],
)
def test_invalid_commands_are_refused(text: str) -> None:
    """
    The client gets an error of one sentence.
    """

    def obey() -> None:
        value = read_frame(text.encode())
        read_id(value)
        read_command(value)

    with pytest.raises(RemoteProtocolError):
        obey()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = st.sampled_from(
    "type id channels channel since history key message base64 event idempotency_key".split()
)
TYPES = st.sampled_from("subscribe unsubscribe publish key ping".split())


@given(st.dictionaries(NAMES, JSON), TYPES)
def test_any_object_is_a_command_or_an_error(value: dict[str, Any], kind: str) -> None:
    """
    Whatever its fields are, only RemoteProtocolError is raised.
    """
    try:
        number = read_id(value)
        frame = read_frame(json.dumps({**value, "type": kind}).encode())
        command = read_command(frame)
    except RemoteProtocolError as error:
        assert error.status == 400
        return
    assert number is None or type(number) in (str, int)
    assert command is not None


def test_deeply_nested_messages_are_refused() -> None:
    """
    A message nested too deeply to be written again is refused, too.
    """
    problems: list[str] = []

    def probe() -> None:  # a fresh stack: all depths on it are tried
        for depth in range(800, 1100):
            nested = "[" * depth + "]" * depth
            text = f'{{"type":"publish","channel":"a","message":{nested}}}'
            try:
                read_command(read_frame(text.encode()))
            except RemoteProtocolError:
                continue
            except BaseException as error:
                problems.append(f"{depth}: {error!r}")

    thread = Thread(target=probe)
    thread.start()
    thread.join()

    assert problems == []
