"""
Formats by name: those of the package, and those of users.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from examples.own_format import Ndjson
from rt_twisted.formats import FORMATS, build_format, find_format, options_of
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.raw import Raw
from rt_twisted.model.message import Message, Position, Replay
from tests.contracts.formats import FormatContract
from tests.fakes import started
from tests.unit.actions.test_stream import body, publish
from tests.unit.http.clients import Place, get

OWN = "examples.own_format.Ndjson"
DATA = (b"x", b"", b"a\nb", b"\xff", "ü".encode())


@dataclass
class NotAFormat:
    """
    Provide nothing of `IFormat`.
    """


@pytest.mark.parametrize("name", [*FORMATS, OWN])
def test_each_format_keeps_the_contract(name: str) -> None:
    """
    Each format can be built without options, plain and chunked.
    """
    make = find_format(name)
    FormatContract((make(), Chunked(make())), (make(), Chunked(make())), DATA).check()


LIVE = ("unit/head", "unit/k 1 0 0 33367 0 0", "unit/d 1 33367 33367 33367 1 1", "unit/end")


@pytest.mark.parametrize(
    "name", ["poll-json", "poll-sse", "sse", "sse-json", "sseraw", "websocket-json"]
)
def test_text_formats_leave_live_streams_out(name: str) -> None:
    """
    Subscribers of text are sent nothing for a frame, and no empty chunk either.
    """
    format = build_format(name, True)
    for event in LIVE:
        assert format.encode(Message("cam", b"\x00\xff", Position("e", 7), event)) == b""


@pytest.mark.parametrize("name", ["poll-sse", "sse"])
def test_a_replay_that_ends_with_a_frame_has_a_cursor(name: str) -> None:
    """
    A client that resumes does not get what it has seen again.
    """
    frame = Message("cam", b"\x00", Position("e", 7), LIVE[1])

    assert started(build_format(name), Replay((frame,), True, frame.position)).endswith(
        b"id: e.7\n\n"
    )


def test_bare_streams_have_the_frames_of_live_streams() -> None:
    """
    Streams and raw websockets pass the payload on, as binary, and leave out heads and ends.
    """
    messages = [Message("cam", b"ab", Position("e", 7), event) for event in LIVE]

    assert [*map(build_format("raw").encode, messages)] == [b"", b"ab", b"ab", b""]
    assert [*map(build_format("websocket-raw").encode, messages)] == [
        b"",
        b"\x82\x02ab",
        b"\x82\x02ab",
        b"",
    ]


def test_equal_arguments_give_the_same_object() -> None:
    """
    Subscribers of equal formats are in one group, and compared by identity first.
    """
    one = build_format("raw", True, prefix=b"<", suffix=b">")
    assert one is build_format("raw", True, prefix=b"<", suffix=b">")
    assert one == Chunked(Raw(prefix=b"<", suffix=b">"))
    assert build_format("raw", prefix=b"<") == Raw(prefix=b"<")


def test_options_that_a_format_lacks_are_left_out() -> None:
    """
    An action may pass the options of all its formats.
    """
    assert options_of("sseraw") == {"retry", "padding"}
    assert options_of(OWN) == set()
    assert build_format("sseraw", retry=5, ids=False) == find_format("sseraw")(retry=5)


def test_a_format_that_does_not_exist() -> None:
    """
    The error lists the names that there are.
    """
    with pytest.raises(
        ValueError, match="unknown format 'no'; there are: elementary, fmp4, icecast, "
    ):
        find_format("no")
    with pytest.raises(ValueError, match=r"cannot load no\.such\.Format"):
        find_format("no.such.Format")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("format=no", "unknown format 'no'"),
        (f"format={OWN},prefix=<", f"format={OWN} has no prefix="),
        (f"format={OWN},suffix=>", f"format={OWN} has no suffix="),
        (f"format={OWN},type=text/plain", f"format={OWN} has no type="),
        ("format=rt_twisted.formats.FORMATS", "rt_twisted.formats.FORMATS cannot be called"),
        ("format=collections.OrderedDict", "format=collections.OrderedDict is not a format: "),
        (f"format={__name__}.NotAFormat", f"format={__name__}.NotAFormat is not a format: "),
    ],
)
def test_a_wrong_format_is_found_at_start(arguments: str, reason: str) -> None:
    """
    The route line is refused with one sentence.
    """
    with pytest.raises(ValueError) as error:
        Place(f"^/x$ stream:subscribe=news,{arguments}")
    assert str(error.value).startswith(reason)


def test_a_stream_in_a_format_of_ones_own() -> None:
    """
    The action frames the body in chunks; the format has no part in that.
    """
    place = Place(f"^/x$ stream:subscribe=news,history=1,format={OWN}")
    publish(place, b"one")
    subscriber = place.call(get(b"/x"))
    publish(place, b"two", b"\xff")

    assert b"Content-Type: application/x-ndjson\r\n" in subscriber.written()
    lines = [json.loads(line) for line in body(subscriber).splitlines()]
    assert [line.get("data", line.get("base64")) for line in lines] == [
        "one",
        None,
        "two",
        "/w==",
    ]
    assert lines[1] == {"position": lines[0]["position"]}


def test_ndjson() -> None:
    """
    Each message, gap and position is one JSON object in one line.
    """
    format, at = Ndjson(), Position("e", 7)
    message = Message("news", b"a\nb", at, "goal")

    assert json.loads(format.encode(message)) == {
        "channel": "news",
        "position": "e.7",
        "event": "goal",
        "data": "a\nb",
    }
    frames = started(format, Replay((message,), False, at)).splitlines()
    assert [json.loads(line).keys() for line in frames] == [
        {"gap"},
        {"channel", "position", "event", "data"},
        {"position"},
    ]
    assert (format.end(0), format.end(5)) == (b"", b'{"retry": 5}\n')
