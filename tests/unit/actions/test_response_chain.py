"""
The lines for responses of applications: what they hand over to, and which headers they change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.chain_answer import AnswerAction
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.response_chain import ResponseDecision
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.routes import Routes, parse_entry
from tests.defaults import make_context, make_hub
from tests.unit.actions.test_chain import Asked

CLOCK = Clock()
CONTEXT = make_context(make_hub(MemoryBroker(CLOCK, "e"), CLOCK))
ROOT = Match(("/",), "")
# As uwsgi-sse-offload's README, and the set-ups of its users, have them.
BY_VARIABLE = ("final-route-if-not empty:${X-SSE-OFFLOAD} sse:${X-SSE-OFFLOAD}",)
BY_TYPE = (
    "collect-header Content-Type RESPONSE_TYPE",
    "pull-header X-SSE-Channel X_SSE_CHANNEL",
    "final-route-if equal:${RESPONSE_TYPE};event/stream sse:${X_SSE_CHANNEL}",
)
BY_HEADER = (
    "pull-header X-SSE-Offload SSE_OFFLOAD",
    "pull-header X-SSE-Channel SSE_CHANNEL",
    "response-route-if-not empty:${SSE_OFFLOAD} sse:subscribe=${SSE_CHANNEL}",
)


def decide(
    lines: Sequence[str],
    *headers: tuple[str, str],
    status: int = 200,
    match: Match = ROOT,
    variables: Mapping[str, str] | None = None,
    **request: Any,
) -> ResponseDecision:
    chains = Routes(parse_entry(line, CONTEXT) for line in lines).responses
    return chains.decide(Asked(**request), match, status, headers, variables or {})


def channel(decision: ResponseDecision, **request: Any) -> tuple[str, bool]:
    """
    Return the channel to which *decision* hands over, and whether the application grants it.
    """
    assert decision.hands_over
    assert decision.route is not None
    [template] = decision.route.action.subscribe
    exchange: Any = Asked(**request)
    return template.expand(exchange, decision.match), template.is_granted(decision.match)


def test_a_variable_that_the_application_sets() -> None:
    """
    Without it the response is sent as it is.
    """
    assert channel(decide(BY_VARIABLE, variables={"X-SSE-OFFLOAD": "clock"})) == ("clock", True)
    assert decide(BY_VARIABLE) == ResponseDecision(decide(BY_VARIABLE).match)
    assert decide(BY_VARIABLE, ("X-SSE-Offload", "x")).route is None
    assert decide(BY_VARIABLE, headers={"x-sse-offload": "x"}).route is None


def test_headers_become_variables() -> None:
    """
    Their names are compared without case, and of repeated headers the last counts.
    """
    headers = [
        ("content-TYPE", "event/stream"),
        ("X-SSE-channel", "first"),
        ("x-sse-Channel", "clock"),
        ("Foo", "Bar"),
    ]
    decision = decide(BY_TYPE, *headers)

    assert channel(decision) == ("clock", True)
    assert decision.effects.edit(headers) == [("content-TYPE", "event/stream"), ("Foo", "Bar")]
    other = decide(BY_TYPE, ("Content-Type", "text/event-stream"), ("X-SSE-Channel", "clock"))
    assert other.route is None
    assert other.effects.removed == {"x-sse-channel"}


def test_response_lines_come_before_final_lines() -> None:
    """
    What one chain has set is there for the next.
    """
    lines = (
        "final-route-run sse:final-${WHICH}",
        *BY_HEADER,
        "response-route-run addvar:WHICH=1",
    )

    sent = (("X-SSE-Offload", "y"), ("X-SSE-Channel", "c"))
    assert channel(decide(lines, *sent)) == ("c", True)
    assert channel(decide(lines)) == ("final-1", True)


@pytest.mark.parametrize(
    ("method", "status", "handed"),
    [
        ("GET", 200, True),
        ("GET", 299, True),
        ("HEAD", 200, True),
        ("POST", 200, False),
        ("GET", 403, False),
        ("GET", 302, False),
        ("GET", 500, False),
        ("OPTIONS", 204, False),
    ],
)
def test_only_successes_of_get_are_handed_over(method: str, status: int, handed: bool) -> None:
    """
    Others are sent, without the headers for the daemon; the line that would have handed them
    over is known, for the log.
    """
    sent = (("X-SSE-Offload", "y"), ("X-SSE-Channel", "c"))
    decision = decide(BY_HEADER, *sent, method=method, status=status)

    assert decision.hands_over is handed
    assert (decision.blocked is None) is handed
    assert decision.effects.removed == {"x-sse-offload", "x-sse-channel"}


@pytest.mark.parametrize(
    ("lines", "granted"),
    [
        (("final-route-run sse:fixed",), True),
        (("final-route-run sse:${X_SSE_CHANNEL}",), True),
        (("final-route-run sse:room-${FIRST}",), False),
        (("final-route-run sse:${HTTP_X}",), False),
        (("final-route-run sse:${qs[room]}",), False),
        (("final-route ^/(.*) sse:$1",), False),
        (("final-route-if regexp:${X_SSE_CHANNEL};(.*) sse:$1",), False),
        (("final-route-run addvar:A=a-${X_SSE_CHANNEL}", "final-route-run sse:${A}"), True),
        (("final-route-run addvar:A=${HTTP_X}", "final-route-run sse:${A}"), False),
        (("final-route ^/(.*) addvar:X_SSE_CHANNEL=$1", "final-route-run sse:${X_SSE_CHANNEL}"),
         False),
        (("pull-header X-Other HTTP_X", "final-route-run sse:${HTTP_X}"), False),
    ],
)  # fmt: skip
def test_who_has_named_the_channel(lines: Sequence[str], granted: bool) -> None:
    """
    The application grants what its own response names. What comes from the request of the
    client is not granted, whatever lines it passes through.
    """
    match = Match(("/",), "", variables={"FIRST": "${PATH_INFO}"})
    request: dict[str, Any] = {
        "headers": {"x": "secret"},
        "fields": {"room": ["secret"]},
        "path": "/secret",
    }
    lines = ("pull-header X-SSE-Channel X_SSE_CHANNEL", *lines)
    decision = decide(lines, ("X-SSE-Channel", "clock"), match=match, **request)

    assert channel(decision, **request)[1] is granted


def test_lines_that_change_headers_and_end_the_chain() -> None:
    """
    A line for a status, a jump, and the end of one chain; then the other chain.
    """
    lines = (
        "response-route-status 200 goto:ok",
        "response-route-run delheader:X-Debug",
        "response-route-run addheader:X-Failed: ${REQUEST_METHOD} ${PATH_INFO}",
        "response-route-run last:",
        "response-route-label ok",
        "response-route-run addheader:X-Fine: yes",
        "final-route-run log:done ${REQUEST_URI}",
    )

    fine = decide(lines, ("X-Debug", "1")).effects
    failed = decide(lines, ("X-Debug", "1"), status=500, path="/a").effects
    assert fine.edit([("X-Debug", "1")]) == [("X-Debug", "1"), ("X-Fine", "yes")]
    assert failed.edit([("x-debug", "1")]) == [("X-Failed", "GET /a")]
    assert fine.logged == failed.logged == ("done /",)


def test_lines_that_answer_instead_of_the_application() -> None:
    """
    Whatever the method and the status; in the final chain they only end it.
    """
    lines = ("response-route-status 404 redirect:/missing", "final-route-run sse:news")
    decision = decide(lines, status=404, method="POST")
    assert decision.route is not None
    assert isinstance(decision.route.action, AnswerAction)
    assert not decision.hands_over
    ends = ("final-route ^/a break:403 Forbidden", "final-route-run sse:news")
    assert decide(ends, path="/a").route is None
    assert decide(ends, path="/b").hands_over


def test_other_routes_have_no_lines() -> None:
    """
    Then responses need not be looked at.
    """
    assert not Routes([parse_entry("^/ sse:news", CONTEXT)]).responses
    for line in (*BY_VARIABLE, *BY_TYPE, *BY_HEADER):
        assert Routes([parse_entry(line, CONTEXT)]).responses


def test_internal_routes_are_not_reached_from_outside() -> None:
    """
    They are for paths that the application names.
    """
    routes = Routes([parse_entry("internal-route ^/-/sse/(.+)$ sse:$1", CONTEXT)])

    assert routes.find("GET", "/-/sse/room") is None
    found = routes.find_internal("/-/sse/room")
    assert found is not None
    assert found[1].groups[1] == "room"
    assert routes.find_internal("/other") is None
