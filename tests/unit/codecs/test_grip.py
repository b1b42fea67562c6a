"""
GRIP: how applications ask for a hold, and what they publish.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.grip import (
    GripHold,
    GripInstruction,
    GripResponse,
    HoldMode,
    KeepAlive,
    read_hold,
    read_instruction,
)
from rt_twisted.codecs.grip_items import (
    GripItem,
    decode_response,
    encode_response,
    read_items,
)

STREAM, RESPONSE = HoldMode.STREAM, HoldMode.RESPONSE


def _headers(**headers: str) -> list[tuple[str, str]]:
    return [(f"grip-{name.replace('_', '-')}", value) for name, value in headers.items()]


HOLDS = [
    ([("content-type", "text/plain")], None),
    (_headers(channel="a"), None),  # as django-grip sends it with a link alone
    (_headers(hold="stream", channel="a"), GripHold(STREAM, ("a",))),
    (_headers(hold="stream", channel="a, b,a"), GripHold(STREAM, ("a", "b"))),
    (_headers(hold="stream"), GripHold(STREAM)),
    (_headers(hold="stream", channel="gr\xc3\xbcn"), GripHold(STREAM, ("gr\u00fcn",))),
    (_headers(hold="stream", channel="a b"), GripHold(STREAM, ("a b",))),
    (
        _headers(hold="response", channel="a; prev-id=7", timeout="20"),
        GripHold(RESPONSE, ("a",), 20.0, not_followed=frozenset(("prev-id of Grip-Channel",))),
    ),
    (
        _headers(hold="response", channel="a", timeout="100", status="304"),
        GripHold(RESPONSE, ("a",), 100.0, status=304),
    ),
    (
        _headers(hold="stream", channel="a", status="404 Not Found", link="</next>; rel=next"),
        GripHold(STREAM, ("a",), status=404, not_followed=frozenset(("Grip-Link",))),
    ),
]
KEEP_ALIVES = [
    (r":\n\n; format=cstring; timeout=20", KeepAlive(b":\n\n", 20.0)),  # django-grip's
    (r"\n; format=cstring; timeout=20", KeepAlive(b"\n", 20.0)),
    ("ping", KeepAlive(b"ping", 55.0)),
    ("ping; format=raw", KeepAlive(b"ping", 55.0)),
    ("Cgo=; format=base64; timeout=5", KeepAlive(b"\n\n", 5.0)),
    (r"a\\\b\x00\xff; format=cstring", KeepAlive(b"a\\b\x00\xff", 55.0)),
    ("x; timeout=0", KeepAlive(b"x", 1.0)),
]
MALFORMED = [
    _headers(hold="forever", channel="a"),
    _headers(hold="stream", channel="a", timeout="soon"),
    _headers(hold="stream", channel="a", timeout="-1"),
    _headers(hold="stream", channel="a", timeout="999999999"),
    _headers(hold="stream", channel="a", status="600"),
    _headers(hold="stream", channel="a", status="fine"),
    _headers(hold="stream", channel="a", keep_alive=""),
    _headers(hold="stream", channel="a", keep_alive="x; format=json"),
    _headers(hold="stream", channel="a", keep_alive="x; format=base64"),
    _headers(hold="stream", channel="a", keep_alive="\\; format=cstring"),
    _headers(hold="stream", channel="a", keep_alive="x" * 2000),
    _headers(hold="stream", channel="a", keep_alive="x; timeout=x"),
    _headers(hold="stream", channel=",".join(map(str, range(1001)))),
]


@pytest.mark.parametrize(("headers", "hold"), HOLDS)
def test_headers_ask_for_a_hold(headers: list[tuple[str, str]], hold: GripHold | None) -> None:
    """
    The headers of a response say whether, how and for which channels it is held.
    """
    assert read_hold(headers) == hold


@pytest.mark.parametrize(("text", "keep_alive"), KEEP_ALIVES)
def test_keep_alive_is_decoded(text: str, keep_alive: KeepAlive) -> None:
    """
    A keep-alive is bare, has escapes as in C, or is base64.
    """
    hold = read_hold(_headers(hold="stream", channel="a", keep_alive=text))

    assert hold is not None and hold.keep_alive == keep_alive


@pytest.mark.parametrize("headers", MALFORMED)
def test_malformed_headers_are_an_error_of_the_application(
    headers: list[tuple[str, str]],
) -> None:
    """
    The client gets 502: nothing is guessed.
    """
    with pytest.raises(RemoteProtocolError) as error:
        read_hold(headers)
    assert error.value.status == 502


INSTRUCTIONS: list[tuple[dict[str, Any], GripInstruction]] = [
    ({}, GripInstruction(None, GripResponse())),
    (
        {"response": {"code": 404, "headers": {"X-A": "b"}, "body": "none"}},
        GripInstruction(None, GripResponse(404, (("X-A", "b"),), b"none")),
    ),
    (
        {"hold": {"channels": [{"name": "a"}]}},
        GripInstruction(GripHold(RESPONSE, ("a",)), GripResponse()),
    ),
    (
        {
            "hold": {
                "mode": "stream",
                "channels": [{"name": "a", "prev-id": "7"}, {"name": "b", "filters": []}],
                "timeout": 20,
                "keep-alive": {"content-bin": "Cg==", "timeout": 5},
                "meta": {"user": "x"},
            },
            "response": {"headers": [["X-A", "b"], ["X-A", "c"]], "body-bin": "AAE="},
        },
        GripInstruction(
            GripHold(
                STREAM,
                ("a", "b"),
                20.0,
                KeepAlive(b"\n", 5.0),
                not_followed=frozenset(("meta of hold", "prev-id of a channel")),
            ),
            GripResponse(200, (("X-A", "b"), ("X-A", "c")), b"\0\x01"),
        ),
    ),
]


@pytest.mark.parametrize(("value", "instruction"), INSTRUCTIONS)
def test_instructions_in_json(value: dict[str, Any], instruction: GripInstruction) -> None:
    """
    A body of type application/grip-instruct has the hold and the response.
    """
    assert read_instruction(json.dumps(value).encode()) == instruction


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"hold": []}',
        b'{"hold": {"channels": "a"}}',
        b'{"hold": {"channels": [{}]}}',
        b'{"hold": {"mode": 1}}',
        b'{"hold": {"timeout": true}}',
        b'{"hold": {"timeout": 1e308}}',
        b'{"hold": {"keep-alive": {}}}',
        b'{"response": {"code": 100}}',
        b'{"response": {"code": "200"}}',
        b'{"response": {"headers": {"a b": "c"}}}',
        b'{"response": {"headers": {"a": "c\\r\\nd: e"}}}',
        b'{"response": {"headers": {"a": "\\ud800"}}}',
        b'{"response": {"headers": [["a"]]}}',
        b'{"response": {"headers": 7}}',
        b'{"response": {"body": 7}}',
        b'{"response": {"body": "\\ud800"}}',
        b'{"response": {"body-bin": "?"}}',
    ],
)
def test_malformed_instructions(body: bytes) -> None:
    """
    The client gets 502 for an instruction that cannot be read.
    """
    with pytest.raises(RemoteProtocolError) as error:
        read_instruction(body)
    assert error.value.status == 502


ITEMS: list[tuple[dict[str, Any], GripItem]] = [
    ({"channel": "a", "http-stream": {"content": "x\n"}}, GripItem("a", b"x\n")),
    ({"channel": "a", "formats": {"http-stream": {"content": ""}}}, GripItem("a", b"")),
    (
        {"channel": "a", "formats": {"http-stream": {"content-bin": "AAE="}}, "id": "1"},
        GripItem("a", b"\0\x01"),
    ),
    (
        {"channel": "a", "http-stream": {"action": "close", "content": ""}},
        GripItem("a", closes=True),
    ),
    (
        {"channel": "a", "http-response": {"code": 201, "body": "b"}, "prev-id": "0"},
        GripItem("a", response=GripResponse(201, (), b"b")),
    ),
    (
        {"channel": "a", "ws-message": {"content": "hi"}, "http-stream": {"content": "hi\n"}},
        GripItem("a", b"hi\n", message=b"hi"),
    ),
    (
        {"channel": "a", "ws-message": {"action": "close"}},
        GripItem("a", not_followed=frozenset(("the action close of ws-message",))),
    ),
    (
        {
            "channel": "a",
            "meta": {"b": "c"},
            "formats": {"http-stream": {"content": "x", "content-filters": ["f"]}, "other": {}},
        },
        GripItem(
            "a",
            b"x",
            not_followed=frozenset(
                ("meta of an item", "content-filters of http-stream", "the format other")
            ),
        ),
    ),
]


@pytest.mark.parametrize(("value", "item"), ITEMS)
def test_items_of_a_publish_request(value: dict[str, Any], item: GripItem) -> None:
    """
    The formats of an item stand in it, as gripcontrol writes them, or under `formats`.
    """
    assert read_items(json.dumps({"items": [value]}).encode(), 10) == [item]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"items": []}',
        b'{"items": [7]}',
        b'{"items": [{}]}',
        b'{"items": [{"channel": 7}]}',
        b'{"items": [{"channel": "a"}]}',
        b'{"items": [{"channel": "a", "formats": []}]}',
        b'{"items": [{"channel": "a", "http-stream": "x"}]}',
        b'{"items": [{"channel": "a", "http-stream": {}}]}',
        b'{"items": [{"channel": "a", "http-stream": {"content": 7}}]}',
        b'{"items": [{"channel": "a", "http-stream": {"content-bin": "?"}}]}',
        b'{"items": [{"channel": "a", "ws-message": {}}]}',
        b'{"items": [{"channel": "a", "http-response": {"code": 99}}]}',
    ],
)
def test_malformed_items(body: bytes) -> None:
    """
    A publisher gets 400, and what is wrong.
    """
    with pytest.raises(RemoteProtocolError) as error:
        read_items(body, 10)
    assert error.value.status == 400


def test_items_are_bounded() -> None:
    """
    A publisher gets 413 for more items than the settings allow.
    """
    body = json.dumps({"items": [{"channel": "a", "http-stream": {"content": "x"}}] * 3}).encode()

    assert len(read_items(body, 3)) == 3
    with pytest.raises(RemoteProtocolError) as error:
        read_items(body, 2)
    assert error.value.status == 413


@given(st.binary(max_size=200))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    """
    No body raises anything but the error for the peer.
    """
    for read in (read_instruction, lambda data: read_items(data, 10), decode_response):
        with suppress(RemoteProtocolError):
            read(body)


@example("\x1c5")  # a blank for str.strip, and not for int
@given(st.text(alphabet=st.characters(max_codepoint=255), max_size=100))
def test_any_header_is_read_or_refused(text: str) -> None:
    """
    No header raises anything but the error for the peer.
    """
    for name in ("hold", "channel", "timeout", "keep_alive", "status"):
        with suppress(RemoteProtocolError):
            read_hold(_headers(**{"hold": "stream", name: text}))


@given(
    st.integers(200, 599),
    st.lists(st.tuples(st.just("X-A"), st.text("a\u00fc b", max_size=5)), max_size=3),
    st.binary(max_size=50),
)
def test_responses_are_carried_unchanged(
    status: int, headers: list[tuple[str, str]], body: bytes
) -> None:
    """
    A response that is published on one node is sent by another as it was.
    """
    latin = tuple([(name, text.encode().decode("latin-1")) for name, text in headers])
    response = GripResponse(status, latin, body)

    data = encode_response(response)

    assert b"\n" not in data
    assert decode_response(data) == response
