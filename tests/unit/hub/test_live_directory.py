"""
Which live streams other nodes have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rt_twisted.hub.live_directory import (
    EXPIRE,
    INTERVAL,
    MAX_STREAMS,
    LiveAnnouncer,
    LiveDirectory,
)
from rt_twisted.model.internal_channels import STREAMS, is_unnamable


class Node:
    """
    A node that announces to *others*.
    """

    def __init__(self, name: str, *others: LiveDirectory) -> None:
        self.name = name
        self.others = others
        self.count = 0
        self.announcer = LiveAnnouncer(self.announce)

    def announce(self, values: Mapping[str, Any]) -> None:
        self.count += 1
        for directory in self.others:
            directory.receive(self.name, values)


def test_streams_of_several_nodes() -> None:
    """
    The streams of all nodes, by their prefix; those of a node that says nothing are gone.
    """
    clock = Clock()
    directory = LiveDirectory(clock.seconds)
    one, two = Node("one", directory), Node("two", directory)
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
    node = Node("one")
    for second in range(10):
        node.announcer.announce(("a",), float(second))
    assert node.count == 10 // INTERVAL
    node.announcer.announce(("a", "b"), 9.0)
    node.announcer.announce((), 9.0)
    count = node.count
    for second in range(10, 20):
        node.announcer.announce((), float(second))
    assert node.count == count


def test_an_announcement_is_not_late_if_its_call_is_early() -> None:
    """
    A list of a node that has started waits for the interval, not for the next call.
    """
    node = Node("one")
    for second in (0.3, 1.2999, 2.2998):
        node.announcer.announce(("a",), second)
    assert node.count == 2


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(st.dictionaries(st.just("streams") | st.text(), JSON))
def test_no_announcement_raises_an_error(values: dict[str, Any]) -> None:
    """
    Whatever another program publishes to the channel.
    """
    directory = LiveDirectory(lambda: 0.0)
    directory.receive("a", values)
    assert all(type(name) is str for name in directory.names(""))


def test_streams_of_a_node_are_bounded() -> None:
    """
    Of one with too many the first ones are listed.
    """
    directory = LiveDirectory(lambda: 0.0)
    Node("one", directory).announcer.announce(
        [f"{number:05}" for number in range(MAX_STREAMS + 1)], 0.0
    )
    names = directory.names("")
    assert len(names) == MAX_STREAMS
    assert max(names) == f"{MAX_STREAMS - 1:05}"


def test_clients_cannot_name_the_channel() -> None:
    """
    Only the daemon publishes there and subscribes to it.
    """
    assert is_unnamable(STREAMS)
