"""
Exports to Graphite, also while carbon is unavailable.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.application.service import IService
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectionLost, ConnectionRefusedError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer, verify

from rt_twisted.metrics.carbon import (
    ADDRESS_SECONDS,
    CLOSE_SECONDS,
    MAX_DATAGRAM,
    MAX_PICKLE_SAMPLES,
    datagrams,
)
from rt_twisted.metrics.graphite import MAX_CHANNELS, MAX_NAME, GraphiteExporter, component
from rt_twisted.metrics.interfaces import IExporter
from rt_twisted.metrics.metrics import Histogram, Metrics

VALUE = rb"(\d+(?:\.\d+)?)"
LINE = re.compile(rb"cyclone-sse\.([A-Za-z0-9:@-][A-Za-z0-9_:@-]{0,199}) " + VALUE + rb" (\d+)\n")
OURS = re.compile(rb"cyclone-sse\.(_other|_daemon\.[a-z0-9_.]+) " + VALUE + rb" (\d+)\n")

HOSTILE = {
    "": "-",
    ".": "-",
    "news.sport": "news_sport",
    "a b 1 2\nforged.name 7 7": "a_b_1_2_forged_name_7_7",
    "../../etc/passwd": "-_____etc_passwd",
    "/news": "-news",
    "_daemon": "-daemon",
    "_daemon.readers": "-daemon_readers",
    "_other": "-other",
    "*{a,b}[c]?": "-_a_b__c__",
    "tag;name=value": "tag_name_value",
    "новости": "-______",
    "\u2028\x85\x0b\x1c\0": "-____",
    "\ud800": "-",
    "user:42@home": "user:42@home",
    "x" * 300: "x" * MAX_NAME,
}


@dataclass(slots=True)
class Counts:
    """
    Metrics with the values that a test gives.
    """

    channels: Mapping[str, int]
    subscribers: int = 3
    joining: int = 4
    patterns: int = 5
    broker_away: int = 1
    broker_refuses: int = 2
    behind: int = 1
    history_bytes: int = 4096
    live_bytes: int = 8192
    live_publishers: int = 1
    live_viewers: int = 6
    websockets: int = 2
    inbound_bytes: int = 1000
    joined: int = 10
    published: int = 20
    delivered: int = 30
    gaps: int = 2
    skips: int = 5
    live_units: int = 900
    live_received_bytes: int = 70000
    live_delivered: int = 5400
    websocket_frames: int = 50
    websocket_messages: int = 7
    inbound_dropped: int = 1
    tokens_verified: int = 8
    questions_asked: int = 9
    questions_cached: int = 4
    questions_failed: int = 2
    question_seconds: float = 0.25
    relayed: int = 8
    relay_tunnels: int = 1
    relay_unreachable: int = 2
    relay_broken: int = 3
    relay_timeouts: int = 4
    relay_refused: int = 5
    relay_seconds: float = 2.5
    wsgi_busy: int = 2
    wsgi_queued: int = 1
    wsgi_websockets: int = 4
    wsgi_requests: int = 11
    wsgi_failed: int = 3
    wsgi_refused: int = 2
    wsgi_timeouts: int = 1
    wsgi_seconds: float = 1.5
    uploads: int = 2
    uploaded_bytes: int = 900
    handovers_by_line: int = 6
    handovers_by_redirect: int = 5
    handovers_by_grip: int = 4
    revocations: int = 3
    jwks_age_seconds: float = 40.0
    closed: Mapping[str, int] = field(default_factory=lambda: {"left": 6, "behind": 1})
    subscribers_limit: int = 100
    waiting_bytes: int = 512
    requests: Mapping[int, int] = field(default_factory=lambda: {200: 35, 204: 5, 503: 4})
    refused: Mapping[str, Mapping[str, int]] = field(
        default_factory=lambda: {"readers": {"unavailable": 4}, "publishes": {"key": 1}}
    )
    fanout: Histogram = field(default_factory=Histogram)
    rates: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    uptime: float = 10.0
    cpu_seconds: float = 0.5
    memory_bytes: int = 1 << 25
    reactor_longest_hold_seconds: float = 0.125


DAEMON = {  # what is exported of `Counts`, without channels
    "channels": 1,
    "readers": 3,
    "joining": 4,
    "patterns": 5,
    "broker_away": 1,
    "broker_refuses": 2,
    "behind": 1,
    "waiting_bytes": 512,
    "history_bytes": 4096,
    "live_bytes": 8192,
    "live_publishers": 1,
    "live_viewers": 6,
    "websockets": 2,
    "inbound_bytes": 1000,
    "joined": 10,
    "published": 20,
    "delivered": 30,
    "gaps": 2,
    "skips": 5,
    "live_units": 900,
    "live_received_bytes": 70000,
    "live_delivered": 5400,
    "websocket_frames": 50,
    "websocket_messages": 7,
    "inbound_dropped": 1,
    "tokens_verified": 8,
    "questions_asked": 9,
    "questions_cached": 4,
    "questions_failed": 2,
    "question_seconds": 0.25,
    "wsgi_requests": 11,
    "wsgi_failed": 3,
    "wsgi_refused": 2,
    "wsgi_timeouts": 1,
    "relayed": 8,
    "relay_tunnels": 1,
    "relay_unreachable": 2,
    "relay_broken": 3,
    "relay_timeouts": 4,
    "relay_refused": 5,
    "relay_seconds": 2.5,
    "wsgi_seconds": 1.5,
    "uploads": 2,
    "uploaded_bytes": 900,
    "handovers_by_line": 6,
    "handovers_by_redirect": 5,
    "handovers_by_grip": 4,
    "memory_bytes": 1 << 25,
    "reactor_longest_hold_seconds": 0.125,
    "wsgi_busy": 2,
    "wsgi_queued": 1,
    "wsgi_websockets": 4,
    "revocations": 3,
    "jwks_age_seconds": 40.0,
    "uptime": 10.0,
    "cpu_seconds": 0.5,
    "turns": 0,
    "closed.left": 6,
    "closed.behind": 1,
    "requests.2xx": 40,
    "requests.5xx": 4,
    "refused.readers.unavailable": 4,
    "refused.publishes.key": 1,
    "rates.joined": 1.0,
    "rates.left": 0.7,
    "rates.published": 2.0,
    "rates.delivered": 3.0,
    "rates.requests": 4.4,
    "rates.cpu": 0.05,
}


class FakeResolver:
    """
    Resolves as `answers` says; later, when `answer` is called.
    """

    def __init__(self) -> None:
        self.answers: list[str] = ["192.0.2.1"]
        self.lookups: list[tuple[str, str]] = []
        self._waiting: list[Any] = []

    def resolveHostName(
        self,
        receiver: Any,
        name: str,
        port: int = 0,
        types: object = None,
        transportSemantics: str = "TCP",
    ) -> None:
        self.lookups.append((name, transportSemantics))
        self._waiting.append(receiver)

    def answer(self) -> None:
        """
        Answer all queries.
        """
        waiting, self._waiting = self._waiting, []
        for receiver in waiting:
            receiver.resolutionBegan(None)
            for host in self.answers:
                family = IPv6Address if ":" in host else IPv4Address
                receiver.addressResolved(family("UDP", host, 2003))
            receiver.resolutionComplete()


class FakePort:
    """
    A UDP port that records what is written.
    """

    def __init__(self, interface: str) -> None:
        self.interface = interface
        self.peer: tuple[str, int] | None = None
        self.sent: list[bytes] = []
        self.open = True
        self.error: OSError | None = None

    def write(self, datagram: bytes, peer: tuple[str, int]) -> None:
        """
        Record *datagram*, or fail.
        """
        self.peer = peer
        if self.error:
            raise self.error
        self.sent.append(datagram)

    def stopListening(self) -> None:
        self.open = False


class FakeReactor(MemoryReactorClock):
    """
    A memory reactor with UDP ports and names.
    """

    def __init__(self) -> None:
        MemoryReactorClock.__init__(self)
        self.names = FakeResolver()
        self.sockets: list[FakePort] = []
        self.error: OSError | None = None

    def listenUDP(self, port: int, protocol: object, interface: str = "") -> FakePort:
        if self.error:
            raise CannotListenError(interface, port, self.error)
        self.sockets.append(FakePort(interface))
        return self.sockets[-1]


@pytest.fixture
def reactor() -> FakeReactor:
    """
    A reactor without a network.
    """
    return FakeReactor()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """
    What the exporter logs.
    """
    texts: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if event["log_namespace"].startswith("rt_twisted.metrics."):
            texts.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield texts
    globalLogPublisher.removeObserver(observe)


def by_udp(reactor: FakeReactor, node: str = "") -> GraphiteExporter:
    """
    Return an exporter that has carbon's address.
    """
    reactor.nameResolver = reactor.names  # type: ignore[assignment]  # it need not verify
    exporter = GraphiteExporter(reactor, "carbon.example", 2003, "cyclone-sse", "udp", node)
    IService(exporter).startService()
    reactor.names.answer()
    return exporter


def by_tcp(reactor: FakeReactor, protocol: str = "tcp") -> GraphiteExporter:
    """
    Return an exporter that has begun to connect.
    """
    exporter = GraphiteExporter(reactor, "carbon.example", 2003, "cyclone-sse", protocol)
    IService(exporter).startService()
    return exporter


class Carbon:
    """
    The server's end of the newest connection attempt of *reactor*.
    """

    def __init__(self, reactor: FakeReactor) -> None:
        self._factory: Any = reactor.tcpClients[-1][2]
        self._connector: Any = reactor.connectors[-1]
        self.transport: Any = StringTransport()

    def accept(self) -> None:
        """
        Accept the connection.
        """
        self._protocol = self._factory.buildProtocol(None)
        self._protocol.makeConnection(self.transport)

    def refuse(self) -> None:
        """
        Refuse the connection.
        """
        self._factory.clientConnectionFailed(self._connector, Failure(ConnectionRefusedError()))

    def vanish(self) -> None:
        """
        Break the connection.
        """
        self._protocol.connectionLost(Failure(ConnectionLost()))

    def values(self) -> dict[str, float]:
        """
        Return the values received since the last call, by name without the path.
        """
        values = parse(self.transport.value())
        self.transport.clear()
        return values


def parse(data: bytes) -> dict[str, float]:
    """
    Return values by name without the path; every line must be well formed.
    """
    values: dict[str, float] = {}
    for line in data.splitlines(keepends=True):
        found = LINE.fullmatch(line) or OURS.fullmatch(line)
        assert found, line
        assert found[1].decode() not in values
        values[found[1].decode()] = float(found[2])
    return values


def shown(reactor: FakeReactor) -> dict[str, float]:
    """
    Return what the newest socket sent since the last call.
    """
    sent = b"".join(reactor.sockets[-1].sent)
    reactor.sockets[-1].sent.clear()
    return parse(sent)


def ended(exporter: IService) -> list[bool]:
    """
    Stop *exporter*; the list gets True when it has stopped.
    """
    done: list[bool] = []
    stopping: Deferred[object] = exporter.stopService()
    stopping.addCallback(lambda _: done.append(True))
    return done


def wait(reactor: FakeReactor) -> None:
    """
    Advance half a minute in steps: endpoint and retries set timers of their own.
    """
    reactor.pump([0.25] * 120)


@pytest.mark.parametrize("protocol", ["udp", "tcp", "pickle"])
def test_provides_its_interfaces(reactor: FakeReactor, protocol: str) -> None:
    """
    A GraphiteExporter provides IExporter and IService.
    """
    exporter = GraphiteExporter(reactor, "::1", 2003, "sse.", protocol)

    assert verify.verifyObject(IExporter, exporter)
    assert verify.verifyObject(IService, exporter)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": ""},
        {"port": 0},
        {"port": 65536},
        {"path": ""},
        {"path": "a b"},
        {"path": "a..b"},
        {"path": "é"},
        {"path": "a\n"},
        {"path": "x" * 201},
        {"protocol": "json"},
    ],
)
def test_wrong_arguments_are_errors_at_start(reactor: FakeReactor, wrong: dict[str, Any]) -> None:
    """
    A wrong setting is one sentence, before anything is opened.
    """
    right: dict[str, Any] = {
        "host": "carbon",
        "port": 2003,
        "path": "cyclone-sse",
        "protocol": "udp",
    }

    with pytest.raises(ValueError, match="graphite"):
        GraphiteExporter(reactor, **right | wrong)


@pytest.mark.parametrize(("channel", "name"), HOSTILE.items())
def test_any_name_is_one_component(channel: str, name: str) -> None:
    """
    Whatever a client calls its channel, carbon sees one component.
    """
    assert component(channel) == name


@given(st.dictionaries(st.text(st.characters()), st.integers(1, 10**6), max_size=50))
def test_any_channels_are_well_formed_lines(channels: dict[str, int]) -> None:
    """
    No line can be forged, and the lines add up to all subscribers.
    """
    reactor = FakeReactor()
    by_udp(reactor).export(Counts(channels), 1e9)

    values = shown(reactor)

    of_channels = [count for name, count in values.items() if not name.startswith("_")]
    assert sum(of_channels) == sum(channels.values())
    assert {name for name in values if not name.startswith("_")} == set(map(component, channels))
    assert values["_daemon.channels"] == len(channels)
    assert values["_other"] == 0


@given(st.lists(st.integers(2, MAX_DATAGRAM), max_size=100))
def test_datagrams_hold_whole_lines(sizes: list[int]) -> None:
    """
    All lines arrive in order, in datagrams that need no fragments.
    """
    lines = [b"x" * (size - 1) + b"\n" for size in sizes]

    sent = list(datagrams(lines))

    assert b"".join(sent) == b"".join(lines)
    assert all(0 < len(datagram) <= MAX_DATAGRAM for datagram in sent)
    assert all(datagram.endswith(b"\n") for datagram in sent)
    # As few as possible in this order: no datagram had room for the next line.
    for datagram, following in pairwise(sent):
        assert len(datagram) + following.index(b"\n") + 1 > MAX_DATAGRAM


def test_lines_are_what_cyclone_sse_sent(reactor: FakeReactor) -> None:
    """
    Dashboards made for cyclone-sse still work: its names, whole seconds.
    """
    by_udp(reactor).export(Counts({"news": 2, "chat": 1}), 1700000000.9)

    lines = b"".join(reactor.sockets[0].sent).splitlines()
    assert lines[:2] == [
        b"cyclone-sse.news 2 1700000000",
        b"cyclone-sse.chat 1 1700000000",
    ]
    assert reactor.sockets[0].peer == ("192.0.2.1", 2003)


def test_the_daemon_has_a_subtree(reactor: FakeReactor) -> None:
    """
    Its totals stand apart from all channels, whatever those are called.
    """
    by_udp(reactor).export(Counts({"_daemon": 7, "_daemon.readers": 8, "_other": 9}), 1.0)

    assert shown(reactor) == {
        "-daemon": 7,
        "-daemon_readers": 8,
        "-other": 9,
        "_other": 0,
        **{f"_daemon.{name}": value for name, value in (DAEMON | {"channels": 3}).items()},
    }


def test_a_node_has_its_own_subtree(reactor: FakeReactor) -> None:
    """
    Several daemons share a path; the dots of a host name make no sub-trees.
    """
    by_udp(reactor, "web1.example").export(Counts({"news": 2}), 1.0)

    assert reactor.sockets[0].sent[0].startswith(b"cyclone-sse.web1_example.news 2 1\n")


def test_channels_with_one_name_are_summed(reactor: FakeReactor) -> None:
    """
    FakeResolver with the same component are one line with all their subscribers.
    """
    by_udp(reactor).export(Counts({"a.b": 1, "a b": 2, "a_b": 4}), 1.0)

    assert shown(reactor)["a_b"] == 7


def test_a_channel_that_vanished_is_zero_once(reactor: FakeReactor) -> None:
    """
    A graph falls to zero when the last subscriber leaves, and then costs nothing.
    """
    exporter = by_udp(reactor)
    exporter.export(Counts({"news": 2, "a.b": 1, "a/b": 1}), 1.0)
    shown(reactor)

    exporter.export(Counts({"a/b": 1}), 2.0)
    second = shown(reactor)
    exporter.export(Counts({"a/b": 1}), 3.0)
    third = shown(reactor)

    assert (second["news"], second["a_b"]) == (0, 1)
    assert "news" not in third


def test_only_the_biggest_channels_are_shown(reactor: FakeReactor) -> None:
    """
    Clients that invent channels cannot fill carbon's disk at once.
    """
    exporter = by_udp(reactor)
    channels = {f"c{number}": 1 for number in range(MAX_CHANNELS + 50)}
    exporter.export(Counts(channels | {"a": 5}), 1.0)
    first = shown(reactor)
    exporter.export(Counts({f"d{number}": 2 for number in range(MAX_CHANNELS)} | channels), 2.0)
    second = shown(reactor)

    names = [name for name in first if not name.startswith("_")]
    assert len(names) == MAX_CHANNELS
    assert first["a"] == 5
    assert first["_other"] == 51
    assert first["_daemon.channels"] == MAX_CHANNELS + 51
    # Channels that only became small are no zero: they still have subscribers.
    assert second["_other"] == MAX_CHANNELS + 50
    assert second["a"] == 0
    assert "c0" not in second


def test_an_error_does_not_reach_the_caller(
    reactor: FakeReactor, clean_reactor: list[Failure]
) -> None:
    """
    Whatever fails, the next export is attempted.
    """
    exporter = by_udp(reactor)
    numbers: Any = None
    exporter.export(numbers, 1.0)
    exporter.export(Counts({"news": 1}), 2.0)

    assert len(clean_reactor) == 1
    clean_reactor.clear()
    assert shown(reactor)["news"] == 1


def test_nothing_is_sent_unless_it_runs(reactor: FakeReactor) -> None:
    """
    Before start and after stop an export is dropped, and no socket is open.
    """
    exporter = by_udp(reactor)
    ended(exporter)
    reactor.advance(ADDRESS_SECONDS)
    exporter.export(Counts({"news": 1}), 1.0)
    reactor.names.answer()

    assert not reactor.sockets[0].open
    assert reactor.sockets[0].sent == []
    assert len(reactor.sockets) == 1


def test_a_name_that_comes_after_the_stop_opens_nothing(reactor: FakeReactor) -> None:
    """
    A slow name server cannot leave a socket open.
    """
    reactor.nameResolver = reactor.names  # type: ignore[assignment]  # it need not verify
    exporter = GraphiteExporter(reactor, "carbon.example", 2003, "cyclone-sse", "udp")
    IService(exporter).startService()
    ended(exporter)
    reactor.names.answer()

    assert reactor.sockets == []


@pytest.mark.parametrize(
    ("answers", "peer", "interface"),
    [
        (["2001:db8::1"], "2001:db8::1", "::"),
        (["2001:db8::1", "203.0.113.1"], "203.0.113.1", ""),
        (["192.0.2.7", "192.0.2.8"], "192.0.2.7", ""),
    ],
)
def test_udp_prefers_ipv4(
    reactor: FakeReactor, answers: list[str], peer: str, interface: str
) -> None:
    """
    Carbon binds IPv4 by default; IPv6 is used where there is no other address.
    """
    reactor.names.answers = answers
    by_udp(reactor).export(Counts({}), 1.0)

    assert reactor.names.lookups == [("carbon.example", "UDP")]
    assert reactor.sockets[0].peer == (peer, 2003)
    assert reactor.sockets[0].interface == interface


def test_udp_follows_a_name_that_moves(reactor: FakeReactor, logged: list[str]) -> None:
    """
    The name is resolved again at intervals; while that fails the old address is used.
    """
    exporter = by_udp(reactor)
    exporter.export(Counts({"news": 1}), 1.0)
    early_lookups = len(reactor.names.lookups)
    shown(reactor)

    reactor.advance(ADDRESS_SECONDS)
    reactor.names.answers = []
    exporter.export(Counts({"news": 2}), 2.0)
    reactor.names.answer()
    shown(reactor)
    exporter.export(Counts({"news": 3}), 3.0)
    old = shown(reactor)["news"]

    reactor.names.answers = ["192.0.2.9"]
    reactor.names.answer()
    exporter.export(Counts({"news": 4}), 4.0)

    assert early_lookups == 1
    assert old == 3
    assert [socket.open for socket in reactor.sockets] == [False, True]
    assert reactor.sockets[1].peer == ("192.0.2.9", 2003)
    assert shown(reactor)["news"] == 4
    assert logged == []


def test_udp_stays_while_its_address_is_one_of_the_answers(reactor: FakeReactor) -> None:
    """
    A name server that rotates its answers does not scatter the samples.
    """
    exporter = by_udp(reactor)
    reactor.advance(ADDRESS_SECONDS)
    reactor.names.answers = ["192.0.2.8", "192.0.2.1"]
    exporter.export(Counts({"news": 1}), 1.0)
    reactor.names.answer()

    assert len(reactor.sockets) == 1
    assert len(reactor.names.lookups) == 2


def test_an_unknown_name_is_logged_once(reactor: FakeReactor, logged: list[str]) -> None:
    """
    Each export resolves again; the log has the loss once and the return once.
    """
    reactor.names.answers = []
    exporter = by_udp(reactor)
    for second in range(5):
        exporter.export(Counts({"news": 1}), second)
        reactor.names.answer()
    reactor.names.answers = ["192.0.2.1"]
    for second in range(5):
        exporter.export(Counts({"news": 1}), second)
        reactor.names.answer()

    assert logged == [
        "carbon at carbon.example, port 2003: lost, its name cannot be resolved",
        "carbon at carbon.example, port 2003: back",
    ]


@pytest.mark.parametrize("when", ["opening", "sending"])
def test_a_failing_network_is_logged_once(
    reactor: FakeReactor, logged: list[str], when: str
) -> None:
    """
    An unreachable network neither raises nor fills the log, and recovers by itself.
    """
    if when == "opening":
        reactor.error = OSError(101, "Network is unreachable")
    exporter = by_udp(reactor)
    if when == "sending":
        reactor.sockets[0].error = OSError(101, "Network is unreachable")
    for second in range(3):
        exporter.export(Counts({"news": 1}), second)
        reactor.names.answer()
    reactor.error = None
    for socket in reactor.sockets:
        socket.error = None
    for second in range(3):
        exporter.export(Counts({"news": 1}), second)
        reactor.names.answer()

    assert len(logged) == 2
    assert "Network is unreachable" in logged[0]
    assert logged[1].endswith("back")
    assert sum(socket.open for socket in reactor.sockets) == 1


def test_tcp_sends_over_one_connection(reactor: FakeReactor, logged: list[str]) -> None:
    """
    Exports follow each other; without faults nothing is logged.
    """
    exporter = by_tcp(reactor)
    carbon = Carbon(reactor)
    carbon.accept()
    exporter.export(Counts({"news": 1}), 1.0)
    first = carbon.values()
    exporter.export(Counts({"news": 2}), 2.0)

    assert first["news"] == 1
    assert carbon.values()["news"] == 2
    assert len(reactor.tcpClients) == 1
    assert logged == []


def test_rates_are_those_between_two_exports(reactor: FakeReactor) -> None:
    """
    The first rates are since the start; after a pause they cover all of it.
    """
    exporter = by_udp(reactor)
    exporter.export(Counts({}), 1.0)
    first = shown(reactor)
    exporter.export(Counts({}, published=140, uptime=70.0, cpu_seconds=30.5), 2.0)
    second = shown(reactor)
    exporter.export(Counts({}, published=140, uptime=70.0), 3.0)

    assert first["_daemon.rates.published"] == 2
    assert second["_daemon.rates.published"] == 2
    assert second["_daemon.rates.delivered"] == 0
    assert second["_daemon.rates.cpu"] == 0.5
    assert "_daemon.rates.published" not in shown(reactor)  # no time has passed


def test_quantiles_are_those_between_two_exports(reactor: FakeReactor) -> None:
    """
    A slow minute is visible in that minute, and a quiet one has no value.
    """
    exporter = by_udp(reactor)
    numbers = Counts({})
    for _ in range(100):
        numbers.fanout.observe(0.0009)
    exporter.export(numbers, 1.0)
    first = shown(reactor)
    exporter.export(numbers, 2.0)
    quiet = shown(reactor)
    numbers.fanout.observe(0.2)
    exporter.export(numbers, 3.0)
    slow = shown(reactor)

    assert 0.0005 < first["_daemon.fanout_seconds.p50"] < first["_daemon.fanout_seconds.p99"]
    assert first["_daemon.fanout_seconds.p99"] <= 0.001
    assert not [name for name in quiet if "fanout" in name]
    assert 0.1 < slow["_daemon.fanout_seconds.p50"] <= 0.25
    assert slow["_daemon.turns"] == 101


def test_what_the_hub_counts_can_be_exported(reactor: FakeReactor) -> None:
    """
    The daemon exports `Metrics`.
    """
    metrics: Any = Metrics(channels={"news": 1}, uptime=1.0)
    by_udp(reactor).export(metrics, 1.0)

    assert shown(reactor)["news"] == 1


@given(st.dictionaries(st.text(st.characters()), st.integers(1, 10**6), max_size=20))
def test_pickles_are_what_carbon_reads(channels: dict[str, int]) -> None:
    """
    Pickles have the values of the lines, each after its length, within carbon's bounds.
    """
    reactor = FakeReactor()
    exporter = by_tcp(reactor, "pickle")
    carbon = Carbon(reactor)
    carbon.accept()
    by_lines = FakeReactor()
    by_udp(by_lines).export(Counts(channels), 1e9)
    exporter.export(Counts(channels), 1e9)

    samples = unpickled(carbon.transport.value())

    values = {path.removeprefix("cyclone-sse."): value for path, (_, value) in samples}
    assert len(samples) == len(values)
    assert values == shown(by_lines)
    assert {stamp for _, (stamp, _) in samples} == {10**9}


def test_many_channels_are_several_pickles(reactor: FakeReactor) -> None:
    """
    Carbon closes the connection on a pickle of more than a megabyte.
    """
    exporter = by_tcp(reactor, "pickle")
    carbon = Carbon(reactor)
    carbon.accept()
    exporter.export(Counts({f"{number:0200}": 1 for number in range(MAX_CHANNELS)}), 1e9)

    data = carbon.transport.value()
    sizes = []
    while data:
        size = int.from_bytes(data[:4], "big")
        sizes.append(size)
        data = data[4 + size :]

    assert len(sizes) == -(-(MAX_CHANNELS + len(DAEMON) + 1) // MAX_PICKLE_SAMPLES)
    assert max(sizes) < 1 << 20
    assert len(unpickled(carbon.transport.value())) == MAX_CHANNELS + len(DAEMON) + 1


def unpickled(data: bytes) -> list[tuple[str, tuple[int, float]]]:
    """
    Return the samples in *data*, which must be whole.
    """
    samples: list[tuple[str, tuple[int, float]]] = []
    while data:
        size = int.from_bytes(data[:4], "big")
        assert len(data) >= 4 + size
        samples += pickle.loads(data[4 : 4 + size])
        data = data[4 + size :]
    return samples


def test_tcp_keeps_the_newest_export_while_carbon_is_away(
    reactor: FakeReactor, logged: list[str]
) -> None:
    """
    On its return carbon gets the last export and no other, with the zeros it missed.
    """
    exporter = by_tcp(reactor)
    carbon = Carbon(reactor)
    carbon.accept()
    exporter.export(Counts({"news": 1, "chat": 1}), 1.0)
    carbon.vanish()
    for second in range(2, 100):
        exporter.export(Counts({"news": second}), second)
    wait(reactor)
    Carbon(reactor).refuse()
    wait(reactor)
    again = Carbon(reactor)
    again.accept()

    values = again.values()
    assert len(reactor.tcpClients) == 3
    assert (values["news"], values["chat"]) == (99, 0)
    assert len(logged) == 2
    assert logged[0].startswith("carbon at carbon.example, port 2003: lost, ")
    assert logged[1] == "carbon at carbon.example, port 2003: back"


def test_tcp_logs_once_that_carbon_was_never_found(reactor: FakeReactor, logged: list[str]) -> None:
    """
    A wrong address is logged at the first attempt, not at each.
    """
    exporter = by_tcp(reactor)
    for second in range(5):
        Carbon(reactor).refuse()
        exporter.export(Counts({"news": 1}), second)
        wait(reactor)

    assert len(reactor.tcpClients) > 4
    assert len(logged) == 1
    assert "refused" in logged[0]


def test_a_carbon_that_does_not_read_is_disconnected(
    reactor: FakeReactor, logged: list[str]
) -> None:
    """
    After a whole interval the connection is aborted and opened again.
    """
    exporter = by_tcp(reactor)
    carbon = Carbon(reactor)
    carbon.accept()
    exporter.export(Counts({"news": 1}), 1.0)
    carbon.transport.producer.pauseProducing()
    carbon.values()
    exporter.export(Counts({"news": 2}), 2.0)
    exporter.export(Counts({"news": 3}), 3.0)

    assert carbon.transport.disconnected
    assert carbon.values() == {}
    carbon.vanish()
    wait(reactor)
    again = Carbon(reactor)
    again.accept()
    assert again.values()["news"] == 3
    assert logged[0].endswith("it does not read its input")
    assert len(logged) == 2


def test_a_carbon_that_catches_up_is_kept(reactor: FakeReactor) -> None:
    """
    Being slow within an interval is no fault.
    """
    exporter = by_tcp(reactor)
    carbon = Carbon(reactor)
    carbon.accept()
    for second in range(3):
        exporter.export(Counts({"news": 1}), second)
        carbon.transport.producer.pauseProducing()
        carbon.transport.producer.resumeProducing()

    assert not carbon.transport.disconnected
    assert carbon.transport.value().count(b"cyclone-sse.news") == 3


def test_the_stop_sends_the_last_lines(reactor: FakeReactor, logged: list[str]) -> None:
    """
    The connection is closed and not aborted, and no loss is logged.
    """
    exporter = by_tcp(reactor)
    carbon = Carbon(reactor)
    carbon.accept()
    stopped = ended(exporter)
    assert carbon.transport.disconnecting
    assert carbon.transport.producer is None
    assert stopped == []

    carbon.vanish()

    assert not carbon.transport.disconnected
    assert stopped == [True]
    assert logged == []
    assert reactor.getDelayedCalls() == []


def test_the_stop_does_not_wait_for_a_carbon_that_does_not_read(reactor: FakeReactor) -> None:
    """
    After CLOSE_SECONDS the connection is aborted.
    """
    exporter = by_tcp(reactor)
    carbon = Carbon(reactor)
    carbon.accept()
    carbon.transport.producer.pauseProducing()
    ended(exporter)
    reactor.advance(CLOSE_SECONDS)

    assert carbon.transport.disconnected


def test_the_stop_ends_the_attempts(reactor: FakeReactor, logged: list[str]) -> None:
    """
    Stopped while carbon is unavailable: no timer is left, and nothing is logged.
    """
    exporter = by_tcp(reactor)
    Carbon(reactor).refuse()
    wait(reactor)
    Carbon(reactor).refuse()
    reactor.advance(1)
    stopped = ended(exporter)

    assert stopped == [True]
    assert len(logged) == 1
    assert reactor.getDelayedCalls() == []


async def test_a_full_connection_is_aborted_and_opened_again(logged: list[str]) -> None:
    """
    The buffers of system and transport are bounded, over real sockets.
    """
    from twisted.internet import reactor

    accepted: DeferredQueue[Protocol] = DeferredQueue()

    class StalledServer(Protocol):
        def connectionMade(self) -> None:
            transport: Any = self.transport
            transport.pauseProducing()
            accepted.put(self)

    listening: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(
        Factory.forProtocol(StalledServer)
    )
    exporter = GraphiteExporter(
        reactor, "127.0.0.1", listening.getHost().port, "cyclone-sse", "tcp"
    )
    IService(exporter).startService()
    first = await accepted.get()
    many = Counts({f"{number:0200}": 1 for number in range(MAX_CHANNELS)})
    exports = 0
    while not logged:
        exporter.export(many, 1.0)
        exports += 1
        await deferLater(reactor, 0.01)
    second = await accepted.get()
    await IService(exporter).stopService()
    for server in (first, second):
        transport: Any = server.transport
        transport.abortConnection()
    await listening.stopListening()

    assert exports < 100  # of 0.2 MB each
    assert logged[0].endswith("it does not read its input")
