"""
The cut test's generator, nemesis, options and report.
"""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionRefusedError, ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from extras.cuttest import parse, percentage, report
from rt_twisted.model.message import Position
from rt_twisted.tools.cuttest.generator import Generator
from rt_twisted.tools.cuttest.nemesis import Nemesis
from rt_twisted.tools.cuttest.published import Published


class FakeTarget:
    """
    A target that records connection attempts.
    """

    url = "http://127.0.0.1:8888/publish"

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def connect(self, factory: Any, number: int = 0) -> None:
        """
        Record the factory of a connection attempt.
        """
        self.calls.append(factory)

    def accept(self) -> StringTransport:
        """
        Connect the oldest attempt.
        """
        protocol = self.calls.pop(0).buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = transport.loseConnection  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        return transport


class GeneratorHarness:
    """
    A generator of channel 0, with its target.
    """

    def __init__(self) -> None:
        self.server = FakeTarget()
        self.clock = Clock()
        self.errors: Counter[str] = Counter()
        self.published = Published(["a"], 40, "77")
        self.generator = Generator(
            lambda: self.server,  # type: ignore[arg-type, return-value]
            "sesame",
            self.published,
            0,
            self.errors,
            self.clock,
        )

    def respond(self, status: int, body: bytes = b"", headers: str = "") -> None:
        """
        Receive a response of the server.
        """
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.generator.dataReceived(head.encode() + body)


def request(transport: StringTransport) -> tuple[str, dict[str, str]]:
    """
    Return the idempotency key and the body of the only request that was sent.
    """
    head, body = transport.value().decode().split("\r\n\r\n")
    assert head.count("POST /publish HTTP/1.1") == 1
    assert "Authorization: Bearer sesame" in head
    transport.clear()
    return head.partition("Idempotency-Key: ")[2].partition("\r\n")[0], json.loads(body)


def test_a_message_is_published_until_it_is_accepted() -> None:
    """
    A message is sent again with the same key after a 503, a lost connection, a failed connection
    or a timeout; then the next one is sent.
    """
    harness = GeneratorHarness()
    harness.generator.add(2)
    harness.server.calls.pop(0).clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    harness.clock.advance(1)
    transport = harness.server.accept()
    first = request(transport)
    assert first[1] == {"channel": "a", "message": harness.published.text(0, 0)}
    harness.respond(503, headers="Retry-After: 1\r\n")
    harness.clock.advance(0.9)
    assert transport.value() == b""
    harness.clock.advance(1)
    assert request(transport) == first
    harness.clock.advance(11)
    assert transport.disconnecting
    harness.generator.connectionLost()
    harness.clock.advance(1)
    transport = harness.server.accept()
    assert request(transport) == first
    assert harness.published.accepted(0) == 0
    harness.respond(200, b'{"position": "e.7"}')
    assert harness.published.position(0, 0) == Position("e", 7)
    assert request(transport)[1]["message"] == harness.published.text(0, 1)
    harness.respond(200, b'{"position": "e.9"}')

    assert harness.generator.idle
    assert (harness.generator.tried, harness.generator.refused) == (4, "")
    assert harness.errors.total() == 4
    harness.generator.close()
    assert harness.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [(401, b"", "status 401"), (200, b"{}", "no position in the response")],
)
def test_a_permanent_rejection_is_not_retried(status: int, body: bytes, why: str) -> None:
    """
    A permanent rejection is not retried, and its reason is recorded.
    """
    harness = GeneratorHarness()
    harness.generator.add()
    transport = harness.server.accept()
    request(transport)
    harness.respond(status, body)
    harness.clock.advance(60)

    assert harness.generator.refused == why
    assert transport.value() == b""
    harness.generator.close()


async def test_commands_run_at_random_moments(tmp_path: Path) -> None:
    """
    Commands run one at a time. A failure is logged with the end of its output. Servers that a
    command leaves running block nothing, and a command that hangs is killed.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    logged: list[str] = []
    file = tmp_path / "ran"
    commands = [f"echo x >> {file}; sleep 60 & echo $! >> {tmp_path}/left", "echo no >&2; exit 3"]
    nemesis = Nemesis(commands, 0.01, random.Random(1), loop, logged.append)
    nemesis.start()
    while nemesis.failed < 2 or not file.exists():
        await deferLater(loop, 0.01)
    await nemesis.stop()
    count = nemesis.count
    assert len(file.read_text().split()) + nemesis.failed == count
    assert "'echo no >&2; exit 3': exit status 3: no" in logged
    for pid in (tmp_path / "left").read_text().split():
        os.kill(int(pid), 9)
    hanging = Nemesis(
        [f"touch {tmp_path}/begun; sleep 60"], 0.01, random.Random(1), loop, logged.append
    )
    hanging.start()
    while not (tmp_path / "begun").exists():
        await deferLater(loop, 0.01)
    hanging.kill()
    await hanging.stop()
    assert (hanging.count, hanging.failed) == (1, 1)


class ExitingReactor(Clock):
    """
    A clock whose processes have ended when `spawnProcess` returns, as on a busy machine.
    """

    def spawnProcess(self, protocol: ProcessProtocol, *args: object, **kwargs: object) -> None:
        protocol.processEnded(Failure(ProcessDone(None)))


def test_a_command_that_ends_while_it_is_spawned() -> None:
    """
    Twisted reports an exit within `spawnProcess` if the process has ended by then. Another command
    follows, and stopping waits for nothing.
    """
    reactor = ExitingReactor()
    lines: list[str] = []
    nemesis = Nemesis(["true"], 1.0, random.Random(1), reactor, lines.append)
    nemesis.start()
    reactor.pump([1.5, 1.5])
    stopped: list[object] = []
    nemesis.stop().addCallback(stopped.append)

    assert (nemesis.count, nemesis.failed) == (2, 0)
    assert stopped
    assert reactor.getDelayedCalls() == []


def test_default_and_given_options() -> None:
    """
    Default URLs are those of the daemon, and default transports are all that can resume.
    """
    options, as_json = parse([])
    assert options.urls == ["http://127.0.0.1:8888/"]
    assert options.publish_urls == ["http://127.0.0.1:8888/publish"]
    names = [choice.name for choice, _ in options.transports]
    assert names == [
        "sse",
        "websocket",
        "poll",
        "socketio",
        "socketio-polling",
        "socketio-recovery",
    ]
    assert (options.chosen, as_json) == (False, False)
    assert parse([])[0].seed != options.seed

    options, _ = parse("-u http://h/a/ -u http://i/ --transport poll=/p --seed 7".split())
    assert options.publish_urls == ["http://h/a/publish", "http://i/publish"]
    assert [(choice.name, path) for choice, path in options.transports] == [("poll", "/p")]
    assert (options.chosen, options.seed) == (True, 7)


@pytest.mark.parametrize(
    "wrong",
    [
        "-n 0",
        "--channels ,",
        "--rate 0",
        "--transport stream",
        "--transport smoke",
        "--publish-url http://h/ -u http://h/ -u http://i/",
    ],
)
def test_wrong_options_are_errors(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    Wrong options give an error and exit status 2.
    """
    with pytest.raises(SystemExit, match="2"):
        parse(wrong.split())
    assert "error:" in capsys.readouterr().err


def test_only_a_full_delivery_is_100_percent() -> None:
    """
    The percentage is rounded down, so that a single loss is visible.
    """
    assert percentage(100.0) == "100.000"
    assert percentage(100 * 9_999_999 / 10_000_000) == "99.999"
    assert percentage(0) == "0.000"


def test_the_report_has_all_results() -> None:
    """
    The report has results by transport, incidents with their subscriber, errors and the seed.
    """
    counts = {
        "readers": 1, "cuts": 2, "recovered": 3, "tokens": 7, "owed": 1000, "delivered": 990,
        "percent": 99.0, "lost": 10, "repeated": 0, "out_of_order": 0, "stray": 0,
        "misplaced": 3, "gaps": 0, "lost_in_gaps": 0, "twice_over_gaps": 0,
    }  # fmt: skip
    incident = {
        "at": 1.5, "fault": "lost", "transport": "sse", "reader": 4, "channel": "a",
        "number": 17, "position": "e.9", "story": ["1.400 reset at e.8"],
    }  # fmt: skip
    text = report(
        {
            "transports": {"sse": counts}, "all": counts, "published": 1000, "requests": 1001,
            "seconds": 2.0, "publisher_cuts": 1, "disturbances": 2, "disturbances_failed": 1,
            "still_owed": 5, "left_out": {"poll": "status 404 at /poll"},
            "errors": {"publish: status 503": 1}, "incidents": [incident], "seed": 4711,
        }
    )  # fmt: skip
    for words in (
        "99.000", "1,000", "disturbed 2 times, 1 failed", "3 messages at another position",
        "5 deliveries had not arrived", "without poll: status 404", "1 x publish: status 503",
        "lost: a 17 at e.9, sse reader 4", "1.400 reset at e.8", "seed 4711",
        "servers restored sessions of Socket.IO 3 times", "subscribers got 7 tokens",
    ):  # fmt: skip
        assert words in text
