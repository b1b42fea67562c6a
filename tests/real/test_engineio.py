"""
Plain Engine.IO with unmodified clients from npm (3 to 6) and PyPI, on every transport.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.real.conftest import StartDaemon
from tests.real.socketio_peers import Peer
from tests.real.test_socketio import TRANSPORTS, publish

KINDS = ("engine 3", "engine 4", "engine 5", "engine 6", "engine python")
ROUTES = (
    r"--route=^/engine\.io/ engine.io:subscribe=chat,publish=chat",
    r"--route=^/chosen/ engine.io",
    r"--route=^/bytes/ engine.io:subscribe=chat,binary=yes,history=2",
    "--route=^/publish$ publish",
    "--route=^/events$ sse",
)
TEXTS = ("plain", "hällo 😀\nline two", '{"n": 1}', " ")
BINARY = bytes(range(256))

Connect = Callable[..., Peer]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """
    Return a function that starts clients, which are stopped after the test.
    """
    peers: list[Peer] = []

    def connect(kind: str, url: str, transport: str, **options: Any) -> Peer:
        if (transports := TRANSPORTS[transport]) is not None:
            options["transports"] = transports
        peers.append(Peer(kind, url, **options))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


def messages(peer: Peer, count: int) -> list[Any]:
    """
    Wait for *count* messages, and return all of them.
    """
    while True:
        # python-engineio parses JSON objects in messages.
        found = [
            json.dumps(line[1]) if isinstance(line[1], dict) else line[1]
            for line in peer.lines
            if line[0] == "message"
        ]
        if len(found) >= count:
            return found
        peer.wait("message")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", KINDS)
def test_messages_pass_in_both_directions(
    kind: str, transport: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    Text and bytes arrive in order as they were published, by HTTP, by the client itself, and by
    a client of another version.
    """
    server = daemon(*ROUTES)
    peer = connect(kind, server.url, transport)
    other = connect("engine 6", server.url, "websocket")
    assert peer.wait("connect")[1] in (
        "websocket" if transport == "websocket" else "polling",
        transport,
    )
    other.wait("connect")
    if transport == "upgrade" and kind != "engine python":  # which upgrades before `connect`
        assert peer.wait("upgrade") == ["upgrade", "websocket"]

    for text in TEXTS:
        publish(server.port, "chat", text.encode())
    publish(server.port, "chat", BINARY)
    publish(server.port, "chat", b"one\x1etwo")
    expected: list[Any] = [*TEXTS, BINARY, b"one\x1etwo"]
    assert messages(peer, len(expected)) == expected
    for message in (*TEXTS, BINARY):
        peer.send("send", message)
    expected += [*TEXTS, BINARY]

    assert messages(peer, len(expected)) == expected
    assert messages(other, len(expected)) == expected


@pytest.mark.parametrize("kind", KINDS)
def test_upgrade_loses_and_repeats_nothing(
    kind: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    Messages that are published and sent while the client upgrades arrive once and in order.
    """
    server = daemon(*ROUTES)
    peer = connect(kind, server.url, "upgrade")
    peer.wait("connect")
    for number in range(400):
        if number % 2:
            publish(server.port, "chat", b"from http %d" % number)
        else:
            peer.send("send", f"from the client {number}")
    received = messages(peer, 400)

    assert received[400:] == []
    for source in ("from http", "from the client"):
        numbers = [int(text.split()[-1]) for text in received if text.startswith(source)]
        assert numbers == list(range(source == "from http", 400, 2))


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("kind", KINDS)
def test_thousand_messages_at_once(
    kind: str, transport: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    A client may send many messages without waiting; they come back in order.
    """
    server = daemon(*ROUTES)
    peer = connect(kind, server.url, transport)
    peer.wait("connect")
    for number in range(1000):
        peer.send("send", f"{number}")

    assert messages(peer, 1000) == [f"{number}" for number in range(1000)]


@pytest.mark.parametrize("kind", ["engine 3", "engine 6"])
@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_query_names_channels_and_where_to_start(
    kind: str, transport: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    A route without channels sends those of the query, from the start that it asks for.
    """
    server = daemon(*ROUTES)
    for channel, text in (("a", b"1"), ("b", b"2"), ("c", b"3")):
        publish(server.port, channel, text)
    query = {"channels": "a,b", "since": "all"}
    peer = connect(kind, server.url, transport, path="/chosen", query=query)
    assert messages(peer, 2) == ["1", "2"]
    publish(server.port, "c", b"4")
    publish(server.port, "b", b"5")
    assert messages(peer, 3) == ["1", "2", "5"]
    refused = connect(kind, server.url, transport, path="/chosen")
    refused.wait("error")


@pytest.mark.parametrize("kind", ["engine 3", "engine 6", "engine python"])
def test_route_sends_bytes_and_history(kind: str, daemon: StartDaemon, connect: Connect) -> None:
    """
    With `binary=yes` text is received as bytes; with `history=2` the last two messages come
    first. A message to a route without `publish=` ends the session.
    """
    server = daemon(*ROUTES)
    for text in (b"1", b"2", b"3"):
        publish(server.port, "chat", text)
    peer = connect(
        kind, server.url, "polling", path="bytes" if kind == "engine python" else "/bytes"
    )
    assert messages(peer, 2) == [b"2", b"3"]
    peer.send("send", "not here")
    peer.wait("disconnect")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
@pytest.mark.parametrize("kind", ["engine 3", "engine 6", "engine python"])
def test_keys_and_pages_are_checked(
    kind: str, transport: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    With a key in the settings, a client without it receives and cannot publish; with it, in the
    query or a header, it can. Without any key, another site's page cannot publish.
    """
    keyed = daemon(*ROUTES, "--publish-key=s3cret chat")
    good = connect(kind, f"{keyed.url}?key=s3cret", transport)
    reader = connect(kind, keyed.url, transport)
    header = connect(kind, keyed.url, transport, extraHeaders={"Authorization": "Bearer s3cret"})
    for peer in (good, reader, header):
        peer.wait("connect")
    good.send("send", "by key")
    assert messages(reader, 1) == ["by key"]
    header.send("send", "by header")
    assert messages(reader, 2) == ["by key", "by header"]
    reader.send("send", "without")
    reader.wait("disconnect")
    good.send("send", "last")
    assert messages(good, 3) == ["by key", "by header", "last"]

    local = daemon(*ROUTES, "--websocket-origins=*")
    foreign = connect(kind, local.url, transport, extraHeaders={"Origin": "http://evil.example"})
    own = connect(kind, local.url, transport)
    for peer in (foreign, own):
        peer.wait("connect")
    foreign.send("send", "evil")
    foreign.wait("disconnect")
    own.send("send", "own")
    assert messages(own, 1) == ["own"]
