"""
Names of plain copies, and which pub/sub messages a node takes for copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.brokers.redis.copies import CopyNames
from rt_twisted.brokers.redis.receiver import RedisReceiver
from rt_twisted.brokers.redis.subscriptions import RedisSubscriptions
from rt_twisted.model.message import Draft, Position
from tests.fakes import RecordingReceiver


def names(out: str = "same", plain: bool = True, prefix: str = "") -> CopyNames:
    """
    Return the names of a node with the default `redis-prefix`.
    """
    return CopyNames("realtime:", plain, prefix, out)


@pytest.mark.parametrize(
    ("out", "route", "channel", "argument"),
    [
        ("no", None, "news", b""),
        ("same", None, "news", b"snews"),
        ("same", "no", "news", b""),
        ("out.", None, "news", b"oout.news"),
        ("no", "same", "news", b"snews"),
        ("no", "out.", "\u2603", b"oout.\xe2\x98\x83"),
        ("same", None, "realtime:0:m:news", b""),
        ("real", None, "time:0:m:news", b""),
    ],
)
def test_the_name_of_a_copy(out: str, route: str | None, channel: str, argument: bytes) -> None:
    """
    A copy has the channel's own name or one with a prefix; never one of the daemon's names.
    """
    assert names(out).of_draft(Draft(channel, b"", out=route)) == argument


def test_the_prefix_of_plain_messages_is_the_same() -> None:
    """
    `same` are the names of plain messages, and so is their prefix, spelled out.
    """
    for out in ("same", "in."):
        copies = names(out, prefix="in.")
        assert copies.of_draft(Draft("news", b"")) == b"sin.news"
        assert copies.of_plain("news") == b""
        assert copies.reserved(out) == b""
    assert names("out.", prefix="in.").of_plain("news") == b"oout.news"
    assert names("out.", prefix="in.").reserved("out.") == b"out."


@pytest.mark.parametrize("out", ["", "0", "1", "Yes", "false", "realtime:", "realtime:x", "i"])
def test_prefixes_that_cannot_be_used(out: str) -> None:
    """
    Truth values are ambiguous; the daemon's own names, and names of plain messages, are not free.
    """
    with pytest.raises(ValueError, match=r"redis-p|must be no, same, or a prefix"):
        names(prefix="in.").check(out)


@pytest.mark.parametrize("out", ["no", "same", "in.", "out.", "in.out.", "real"])
def test_prefixes_that_can_be_used(out: str) -> None:
    """
    Any other prefix is free, also one that begins with that of plain messages.
    """
    names(prefix="in.").check(out)


class Node:
    """
    The receiving half of a node, and what it does with each pub/sub message.
    """

    def __init__(self, copies: CopyNames) -> None:
        tokens = count(1)
        barriers: Any = SimpleNamespace(control=b"control", next_token=lambda: next(tokens))
        self.plain: list[tuple[str, bytes]] = []
        sequencer: Any = SimpleNamespace(
            on_plain=lambda *each: self.plain.append(each), on_numbered=lambda *_: None
        )
        history: Any = SimpleNamespace(epoch="e")
        self.subscriptions = RedisSubscriptions(
            Clock(), barriers, "realtime:", "realtime:0:", copies
        )
        self._receiver = RedisReceiver(
            barriers, self.subscriptions, history, sequencer, lambda _: None
        )
        self._receiver.receiver = RecordingReceiver()
        self._receiver.head = Position("e", 0)
        self._offsets = count(1)
        self.announcement = copies.announcement

    def join(self, *channels: str) -> Any:
        """
        Subscribe to *channels*; returns the connection's commands.
        """
        sent: list[tuple[str, tuple[Sequence[bytes], ...]]] = []
        pubsub: Any = SimpleNamespace(
            subscribe=lambda *names: sent.append(("subscribe", names)),
            unsubscribe=lambda *names: sent.append(("unsubscribe", names)),
        )
        for channel in channels:
            self.subscriptions.add(channel, Position("e", 0))
        self.subscriptions._send(pubsub)
        return sent

    def numbered(self, channel: str, data: bytes, flags: int | None = None) -> None:
        """
        Receive a numbered message, with *flags* or those of an announced copy.
        """
        flags = self.announcement if flags is None else flags
        head = b"e %d 0 %d \n" % (next(self._offsets), flags)
        self._receiver.on_message(b"realtime:0:m:" + channel.encode(), head + data)

    def message(self, name: bytes, data: bytes) -> None:
        """
        Receive any other message.
        """
        self._receiver.on_message(name, data)

    @property
    def received(self) -> list[bytes]:
        """
        Return the data that the hub has received.
        """
        receiver: Any = self._receiver.receiver
        return [message.data for message in receiver.messages]


@pytest.fixture
def node() -> Node:
    """
    Return a node that is subscribed to two channels.
    """
    node = Node(names())
    node.join("a", "b")
    return node


def test_only_the_next_message_is_the_copy(node: Node) -> None:
    """
    The copy is dropped, and the same bytes of another program behind it are not.
    """
    node.numbered("a", b"x")
    node.message(b"a", b"x")
    node.message(b"a", b"x")
    node.message(b"b", b"x")

    assert node.received == [b"x"]
    assert node.plain == [("a", b"x"), ("b", b"x")]


def test_without_an_announcement_nothing_is_dropped(node: Node) -> None:
    """
    Messages without a copy, of older nodes too, change nothing.
    """
    for flags in (0, 1, 2):
        node.numbered("a", b"x", flags)
        node.message(b"a", b"x")

    assert node.plain == [("a", b"x")] * 3


@pytest.mark.parametrize("name", [b"realtime:0:m:a", b"b", b"control", b"c"])
def test_the_copy_was_denied(node: Node, name: bytes) -> None:
    """
    The script publishes an empty text instead of a copy that redis denies. So nothing later is
    taken for it.
    """
    node.numbered("a", b"x")
    node.message(name, b"")
    node.message(b"a", b"x")

    assert ("a", b"x") in node.plain


def test_a_node_with_another_prefix(node: Node) -> None:
    """
    A node whose plain messages have other names receives no copies, and drops nothing.
    """
    node.numbered("a", b"x", names(prefix="in.").announcement)
    node.message(b"a", b"x")

    assert node.plain == [("a", b"x")]


def test_a_channel_is_left_and_joined_between_message_and_copy(node: Node) -> None:
    """
    The copy of a message that the node has ignored is ignored too.
    """
    node.subscriptions.remove("a")
    node.join()
    node.numbered("a", b"x")
    node.join("a")
    node.message(b"a", b"x")

    assert node.received == []
    assert node.plain == []


def test_both_names_are_subscribed_in_one_step() -> None:
    """
    A node never receives a message without its copy, or a copy without its message.
    """
    [(_, groups)] = Node(names()).join("a", "b")

    assert sorted(map(list, groups)) == [[b"realtime:0:m:a", b"a"], [b"realtime:0:m:b", b"b"]]


def test_reserved_names_carry_copies_only() -> None:
    """
    Names under another prefix are not subscribed to; those that are, are ignored from then on.
    """
    node = Node(names("out."))
    node.join("out.a", "a")
    node.subscriptions.reserve(b"out.")
    [(_, groups)] = node.join("out.b")
    node.message(b"out.a", b"x")
    node.message(b"a", b"y")

    assert list(groups) == [[b"realtime:0:m:out.b"]]
    assert node.plain == [("a", b"y")]
