"""
Channels and patterns of route lines.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.access.channel_names import MAX_PATTERN, MAX_PATTERNS
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.route_channels import expand_channels, read_channels
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.errors import HttpError
from rt_twisted.routes import parse_route
from tests.defaults import make_context, make_hub
from tests.unit.actions.test_template import FakeRequest

WORDS = ("sse", "sseraw", "stream", "poll", "websocket", "engine.io", "socket.io")


@pytest.fixture
def context() -> ActionContext:
    """
    The embedded broker, and the default settings.
    """
    clock = Clock()
    return make_context(make_hub(MemoryBroker(clock, "e"), clock))


def expanded(context: ActionContext, arguments: str, **fields: str) -> list[Selector]:
    action: Any = parse_route(f"^/(a)?x(.*) sse:{arguments}", context).action
    request: Any = FakeRequest({name: [value] for name, value in fields.items()})
    match = Match(("/x7", None, "7"), "")
    return expand_channels(context, action.subscribe, request, match, action.pattern)


@pytest.mark.parametrize("word", WORDS)
def test_every_action_that_subscribes_takes_patterns(context: ActionContext, word: str) -> None:
    """
    `pattern=yes` is an argument of each of them.
    """
    action: Any = parse_route(f"^/x {word}:subscribe=news.*,pattern=yes", context).action
    assert action.pattern is True


def test_only_channels_with_a_star_are_patterns(context: ActionContext) -> None:
    """
    Others of the same line are channels.
    """
    assert expanded(context, "subscribe=news.*,subscribe=alerts,pattern=yes") == [
        Wildcard.of("news.*"),
        "alerts",
    ]


def test_values_are_inserted_as_they_are(context: ActionContext) -> None:
    """
    Each user can have a pattern of its own.
    """
    line = "subscribe=user.${qs[u]}.*,subscribe=room.$2.*,pattern=yes"
    assert expanded(context, line, u="a.b?[c]") == [
        Wildcard.of("user.a.b?[c].*"),
        Wildcard.of("room.7.*"),
    ]


@pytest.mark.parametrize("value", ["", "*", "a*"])
def test_no_request_widens_a_pattern(context: ActionContext, value: str) -> None:
    """
    An empty value would match the channels of all users, and so would a star.
    """
    with pytest.raises(HttpError, match="is empty, or has a") as raised:
        expanded(context, "subscribe=user${qs[u]}*,pattern=yes", u=value)
    assert raised.value.status == 400
    with pytest.raises(HttpError):
        expanded(context, "subscribe=user$1*,pattern=yes")  # the group has not matched


def test_the_length_with_its_values_is_bounded(context: ActionContext) -> None:
    """
    A long value is a bad request.
    """
    action: Any = parse_route("^/ sse:subscribe=${qs[u]}.*,pattern=yes", context).action
    request: Any = FakeRequest({"u": ["x" * MAX_PATTERN]})
    with pytest.raises(HttpError) as raised:
        read_channels(context, action.subscribe, request, Match(("/",), ""), {}, True)
    assert raised.value.status == 400


def test_clients_request_no_patterns(context: ActionContext) -> None:
    """
    `?channels=*` is a bad request: only route lines have patterns.
    """
    request: Any = FakeRequest()
    for text in ("*", "news.*"):
        with pytest.raises(HttpError) as raised:
            read_channels(context, (), request, Match(("/",), ""), {"channels": [text]})
        assert raised.value.status == 400


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("pattern=yes", "pattern=yes needs a [*] in subscribe=, such as subscribe=news.[*]"),
        ("subscribe=a,pattern=yes", "pattern=yes needs a [*] in subscribe="),
        ("subscribe=news.*", "cannot be called 'news.[*]'; add pattern=yes if it is a pattern"),
        ("subscribe=news.*,pattern=no", "add pattern=yes"),
        ("subscribe=news.*,pattern=maybe", "pattern= must be yes or no, not 'maybe'"),
        ("subscribe=a*,subscribe=a b,pattern=yes", "a channel cannot be called 'a b'"),
        (f"subscribe={'x' * MAX_PATTERN}*,pattern=yes", "a pattern has up to 200 characters"),
        ("subscribe=a********b*,pattern=yes", "a pattern has up to 8 stars"),
        (
            "".join(f"subscribe=a{n}*," for n in range(MAX_PATTERNS + 1)) + "pattern=yes",
            "too many patterns: 16 are allowed",
        ),
    ],
)
def test_mistakes_in_a_line(context: ActionContext, arguments: str, reason: str) -> None:
    """
    They are found at the start.
    """
    for word in WORDS:
        with pytest.raises(ValueError, match=reason):
            parse_route(f"^/x {word}:{arguments}", context)
