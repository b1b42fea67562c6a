"""
Which live streams other nodes have.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from rt_twisted.hub.live_directory import (
    EXPIRE,
    INTERVAL,
    MAX_STREAMS,
    LiveAnnouncer,
    LiveDirectory,
)
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.internal_channels import STREAMS, is_unnamable
from rt_twisted.model.message import Draft


class Node:
    """
    A node that announces to *others*.
    """

    def __init__(self, *others: LiveDirectory) -> None:
        self.others = others
        self.count = 0
        self.away = False
        self.announcer = LiveAnnouncer(self.publish)

    def publish(self, drafts: Sequence[Draft]) -> Deferred[Any]:
        self.count += 1
        if self.away:
            return fail(Unavailable("the broker is away"))
        [draft] = drafts
        assert draft.channel == STREAMS
        assert draft.transient
        for directory in self.others:
            directory.receive(draft.data)
        return succeed(None)


def test_streams_of_several_nodes() -> None:
    """
    The streams of all nodes, by their prefix; those of a node that says nothing are gone.
    """
    clock = Clock()
    directory = LiveDirectory(clock.seconds)
    one, two = Node(directory), Node(directory)
    one.announcer.announce(("live/a", "other/b"), clock.seconds())
    two.announcer.announce(("live/c",), clock.seconds())
    assert directory.names("live/") == {"live/a", "live/c"}

    for _ in range(int(EXPIRE) + 1):
        clock.advance(1)
        one.announcer.announce(("live/a", "other/b"), clock.seconds())
    assert directory.names("live/") == {"live/a"}
    one.announcer.announce((), clock.seconds())
    assert directory.names("") == set()


def test_a_node_announces_changes_at_once_and_else_at_an_interval() -> None:
    """
    A node without streams announces that once, and then nothing.
    """
    node = Node()
    for second in range(10):
        node.announcer.announce(("a",), float(second))
    assert node.count == 10 // INTERVAL
    node.announcer.announce(("a", "b"), 9.0)
    node.announcer.announce((), 9.0)
    count = node.count
    for second in range(10, 20):
        node.announcer.announce((), float(second))
    assert node.count == count


def test_announcements_while_the_broker_is_away() -> None:
    """
    They are repeated, and fail without a trace in the log.
    """
    directory = LiveDirectory(lambda: 0.0)
    node = Node(directory)
    node.away = True
    node.announcer.announce(("a",), 0.0)
    node.away = False
    node.announcer.announce(("a",), INTERVAL)
    assert directory.names("") == {"a"}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(st.binary() | st.fixed_dictionaries({"node": JSON, "streams": JSON}) | JSON)
def test_no_announcement_raises_an_error(value: object) -> None:
    """
    Whatever another program publishes to the channel.
    """
    directory = LiveDirectory(lambda: 0.0)
    directory.receive(value if isinstance(value, bytes) else json.dumps(value).encode())
    assert all(type(name) is str for name in directory.names(""))


@pytest.mark.parametrize("count", [1001, 3000])
def test_nodes_are_bounded(count: int) -> None:
    """
    Announcements under ever other names do not fill the memory.
    """
    directory = LiveDirectory(lambda: 0.0)
    for number in range(count):
        data = {"node": str(number), "streams": [str(number)]}
        directory.receive(json.dumps(data).encode())
    assert len(directory.names("")) == 1000


def test_streams_of_a_node_are_bounded() -> None:
    """
    Of one with too many the first ones are listed.
    """
    directory = LiveDirectory(lambda: 0.0)
    Node(directory).announcer.announce([f"{number:05}" for number in range(MAX_STREAMS + 1)], 0.0)
    names = directory.names("")
    assert len(names) == MAX_STREAMS
    assert max(names) == f"{MAX_STREAMS - 1:05}"


def test_clients_cannot_name_the_channel() -> None:
    """
    Only the daemon publishes there and subscribes to it.
    """
    assert is_unnamable(STREAMS)
