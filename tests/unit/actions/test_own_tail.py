"""
The example action with a source of its own, and how a reload treats it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from examples.own_tail import CHUNK, INTERVAL, Tail
from rt_twisted.api import Keys
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.model.message import Message
from rt_twisted.routes import Routes, RouteServices, parse_route
from tests.defaults import make_channel_names, make_context, make_hub


class Tails:
    """
    Routes with `tail` actions, which are replaced as a reload replaces them.
    """

    def __init__(self, file: Path) -> None:
        self.clock = Clock()
        self.file = file
        self.published: list[bytes] = []
        hub = make_hub(MemoryBroker(self.clock, "e"), self.clock)
        receive = hub.receive

        def record(message: Message) -> None:
            self.published.append(message.data)
            receive(message)

        hub.receive = record  # type: ignore[method-assign]
        self.context = make_context(hub, self.clock)
        self.routes = self.build(f"^/a$ examples.own_tail.Tail:{file}", "^/b$ sse:log")
        self.services = RouteServices(self.routes)
        self.services.startService()  # type: ignore[no-untyped-call]

    def build(self, *lines: str) -> Routes:
        return Routes([parse_route(line, self.context) for line in lines])

    def reload(self, *lines: str) -> None:
        self.routes = self.build(*lines).keep_services(self.routes)
        self.services.replace(self.routes)

    def append(self, data: bytes) -> list[bytes]:
        """
        Append *data* to the file, and return what is published then.
        """
        self.published.clear()
        with self.file.open("ab") as file:
            file.write(data)
        self.clock.advance(INTERVAL)
        return list(self.published)

    @property
    def tail(self) -> Tail:
        [found] = self.routes.services
        assert isinstance(found, Tail)
        return found


@pytest.fixture
def tails(tmp_path: Path) -> Iterator[Tails]:
    file = tmp_path / "log"
    file.write_bytes(b"earlier\n")
    tails = Tails(file)
    yield tails
    tails.services.stopService()  # type: ignore[no-untyped-call]


def test_appended_lines_are_published(tails: Tails) -> None:
    """
    Each line is published once it is whole; a very long one goes in pieces.
    """
    assert tails.append(b"one\ntw") == [b"one"]
    assert tails.append(b"o\n\nthree\n") == [b"two", b"", b"three"]
    assert tails.append(b"x" * (CHUNK + 1)) == [b"x" * CHUNK]
    assert tails.append(b"\n") == [b"x"]


def test_a_reload_keeps_a_service_whose_line_is_unchanged(tails: Tails) -> None:
    """
    After a reload each line is still published once, by the same instance.
    """
    before = tails.tail
    tails.context = replace(tails.context, publish_keys=Keys(), names=make_channel_names())
    tails.reload("^/b$ sse:other", f"^/a$ examples.own_tail.Tail:{tails.file}")

    assert tails.tail is before
    assert tails.append(b"one\n") == [b"one"]


def test_a_reload_replaces_a_service_whose_line_or_settings_changed(tails: Tails) -> None:
    """
    The old instance is stopped and the new one started: each line is published once.
    """
    first = tails.tail
    tails.reload(f"^/a$ examples.own_tail.Tail:file={tails.file},channel=other")
    second = tails.tail
    assert second is not first
    assert not first.running
    assert tails.append(b"one\n") == [b"one"]

    tails.context = replace(tails.context, max_message=7)
    tails.reload(f"^/a$ examples.own_tail.Tail:file={tails.file},channel=other")
    assert tails.tail is not second
    assert not second.running
    assert tails.append(b"two\n") == [b"two"]


def test_a_reload_stops_a_service_that_is_gone(tails: Tails) -> None:
    """
    Nothing is published once the route line is removed.
    """
    first = tails.tail
    tails.reload("^/b$ sse:log")

    assert not first.running
    assert tails.append(b"one\n") == []
    assert not tails.clock.getDelayedCalls()


def test_the_same_line_twice_is_two_services(tails: Tails) -> None:
    """
    Each of two equal lines has its own instance, and both outlive a reload.
    """
    line = f"^/a$ examples.own_tail.Tail:{tails.file}"
    tails.reload(line, line)
    both = tails.routes.services
    tails.reload(line, line)

    assert len(both) == 2
    assert all(one is other for one, other in zip(both, tails.routes.services, strict=True))
    assert tails.append(b"one\n") == [b"one", b"one"]


def test_a_file_that_does_not_exist_is_an_error(tails: Tails) -> None:
    """
    The route line is wrong, and nothing is started.
    """
    with pytest.raises(ValueError, match="there is no file /no/such/file"):
        tails.build("^/a$ examples.own_tail.Tail:/no/such/file")
