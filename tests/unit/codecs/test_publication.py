"""
Bodies of publish requests.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.forms import MULTIPART
from rt_twisted.codecs.publication import (
    JSON,
    LINES,
    MAX_EVENT,
    MAX_KEY,
    TOO_MANY_VALUES,
    Submission,
    check_event,
    check_idempotency_key,
    may_have_fields,
    parse,
)
from rt_twisted.codecs.query import FORM, MAX_FIELDS

Query = Mapping[str, list[str]]
BOUNDARY = f"{MULTIPART}; boundary=cut"


def parts(*fields: tuple[str, bytes]) -> bytes:
    """
    Encode *fields* as a multipart body with the boundary `cut`.
    """
    pieces = [
        b'--cut\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    ]
    return b"".join([*pieces, b"--cut--\r\n"])


def parse_one(kind: str, body: bytes, query: Query | None = None) -> Submission:
    """
    Return the one submission in *body*.
    """
    (submission,) = parse(kind, body, query or {}, 10)
    return submission


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=9,
).filter(lambda value: "Infinity" not in json.dumps(value))


@pytest.mark.parametrize(
    ("body", "channels", "message"),
    [
        (b"channel=a&message=hello", ["a"], b"hello"),
        (b"message=hello&channel=a", ["a"], b"hello"),
        (b"channel=a&message=", ["a"], b""),
        (b"channel=a&message", ["a"], b""),
        (b"channel=a", ["a"], None),
        (b"message=x", [], b"x"),
        (b"", [], None),
        (b"&&channel=a&&message=x&", ["a"], b"x"),
        (b"channel=a&channel=b&message=x", ["a", "b"], b"x"),
        (b"channel=a&channel=a&message=x", ["a", "a"], b"x"),
        (b"channel=a&message=x&message=y", ["a"], b"y"),
        (b"channel=a+b&message=1+1%3D2", ["a b"], b"1 1=2"),
        (b"channel=a&message=%2B%26%3D%25", ["a"], b"+&=%"),
        (b"channel=a&message=a=b=c", ["a"], b"a=b=c"),
        (b"channel=a&message=100%", ["a"], b"100%"),
        (b"channel=a&message=%zz%4", ["a"], b"%zz%4"),
        (b"channel=a&message=%ff%00\xfe\x80", ["a"], b"\xff\x00\xfe\x80"),
        (b"channel=a&message=%0D%0Ax%0A", ["a"], b"\r\nx\n"),
        (b"channel=a&message= \t ", ["a"], b" \t "),
        (b"channel=gr%C3%BCn&message=\xc3\xbc", ["gr\u00fcn"], b"\xc3\xbc"),
        (b"%63hannel=a&mess%61ge=x", ["a"], b"x"),
        (b"channel=a&message=x&other=1&\xff=2", ["a"], b"x"),
        (b"channel=a;message=x", ["a;message=x"], None),
    ],
)
def test_form_message_is_published_unchanged(
    body: bytes, channels: list[str], message: bytes | None
) -> None:
    """
    The message of a form is exactly the bytes that were encoded.
    """
    for kind in (FORM, f"{FORM}; charset=utf-8", f" {FORM.upper()} "):
        assert parse_one(kind, body) == Submission(channels, message)


@given(st.binary(max_size=50), st.lists(st.text(max_size=10), max_size=3))
def test_forms_carry_any_bytes(message: bytes, channels: list[str]) -> None:
    """
    Any message and any channels pass a form and a multipart body unchanged.
    """
    fields = [("channel", name.encode()) for name in channels] + [("message", message)]
    encoded = [name + "=" + "".join(f"%{byte:02x}" for byte in value) for name, value in fields]

    assert parse_one(FORM, "&".join(encoded).encode()) == Submission(channels, message)
    if b"--cut" not in message:
        assert parse_one(BOUNDARY, parts(*fields)) == Submission(channels, message)


def test_all_fields_in_all_bodies() -> None:
    """
    Event type, idempotency key and publish key are parsed in every kind of body.
    """
    full = Submission(["a"], b"m", "score", "id-1", b"secret")
    fields = {"channel": "a", "message": "m", "event": "score", "idempotency_key": "id-1"}
    fields["key"] = "secret"
    query = {name: [value] for name, value in fields.items()}
    encoded = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
    cut = parts(*[(name, value.encode()) for name, value in fields.items()])
    in_json = Submission(("a",), b"m", "score", "id-1", b"secret")

    assert parse_one(FORM, encoded) == full
    assert parse_one(BOUNDARY, cut) == full
    assert parse_one("", b"", query) == full
    assert parse_one("text/plain", b"m", {**query, "message": ["other"]}) == full
    assert parse_one(JSON, json.dumps(fields).encode()) == in_json
    assert parse_one(LINES[0], json.dumps(fields).encode()) == in_json


def test_empty_fields_are_none() -> None:
    """
    An empty event type, idempotency key or publish key is none.
    """
    form = parse_one(FORM, b"channel=a&message=x&event=&idempotency_key=")
    body = b'{"channel": "a", "message": "x", "event": "", "idempotency_key": "", "key": ""}'

    assert form == Submission(["a"], b"x")
    assert parse_one(JSON, body) == Submission(("a",), b"x")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/octet-stream", "nonsense", ";"])
def test_plain_body_is_the_message(kind: str) -> None:
    """
    Any other body is the message, unchanged; the URL names the channel.
    """
    query = {"channel": ["a", "b"], "other": ["x"]}

    assert parse_one(kind, b"\xff&message=x\r\n", query) == Submission(
        ["a", "b"], b"\xff&message=x\r\n"
    )
    assert parse_one(kind, b"", query) == Submission(["a", "b"], b"")
    assert parse(kind, None, query, 10) == [Submission(["a", "b"], None)]
    query["message"] = ["y"]
    assert parse_one(kind, b"", query) == Submission(["a", "b"], b"y")
    assert parse_one(kind, b"x", query) == Submission(["a", "b"], b"x")


def test_body_overrides_the_url() -> None:
    """
    A field of the URL is used only if the body lacks it.
    """
    query = {"channel": ["b"], "message": ["url"], "event": ["e"]}

    assert parse_one(FORM, b"channel=a", query) == Submission(["a"], b"url", "e")
    assert parse_one(FORM, b"message=body", query) == Submission(["b"], b"body", "e")


@pytest.mark.parametrize("kind", [JSON, LINES[0]])
def test_json_body_is_completed_from_the_url(kind: str) -> None:
    """
    Channel and key of `POST /publish?channel=a&key=...` apply to `{"message": ...}`.
    """
    found = parse_one(kind, b'{"message": "x"}', {"channel": ["a"], "key": ["secret"]})

    assert (list(found.channels), found.message, found.key) == (["a"], b"x", b"secret")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"hello"', b"hello"),
        ('""', b""),
        ('"a\\nb"', b"a\nb"),
        ('"\\ud83d\\ude00"', "\U0001f600".encode()),
        ('"gr\u00fcn"', "gr\u00fcn".encode()),
        ('{"b": 1, "a": [true, null]}', b'{"b": 1, "a": [true, null]}'),
        ('{"a":1,\r\n\t"a": 2 }', b'{"a":1,\r\n\t"a": 2 }'),
        ("[1.10, -0, -0.0, 1E5, 1e400]", b"[1.10, -0, -0.0, 1E5, 1e400]"),
        ("0.1234567890123456789", b"0.1234567890123456789"),
        ("1.10", b"1.10"),
        ("1e400", b"1e400"),
        ('["\\u00fc\\/", "\\ud800", "message"]', b'["\\u00fc\\/", "\\ud800", "message"]'),
        ("  [ ]  ", b"[ ]"),
        ("true", b"true"),
        ('["gr\u00fcn"]', '["gr\u00fcn"]'.encode()),
        ("null", b"null"),
        ("12", b"12"),
        ("-0.5", b"-0.5"),
        ("123456789012345678901234567890", b"123456789012345678901234567890"),
        ("1" + "0" * 9000, b"1" + b"0" * 9000),
    ],
)
def test_json_strings_and_other_values(text: str, message: bytes) -> None:
    """
    A string is published as its text, any other value exactly as it is written.
    """
    body = b'{"channel": "a", "message": %s}' % text.encode()
    spread = b'\n { "channel" : "a" ,\t"message":1, "message" :%s\r\n}\n' % text.encode()
    batch = b'[{"channel":"a"},%s , {"message":"x"}, %s]' % (body, spread)
    lines = body + b"\n" + body if "\n" not in text else body
    expected = Submission(("a",), message)

    assert parse_one(JSON, body) == parse_one(JSON, spread) == expected
    assert parse(JSON, batch, {}, 9) == [
        Submission(("a",), None),
        expected,
        Submission((), b"x"),
        expected,
    ]
    if "\n" not in text:
        assert parse(LINES[0], lines, {}, 9) == [expected, expected]


@given(JSON_VALUES, st.sampled_from([None, 1, "\t"]))
def test_json_values_are_published_verbatim(value: Any, indent: Any) -> None:
    """
    Values are cut out exactly, whatever they contain and whatever surrounds them.
    """
    text = json.dumps(value, indent=indent)
    item = f'{{"event": "x", "channel": "a", "message": {text}}}'
    found = parse(JSON, f"[{item}, {item}\n,{item}]".encode(), {}, 9)
    expected = value.encode() if isinstance(value, str) else text.encode()
    assert [one.message for one in found] == [expected] * 3


@pytest.mark.parametrize(
    "kind",
    ["application/vnd.api+json", "application/ld+json; charset=utf-8", "TEXT/JSON", "text/json"],
)
def test_other_json_media_types(kind: str) -> None:
    """
    Types that end in +json (RFC 6839, 3.1), and text/json from before the standard.
    """
    assert parse_one(kind, b'{"message": 1.10}').message == b"1.10"
    assert may_have_fields(kind)
    assert parse_one("application/json+x", b"1").message == b"1"
    assert not may_have_fields("application/json+x")


def test_byte_order_mark_is_removed_from_text() -> None:
    """
    JSON, lines and forms have it removed; a plain body is bytes.
    """
    mark = b"\xef\xbb\xbf"
    assert parse_one(JSON, mark + b'{"message": [1]}').message == b"[1]"
    assert parse(LINES[1], mark + b'{"message": 1}\n{"message": 2}', {}, 9)[1].message == b"2"
    assert parse_one(FORM, mark + b"channel=a&message=x") == Submission(["a"], b"x")
    assert parse_one("text/plain", mark).message == mark


def test_bracketed_channel_lists() -> None:
    """
    Lists with the brackets of PHP and Rails, in forms and URLs.
    """
    for name in ("channel", "channel[]", "channels[]", "channel%5B0%5D", "channels[12]"):
        body = f"{name}=a&{name}=b&message=x".encode()
        assert list(parse_one(FORM, body).channels) == ["a", "b"]
    both = parse_one(BOUNDARY, parts(("channels[]", b"a"), ("channels[]", b"b"), ("message", b"x")))
    assert list(both.channels) == ["a", "b"]
    query = {"channels[]": ["a", "b"], "channel": ["c"]}
    assert list(parse_one("", b"x", query).channels) == ["c", "a", "b"]
    assert list(parse_one(JSON, b'{"message": 1}', query).channels) == ["c", "a", "b"]
    assert list(parse_one(FORM, b"channel[x]=a&message=x").channels) == []


def test_json_channels() -> None:
    """
    One channel or an array of them; the route decides whether none is allowed.
    """
    assert list(parse_one(JSON, b'{"channel": ["a", "b"], "message": 1}').channels) == ["a", "b"]
    assert list(parse_one(JSON, b'{"channel": [], "message": 1}').channels) == []
    assert parse_one(JSON, b"{}") == Submission((), None)
    assert parse_one(JSON, b'{"message": 1, "message": 2}').message == b"2"


def test_json_without_a_channel() -> None:
    """
    Where the route names the channel, the other fields are still parsed.
    """
    found = parse_one(JSON, b'{"message": "x", "event": "score"}')
    keyed = parse_one(JSON, b'{"message": "x", "key": "secret"}')

    assert found == Submission((), b"x", "score")
    assert keyed == Submission((), b"x", key=b"secret")


def test_batches_of_messages() -> None:
    """
    An array, or lines of JSON with or without blank lines, are many messages.
    """
    expected = [Submission(("a",), b"1"), Submission(("b",), b"2")]

    array = b'[{"channel": "a", "message": 1}, {"channel": "b", "message": 2}]'
    assert parse(JSON, array, {}, 2) == expected
    rows = b'{"channel": "a", "message": 1}\n\n{"channel": "b", "message": 2}\r\n \n'
    for kind in LINES:
        assert parse(kind, rows, {}, 2) == expected
    # Unicode's line separator does not end a line of JSON.
    rows = '{"channel": "a", "message": "x\u2028y\x85z"}'.encode()
    assert parse(LINES[0], rows, {}, 2)[0].message == "x\u2028y\x85z".encode()


DEEP = 200_000  # levels; Python's recursion limit is about 1000


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        (JSON, b"", 400, "the body is not JSON"),
        (JSON, b"{", 400, "the body is not JSON"),
        (JSON, b'{"message": 1} x', 400, "the body is not JSON"),
        (JSON, b'{"message": NaN}', 400, "the body is not JSON"),
        (JSON, b'{"message": [Infinity]}', 400, "the body is not JSON"),
        (JSON, b'{"message": -Infinity}', 400, "the body is not JSON"),
        (JSON, b'{"message": {"a": NaN}}', 400, "the body is not JSON"),
        (JSON, b"[" * 40_000, 400, "the body is not JSON"),
        (JSON, b"[" * DEEP, 413, TOO_MANY_VALUES),
        (JSON, b'{"a":' * 20_000, 400, "the body is not JSON"),
        (JSON, b'{"message": "a\nb"}', 400, "the body is not JSON"),
        (JSON, b'\xef\xbb\xbf\xef\xbb\xbf{"message": 1}', 400, "the body is not JSON"),
        (JSON, b'{"message": "\xff"}', 400, "the body is not UTF-8"),
        (JSON, '{"message": 1}'.encode("utf-16"), 400, "the body is not UTF-8"),
        (JSON, b"[]", 400, "no message"),
        (JSON, b"1", 400, "the body is not a JSON object"),
        (JSON, b'"x"', 400, "the body is not a JSON object"),
        (JSON, b"null", 400, "the body is not a JSON object"),
        (JSON, b"[[]]", 400, "item 1 is not a JSON object"),
        (JSON, b"[{}, 1]", 400, "item 2 is not a JSON object"),
        (JSON, b"[{}, {}, {}]", 413, "more than 2 messages in one request"),
        (JSON, b'{"chanel": "a"}', 400, "the body has an unknown field 'chanel'"),
        (JSON, b'{"\\ud800": 1}', 400, "the body has an unknown field '\\ud800'"),
        (JSON, b'{"channel": 1}', 400, "the body: channel is a string, or an array of strings"),
        (JSON, b'{"channel": null}', 400, "the body: channel is a string, or an array of strings"),
        (JSON, b'{"channel": [1]}', 400, "the body: channel is a string, or an array of strings"),
        (JSON, b'{"channel": {}}', 400, "the body: channel is a string, or an array of strings"),
        (JSON, b'{"event": 1}', 400, "the body: event is a string"),
        (JSON, b'{"key": []}', 400, "the body: key is a string"),
        (JSON, b'{"idempotency_key": 0}', 400, "the body: idempotency_key is a string"),
        (JSON, b'{"message": 1, "event": 1}', 400, "the body: event is a string"),
        (JSON, b'[{"message": "\\ud800"}]', 400, "item 1 has half a surrogate pair"),
        (JSON, b'{"key": "\\ud800"}', 400, "the body has half a surrogate pair"),
        (JSON, b'{"channel": "\\ud800"}', 400, "the body has half a surrogate pair"),
        (JSON, b'{"channel": ["a", "\\ud800"]}', 400, "the body has half a surrogate pair"),
        (JSON, b'{"event": "\\ud800"}', 400, "the body has half a surrogate pair"),
        (JSON, b'{"idempotency_key": "\\ud800"}', 400, "the body has half a surrogate pair"),
        (LINES[0], b"", 400, "no message"),
        (LINES[0], b"\n \n", 400, "no message"),
        (LINES[0], b"{}\n{", 400, "line 2 is not JSON"),
        (LINES[1], b"\n\n[]", 400, "line 3 is not a JSON object"),
        (LINES[2], b"{}\n{}\n{}", 413, "more than 2 messages in one request"),
        (LINES[0], b"\xff", 400, "the body is not UTF-8"),
        (FORM, b"&" * MAX_FIELDS, 400, "too many fields"),
        (FORM, b"channel=%ff", 400, "channel is not UTF-8"),
        (FORM, b"channel=%ed%a0%80", 400, "channel is not UTF-8"),
        (FORM, b"event=%ff", 400, "event is not UTF-8"),
        (FORM, b"idempotency_key=%ff", 400, "idempotency_key is not UTF-8"),
        (FORM, b"event=a%0Ab", 400, f"an event type is one line of up to {MAX_EVENT} characters"),
        (FORM, b"event=gap", 400, "the event type 'gap' is the server's own"),
        (FORM, b"event=unit/head", 400, "the event type 'unit/head' is the server's own"),
        (MULTIPART, parts(("message", b"x")), 400, None),
        (f"{MULTIPART}; boundary=", parts(("message", b"x")), 400, None),
        (f"{MULTIPART}; boundary=other", parts(("message", b"x")), 400, None),
        (f"{MULTIPART}; boundary={'x' * 5000}", parts(("message", b"x")), 400, None),
        (f"{MULTIPART}; boundary=\xfc", parts(("message", b"x")), 400, None),
        (BOUNDARY, b"", 400, None),
        (BOUNDARY, parts(("message", b"x"))[:-9], 400, None),
        (BOUNDARY, b"--cut\r\n\r\nx\r\n--cut--\r\n", 400, None),
        (BOUNDARY, parts(*[("message", b"")] * (MAX_FIELDS + 1)), 400, None),
        (BOUNDARY, b"--cut\r\n" + b"A: b\r\n" * 5000 + parts(("message", b"x")), 400, None),
        (BOUNDARY, b"--cut\r\nA: " + b"b" * 100_000 + b"\r\n\r\n\r\n--cut--", 400, None),
        (BOUNDARY, parts(("channel", b"\xff"), ("message", b"x")), 400, "channel is not UTF-8"),
    ],
    ids=lambda value: repr(value)[:30] if isinstance(value, bytes | str) else None,
)
def test_invalid_requests_are_refused(
    kind: str, body: bytes, status: int, reason: str | None
) -> None:
    """
    The error is one sentence about the first fault.
    """
    with pytest.raises(RemoteProtocolError) as raised:
        parse(kind, body, {}, 2)

    assert raised.value.status == status
    assert reason is None or raised.value.reason == reason
    assert raised.value.reason.encode()
    assert len(raised.value.reason) < 300


def test_limits_are_exact() -> None:
    """
    A request at the limit is accepted.
    """
    assert len(parse(JSON, b"[{}, {}]", {}, 2)) == 2
    assert parse(FORM, b"&" * (MAX_FIELDS - 1), {}, 1) == [Submission([], None)]
    assert check_event("e" * MAX_EVENT)
    assert check_idempotency_key("k" * MAX_KEY)
    with pytest.raises(RemoteProtocolError):
        check_event("e" * (MAX_EVENT + 1))
    with pytest.raises(RemoteProtocolError):
        check_idempotency_key("k" * (MAX_KEY + 1))


@pytest.mark.parametrize("event", ["a\rb", "a\nb", "a\0b", "gap", "unit/k 1"])
def test_invalid_event_types_are_refused(event: str) -> None:
    """
    A type with a line end, or of the server's own events, is refused in every kind of body.
    """
    for kind, body in (
        (JSON, json.dumps({"event": event}).encode()),
        (BOUNDARY, parts(("event", event.encode()))),
    ):
        with pytest.raises(RemoteProtocolError):
            parse(kind, body, {}, 1)
    with pytest.raises(RemoteProtocolError):
        parse("", b"x", {"event": [event]}, 1)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "[1E400]"])
def test_large_numbers_stay_valid_json(number: str) -> None:
    """
    A number too large for a float never becomes Infinity, which JSON parsers refuse.
    """
    body = b'{"channel": "a", "message": %s}' % number.encode()
    try:
        message = parse_one(JSON, body).message
    except RemoteProtocolError:
        return
    assert message is not None
    assert b"Infinity" not in message


def test_deeply_nested_messages_are_refused() -> None:
    """
    A value that could be parsed but not written again is refused.
    """
    problems: list[str] = []

    def probe() -> None:  # a new stack, at least as deep as that of a request
        for depth in range(800, 1100):
            body = b'{"message":' + b"[" * depth + b"]" * depth + b"}"
            try:
                parse(JSON, body, {}, 1)
            except RemoteProtocolError:
                continue
            except BaseException as error:
                problems.append(f"{depth}: {error!r}")

    thread = threading.Thread(target=probe)
    thread.start()
    thread.join()

    assert problems == []


def test_multipart_takes_linear_time() -> None:
    """
    A body full of beginnings of a boundary takes linear time.
    """
    body = parts(("channel", b"a"), ("message", b"\r\n--cu" * 100_000))

    assert len(parse_one(BOUNDARY, body).message or b"") == 600_000


KINDS = st.sampled_from(
    [
        "",
        JSON,
        *LINES,
        FORM,
        MULTIPART,
        BOUNDARY,
        f'{MULTIPART}; boundary="cut',
        f"{MULTIPART}; boundary*=utf-8''%ff",
        f"{MULTIPART}; charset=no-such; boundary=cut",
    ]
) | st.text(max_size=30)
WORDS = st.sampled_from(
    [
        b"--cut", b"--cut--", b"\r\n", b"\r\n\r\n", b"Content-Disposition: form-data", b"; name=",
        b'"message"', b"Content-Type: text/plain; charset=no-such", b"Content-Length: 5", b"; ",
        b'"', b"filename*=utf-8''%ff", b'{"message":', b'{"channel":', b"}", b"[", b"]", b",",
        b'"\\ud800"', b"1e999", b"NaN", b"&", b"=", b"%", b"%ff", b"channel", b"event", b"gap",
        b"\n", b"\xff", b"\0",
    ]
)  # fmt: skip
BODIES = st.lists(WORDS | st.binary(max_size=5), max_size=15).map(b"".join)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
FIELDS = st.sampled_from(["channel", "message", "event", "idempotency_key", "key", "other"])


@given(KINDS, BODIES, st.dictionaries(FIELDS, st.lists(st.text(max_size=5), min_size=1)))
def test_any_request_raises_only_remote_protocol_error(
    kind: str, body: bytes, query: Query
) -> None:
    """
    Any request is answered 400 or 413, never 500.
    """
    _parse_or_refuse(kind, body, query)


@given(
    st.sampled_from([JSON, LINES[0]]),
    st.dictionaries(FIELDS, VALUES, max_size=4) | st.lists(VALUES, max_size=3),
)
def test_any_json_raises_only_remote_protocol_error(kind: str, value: Any) -> None:
    """
    Any JSON is answered 400 or 413, never 500.
    """
    _parse_or_refuse(kind, json.dumps(value).encode(), {})


def _parse_or_refuse(kind: str, body: bytes, query: Query) -> None:
    try:
        submissions = parse(kind, body, query, 5)
    except RemoteProtocolError as error:
        assert error.status in (400, 413)
        assert error.reason.encode()
        return
    assert 0 < len(submissions) <= 5
    for submission in submissions:
        assert submission.message is None or type(submission.message) is bytes
        for text in (
            *submission.channels,
            submission.event or "",
            submission.idempotency_key or "",
        ):
            assert text.encode() or text == ""
