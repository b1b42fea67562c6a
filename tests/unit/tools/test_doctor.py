"""
The doctor's verdicts on its measurements, and its probe connection.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from rt_twisted.codecs.response import ReceivedHead
from rt_twisted.tools.doctor import findings as of
from rt_twisted.tools.doctor.command import parse
from rt_twisted.tools.doctor.findings import (
    CHECKS,
    Finding,
    Verdict,
    as_dicts,
    as_text,
    judge_headers,
    judge_idle,
    judge_resume,
    judge_version,
    worst,
)
from rt_twisted.tools.doctor.probe import ProbeConnection, ProbeTarget

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    ("arrivals", "closed", "now", "verdict", "words"),
    [
        (
            [0.0, 30.0, 60.0],
            None,
            65.0,
            Verdict.OK,
            "2 heartbeats in 65 s, the longest silence was 30",
        ),
        ([0.0], None, 65.0, Verdict.WARN, "no heartbeat in 65 s"),
        ([0.0], None, 10.0, Verdict.SKIP, "--patience"),
        ([0.0], 5.0, 5.0, Verdict.FAIL, "cut after 5.0 s of silence"),
        ([], 5.0, 5.0, Verdict.FAIL, "cut after 5.0 s of silence"),
        ([0.0, 10.0, 20.0], 50.0, 50.0, Verdict.FAIL, "cut after 30.0 s of silence"),
        ([0.0, 10.0, 20.0], 25.0, 25.0, Verdict.FAIL, "bounds its whole life"),
    ],
)
def test_the_end_of_an_idle_stream_is_explained(
    arrivals: list[float], closed: float | None, now: float, verdict: Verdict, words: str
) -> None:
    """
    A timeout of idle connections is distinguished from a limit of their age.
    """
    found = judge_idle(0.0, arrivals, closed, now)

    assert found.verdict is verdict
    assert words in found.detail


@pytest.mark.parametrize(
    ("got", "gap", "verdict", "words"),
    [
        (["2", "3"], False, Verdict.OK, "exactly"),
        (["2", "3"], True, Verdict.FAIL, "gap"),
        (["3"], False, Verdict.FAIL, "ignored"),
        (["1", "2", "3"], False, Verdict.FAIL, "already had"),
        (["3", "2"], False, Verdict.FAIL, "another order"),
    ],
)
def test_a_resume_is_exact_or_broken(
    got: list[str], gap: bool, verdict: Verdict, words: str
) -> None:
    """
    A resume is correct if each message arrives once, in order, without a gap.
    """
    found = judge_resume(["2", "3"], got, gap)

    assert found.verdict is verdict
    assert words in found.detail


def head_of(version: str = "1.1", **headers: str) -> ReceivedHead:
    return ReceivedHead(
        version, 200, [(name.replace("_", "-"), value) for name, value in headers.items()]
    )


@pytest.mark.parametrize(
    ("head", "verdict"),
    [
        (head_of(), Verdict.SKIP),
        (head_of("1.0"), Verdict.WARN),
        (head_of(via="1.1 a, 1.0 b"), Verdict.WARN),
        (head_of(via="1.1 a"), Verdict.SKIP),
    ],
)
def test_http_1_0_is_detected_in_version_and_via(head: ReceivedHead, verdict: Verdict) -> None:
    """
    HTTP/1.0 is detected by the response's version or in Via, and nowhere else.
    """
    assert judge_version(head).verdict is verdict


@pytest.mark.parametrize(
    ("head", "bare", "verdict"),
    [
        (head_of(cache_control="no-cache, no-transform"), False, Verdict.OK),
        (head_of(cache_control="No-Cache,No-Transform", content_length="0"), True, Verdict.OK),
        (head_of(cache_control="no-cache"), False, Verdict.WARN),
        (head_of(), False, Verdict.WARN),
        (head_of(cache_control="no-cache, max-age=60"), False, Verdict.FAIL),
        (head_of(cache_control="no-cache, no-transform", content_length="9"), False, Verdict.FAIL),
    ],
)
def test_changed_headers_are_detected(head: ReceivedHead, bare: bool, verdict: Verdict) -> None:
    """
    A missing header is a warning, one with the opposite meaning a failure.
    """
    assert judge_headers(head, bare).verdict is verdict


def test_the_worst_verdict_decides() -> None:
    """
    The worst verdict decides; skipped checks do not count.
    """
    everything = [Finding(of.REACH, verdict, "") for verdict in Verdict]

    assert worst(everything) is Verdict.FAIL
    assert worst(everything[:3]) is Verdict.WARN
    assert worst(everything[:2]) is Verdict.OK
    assert worst([]) is Verdict.OK


def test_fixes_are_shown_for_failed_checks() -> None:
    """
    The text shows the reason of each check, and fixes only where needed; JSON has everything.
    """
    good, bad = Finding(of.REACH, Verdict.OK, "so"), Finding(of.CACHE, Verdict.FAIL, "no")
    shown = as_text([good, bad])

    assert of.REACH.why in shown
    assert of.REACH.nginx not in shown
    assert f"nginx:   {of.CACHE.nginx}" in shown
    assert f"haproxy: {of.CACHE.haproxy}" in shown
    assert [value["nginx"] for value in as_dicts([good, bad])] == [of.REACH.nginx, of.CACHE.nginx]
    assert all(check.why and check.nginx and check.haproxy for check in CHECKS)


def test_the_publish_url_is_beside_the_stream() -> None:
    """
    `--publish` overrides the default URL for publishing.
    """
    assert parse(["https://h/a/events?x=1"]).publish == "https://h/a/publish"
    assert parse(["http://h/", "--publish", "http://i/in"]).publish == "http://i/in"


@pytest.mark.parametrize("url", ["h:8888", "ftp://h/", "http://", "http://h:99999/", ""])
def test_an_invalid_url_is_an_error(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    A text that is no URL gives an error and exit status 2.
    """
    with pytest.raises(SystemExit, match="2"):
        parse([url])
    assert "is not an http:// or https:// URL" in capsys.readouterr().err


class ProbeHarness:
    """
    A probe connection with a controlled clock.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.connection = ProbeConnection(self.clock, 5.0)
        self.transport = StringTransport()
        self.transport.abortConnection = lambda: None  # type: ignore[method-assign]
        self.connection.makeConnection(self.transport)  # type: ignore[no-untyped-call]  # Twisted's
        target = ProbeTarget(self.clock, "http://h:81/x", True, 5.0)
        self.connection.send(target.request("GET", target.path, {"Accept": "text/event-stream"}))

    def receive(self, data: bytes, after: float = 0.0) -> None:
        """
        Receive bytes after some seconds.
        """
        self.clock.advance(after)
        self.connection.dataReceived(data)

    def wait(self, condition: Any, seconds: float | None = None) -> list[bool]:
        """
        Return the result of `until` in a list; empty while it is pending.
        """
        detail: list[bool] = []
        ensureDeferred(self.connection.until(condition, seconds)).addCallback(detail.append)
        return detail


@pytest.fixture
def harness() -> ProbeHarness:
    return ProbeHarness()


def test_a_probe_records_arrival_times(harness: ProbeHarness) -> None:
    """
    The probe records when the head, bytes and events arrive.
    """
    connection = harness.connection
    assert harness.transport.value().startswith(b"GET /x HTTP/1.1\r\nHost: h:81\r\n")
    opened = harness.wait(lambda: connection.head is not None)
    harness.receive(HEAD, 1.0)
    assert opened == [True]
    found_text = harness.wait(lambda: "x" in connection.texts)
    harness.receive(b":\n\n", 1.0)
    assert found_text == []
    harness.receive(b"id: 4\ndata: x\n\n", 1.0)

    assert found_text == [True]
    assert (connection.opened, connection.arrivals, connection.last_id) == (1.0, [2.0, 3.0], "4")
    assert connection.events[0][0] == 3.0
    connection.close()


def test_a_probe_waits_until_its_timeout(harness: ProbeHarness) -> None:
    """
    A wait ends after the timeout of the probe or the caller, and at once if the connection is lost.
    """
    detail = harness.wait(lambda: False)
    sooner = harness.wait(lambda: False, 2.0)
    harness.clock.advance(3.0)
    assert (detail, sooner) == ([], [False])
    harness.clock.advance(2.5)
    assert detail == [False]
    cut = harness.wait(lambda: False)
    harness.connection.connectionLost()

    assert cut == [False]
    assert harness.connection.done
    assert harness.connection.closed == 5.5
    assert harness.clock.getDelayedCalls() == []


def test_a_probe_closes_a_connection_without_http(harness: ProbeHarness) -> None:
    """
    A connection that receives no HTTP is closed, and its reason says so.
    """
    detail = harness.wait(lambda: False)
    harness.receive(b"SSH-2.0-OpenSSH\r\n")

    assert detail == [False]
    assert "not HTTP" in harness.connection.reason
