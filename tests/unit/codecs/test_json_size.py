"""
JSON texts that would take too long are refused.
"""

from __future__ import annotations

import json

import pytest

from rt_twisted.codecs import socketio, websocket_commands
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.grip_items import read_items
from rt_twisted.codecs.json_size import MAX_VALUES, has_too_many_values
from rt_twisted.codecs.publication import parse
from rt_twisted.codecs.query import parse_fields

MANY = "[" + ",".join(["1"] * (MAX_VALUES + 1)) + "]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MANY, True),
        (MANY.replace("1", "[]"), True),
        (MANY.replace("1", '""'), True),
        ("{" + ",".join([f'"{n}":1' for n in range(MAX_VALUES)]) + "}", True),
        (json.dumps({"message": "a,b:c[{" * 100_000}), False),
        (json.dumps({"message": json.dumps([{"a": 1}] * 100_000)}), False),
        ("[1,2]", False),
        ("[" + "[" * 1000, False),
    ],
    ids=["numbers", "arrays", "strings", "members", "text", "JSON in text", "few", "broken"],
)
def test_values_are_counted_and_text_in_strings_is_not(text: str, expected: bool) -> None:
    """
    A long message in a string is no reason to refuse it.
    """
    assert has_too_many_values(text) is expected


def test_every_protocol_refuses_them() -> None:
    """
    Publish requests, items of GRIP, lists of channels, commands on websockets and Socket.IO.
    """
    with pytest.raises(RemoteProtocolError, match="too many values") as refused:
        parse("application/json", f'{{"channel":"a","message":{MANY}}}'.encode(), {}, 1000)
    assert refused.value.status == 413
    with pytest.raises(RemoteProtocolError, match="too many values"):
        parse_fields("application/json", f'{{"channels":{MANY}}}'.encode())
    with pytest.raises(RemoteProtocolError, match="too many values"):
        websocket_commands.read_frame(f'{{"channels":{MANY}}}'.encode())
    with pytest.raises(RemoteProtocolError, match="too many values"):
        socketio.load(MANY)
    items = f'{{"items":[{{"channel":"a","formats":{MANY}}}]}}'.encode()
    with pytest.raises(RemoteProtocolError, match="too many values") as refused:
        read_items(items, 1000)
    assert refused.value.status == 413
