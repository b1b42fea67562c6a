"""
The parts of the redis broker that need no server: URLs, the format of messages, gaps, and the
publisher.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from rt_twisted.brokers.redis.copies import CopyNames
from rt_twisted.brokers.redis.entries import (
    EVENT,
    ChannelSlice,
    Entry,
    find_gaps,
    merge,
    read_barrier,
    read_live,
    read_slice,
)
from rt_twisted.brokers.redis.errors import ResponseError
from rt_twisted.brokers.redis.publisher import RedisPublisher
from rt_twisted.brokers.redis.server import RedisServer
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Draft, Message, Position


@pytest.mark.parametrize(
    ("url", "server"),
    [
        ("redis", RedisServer((("redis", 6379),))),
        ("10.0.0.1:7000", RedisServer((("10.0.0.1", 7000),))),
        ("[::1]:7000", RedisServer((("::1", 7000),))),
        ("redis://h", RedisServer((("h", 6379),))),
        ("redis://h:7/3", RedisServer((("h", 7),), db=3)),
        ("redis://h?db=3", RedisServer((("h", 6379),), db=3)),
        ("redis://:p@h", RedisServer((("h", 6379),), password="p")),
        ("redis://u:p%40%2F%3A@h/1", RedisServer((("h", 6379),), "", "", "u", "p@/:", 1)),
        ("rediss://[fe80::1]", RedisServer((("fe80::1", 6379),), tls=True)),
        ("unix:///run/r.sock?db=2", RedisServer((), "/run/r.sock", db=2)),
        ("unix:/run/r.sock?db=2", RedisServer((), "/run/r.sock", db=2)),
        ("/run/r.sock", RedisServer((), "/run/r.sock")),
        ("/run/r%20?db=2", RedisServer((), "/run/r%20?db=2")),
        ("unix://u:p@/run/r.sock", RedisServer((), "/run/r.sock", "", "u", "p")),
        ("sentinel://a,b:1/m", RedisServer((("a", 26379), ("b", 1)), "", "m")),
        ("sentinels://:p@a/m/4", RedisServer((("a", 26379),), "", "m", "", "p", 4, True)),
    ],
)
def test_urls(url: str, server: RedisServer) -> None:
    """
    Each form of the address has one meaning.
    """
    assert RedisServer.parse(url) == server


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://h", "does not begin with http://"),
        ("redis://", "'' is not HOST or HOST:PORT"),
        ("redis://:secret@h:port", "'h:port' is not HOST"),
        ("redis://:secret/secret@h", "must be written %2F"),
        ("unix:run/r.sock", "'unix:run' is not HOST"),
        ("redis://h:70000", "'h:70000' is not HOST"),
        ("redis://h/x", "must be a number, not 'x'"),
        ("redis://h/1/2", "the number of the database only"),
        ("redis://h?tls=1", "has no parameter 'tls'"),
        ("redis://:sec#ret@h", "must be written %23"),
        ("unix://run/r.sock", "must begin with a slash"),
        ("sentinel://h", "must be followed by the master's name"),
    ],
)
def test_wrong_urls(url: str, reason: str) -> None:
    """
    The error is one sentence, without the password.
    """
    with pytest.raises(ValueError, match=reason) as raised:
        RedisServer.parse(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        (
            "OOM command not allowed. script: DIGEST, on @user_script:14.",
            "OOM command not allowed.",
        ),
        (
            "ERR ACL failure in script: you can't run this command script: DIGEST, on @f:3.",
            "ERR ACL failure in script: you can't run this command",
        ),
        (
            "ERR Error running script (call to f_DIGEST): @f:3: @f: 3: -OOM no memory",
            "OOM no memory",
        ),
        ("NOPERM this user has no permissions", "NOPERM this user has no permissions"),
    ],
)
def test_errors_of_redis_without_script_places(results: str, reason: str) -> None:
    """
    Errors of scripts in redis 6, 7 and 8, and other errors.
    """
    from rt_twisted.brokers.redis.errors import reason_of

    assert reason_of(Exception(results.replace("DIGEST", "0123456789" * 4))) == reason


def test_passwords_are_not_shown() -> None:
    """
    A password appears neither in logs nor in tracebacks.
    """
    server = RedisServer.parse("sentinel://u:secret@a,[::1]:5/m")

    assert str(server) == "a:26379,[::1]:5/m"
    assert "secret" not in repr(server)


def entry(offset: int, prev: int, channel: str = "a") -> Entry:
    return Entry(Message(channel, b"", Position("e", offset)), prev, 0)


def test_live_messages() -> None:
    """
    Any data and any event type is parsed.
    """
    data = b"a\nb \xff"
    assert read_live("a", b"e 7 5 2 my event\n" + data) == Entry(
        Message("a", data, Position("e", 7), "my event"), 5, EVENT
    )
    assert read_live("a", b"e 7 5 0 \n").message == Message("a", b"", Position("e", 7))
    assert read_barrier(b"e 7 tok") == (Position("e", 7), "tok")


@given(st.binary())
def test_others_may_publish_anything(payload: bytes) -> None:
    """
    A malformed payload of another program raises ValueError, and no other exception.
    """
    for read in (lambda: read_live("a", payload), lambda: read_barrier(payload)):
        try:
            read()
        except ValueError:
            continue


def test_what_is_too_old_is_left_out() -> None:
    """
    Entries that are too old are left out, in whichever order the rows are.
    """
    rows = [[b"7-0", [b"5 2000 0 0 ", b"x"]], [b"5-0", [b"0 1000 0 2 ev", b"y"]]]
    part = read_slice("a", "e", 3, 1500, b"7", rows)

    assert [one.offset for one in part.entries] == [7]
    both = read_slice("a", "e", 3, 0, None, rows)
    assert [(one.offset, one.prev, one.time) for one in both.entries] == [
        (5, 0, 1000.0),
        (7, 5, 2000.0),
    ]
    assert both.entries[0].message == Message("a", b"y", Position("e", 5), "ev")
    assert both.last == 0


@pytest.mark.parametrize(
    ("part", "offset", "gaps"),
    [
        (ChannelSlice([], 0, 0), 0, []),  # nothing ever
        (ChannelSlice([], 0, 9), 9, []),  # nothing that is young enough
        (ChannelSlice([], 0, 9), 8, [(8, 9)]),  # perhaps something too old
        (ChannelSlice([], 7, 0), 7, []),
        (ChannelSlice([], 7, 0), 6, [(6, 7)]),  # forgotten
        (ChannelSlice([entry(5, 3), entry(7, 5)], 7, 0), 3, []),
        (ChannelSlice([entry(5, 3), entry(7, 5)], 7, 0), 4, []),  # others' numbers between
        (ChannelSlice([entry(5, 3), entry(7, 5)], 7, 0), 5, []),
        (ChannelSlice([entry(5, 3), entry(7, 5)], 7, 0), 2, [(2, 3)]),
        (ChannelSlice([entry(5, 3), entry(9, 7)], 9, 0), 3, [(5, 7)]),  # one that was too large
        (ChannelSlice([entry(5, 3)], 8, 0), 3, [(5, 8)]),  # the last one was
    ],
)
def test_gaps_are_found(part: ChannelSlice, offset: int, gaps: list[tuple[int, int]]) -> None:
    """
    Each entry names the one before it, so that a missing message is found.
    """
    assert find_gaps(part, offset) == gaps


@given(st.data())
def test_stored_and_live_entries_are_merged(data: st.DataObject) -> None:
    """
    However they overlap: all known entries, once, in order; a gap for each message that neither
    has, behind the entries before it.
    """
    names = data.draw(st.lists(st.sampled_from("ab"), max_size=30))
    last = {"a": 0, "b": 0}
    log = []
    for number, name in enumerate(names, 1):
        log.append(entry(number, last[name], name))
        last[name] = number
    head = data.draw(st.integers(0, len(log)))
    listened = data.draw(st.integers(head, len(log)))
    fetched = data.draw(st.integers(listened, len(log)))
    gone = data.draw(st.sets(st.sampled_from(range(1, len(log) + 1)))) if log else set()
    live = [one for one in log if one.offset > listened]
    slices = {}
    for name in "ab":
        mine = [one for one in log[:fetched] if one.message.channel == name]
        kept = [one for one in mine if one.offset > head and one.offset not in gone]
        slices[name] = ChannelSlice(kept, mine[-1].offset if mine else 0, 0)

    merged, gaps = merge(live, slices, Position("e", head))

    known = {one.offset for one in live} | {
        one.offset for part in slices.values() for one in part.entries
    }
    assert [one.offset for one in merged] == sorted(known)
    lost = [one for one in log[head:] if one.offset not in known]
    for one in lost:
        name = one.message.channel
        following = [each.offset for each in log if each.message.channel == name
                     and each.offset in known and each.offset > one.offset]  # fmt: skip
        end = min(following, default=len(log) + 1)
        assert any(one.offset <= gap < end for gap, where in gaps if where == name)
    assert {gap for gap, _ in gaps} <= {one.offset for one in lost}


def _publisher(clock: Clock, call: Any) -> RedisPublisher:
    """
    Return a publisher that copies nothing.
    """
    copies = CopyNames("realtime:", True, "", "no")
    return RedisPublisher(clock, call, lambda: (1, 2, 3), lambda _: None, copies, lambda _: None, 0)


def test_a_message_that_is_too_large_for_redis_is_rejected_for_good() -> None:
    """
    Redis closes the connection over a message that is larger than its `proto-max-bulk-len`: 413,
    and the next one is not sent.
    """
    clock = Clock()
    calls: list[Deferred[Any]] = []

    def call(*arguments: Any) -> Deferred[Any]:
        calls.append(Deferred())
        return calls[-1]

    publisher = _publisher(clock, call)
    publisher.open()
    results: list[Any] = []
    publisher.publish([Draft("a", b"1"), Draft("a", b"x" * 100)]).addErrback(results.append)
    clock.advance(0)
    calls[0].errback(ResponseError("ERR Protocol error: invalid bulk length"))
    publisher.publish([Draft("a", b"1"), Draft("a", b"x" * 101)]).addErrback(results.append)

    assert [failure.value.status for failure in results] == [413, 413]
    publisher.publish([Draft("a", b"x" * 99)])
    clock.advance(0)
    assert len(calls) == 2


def test_other_errors_of_redis_are_temporary() -> None:
    """
    Other errors are 503, and do not lower the size limit.
    """
    clock = Clock()
    calls: list[Deferred[Any]] = []

    def call(*arguments: Any) -> Deferred[Any]:
        calls.append(Deferred())
        return calls[-1]

    publisher = _publisher(clock, call)
    publisher.open()
    results: list[Any] = []
    publisher.publish([Draft("a", b"1")]).addErrback(results.append)
    clock.advance(0)
    calls[0].errback(ResponseError("OOM command not allowed"))

    assert results[0].check(Unavailable)
    publisher.publish([Draft("a", b"1")])
    clock.advance(0)
    assert len(calls) == 2
