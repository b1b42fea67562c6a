"""
Explanations for another kind of server at a broker's port.
"""

from __future__ import annotations

from typing import Any

import pytest
from OpenSSL.SSL import Error
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.protocol import SILENCE, AmqpConnection
from rt_twisted.brokers.amqp.specification import load_specification
from rt_twisted.brokers.peers import describe, explain
from rt_twisted.brokers.redis.connections import CommandConnection
from rt_twisted.brokers.redis.errors import RedisUnavailable
from rt_twisted.brokers.redis.server import RedisServer

FOREIGN = [
    (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "speaks HTTP"),
    (b"<html>", "speaks HTTP"),
    (b"AMQP\x00\x01\x00\x00", "speaks AMQP 1.0"),
    (b"AMQP\x03\x01\x00\x00", "speaks AMQP 1.0"),
    (b"AMQP\x01\x01\x00\x0a", "speaks AMQP 0-10"),
    (b"AMQP\x00\x00\x08\x00", "speaks another version of AMQP"),
    (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "speaks SSH"),
    (b"220 mail.example ESMTP\r\n", "speaks SMTP"),
    (b"\x4a\x00\x00\x00\x0a8.0.36\x00", "unknown protocol: it began with b'J"),
]


def amqp_client() -> tuple[Clock, AmqpConnection, list[Any]]:
    """
    Return a connection that waits for the login, and a list for its outcome.
    """
    clock = Clock()
    client = AmqpConnection(load_specification(), clock, "name", "/", 10)
    client.makeConnection(StringTransport())
    results: list[Any] = []
    Deferred.fromCoroutine(client.login("guest", "guest")).addErrback(results.append)
    return clock, client, results


@pytest.mark.parametrize("piece", [1, 100])
@pytest.mark.parametrize(("data", "words"), [*FOREIGN, (b"-ERR no\r\n", "protocol of redis")])
def test_another_server_at_the_port_of_amqp(data: bytes, words: str, piece: int) -> None:
    """
    The login fails when the peer closes the connection; the error names the protocol that the peer
    speaks.
    """
    _, client, results = amqp_client()
    for at in range(0, len(data), piece):
        client.dataReceived(data[at : at + piece])
    client.connectionLost(Failure(ConnectionDone()))

    assert results[0].check(AmqpConnectionClosed)
    assert words in results[0].value.reason


def test_a_silent_server() -> None:
    """
    The login does not wait for long, whether the peer stays or closes the connection.
    """
    clock, client, results = amqp_client()
    transport: Any = client.transport
    clock.advance(SILENCE - 0.1)
    assert not transport.disconnecting
    clock.advance(0.2)
    client.connectionLost(Failure(ConnectionDone()))
    assert "silent for 3 seconds" in results[0].value.reason

    _, client, results = amqp_client()
    client.connectionLost(Failure(ConnectionDone()))
    assert "it has not answered: is this its port, and without TLS?" in results[0].value.reason


@pytest.mark.parametrize(("data", "words"), FOREIGN)
def test_another_server_at_the_port_of_redis(data: bytes, words: str) -> None:
    """
    The login fails when the peer closes the connection; the error names the protocol that the peer
    speaks.
    """
    link = CommandConnection(5)
    link.makeConnection(StringTransport())
    results: list[Any] = []
    Deferred.fromCoroutine(link.login(RedisServer.parse("h"))).addErrback(results.append)
    link.dataReceived(data)
    link.connectionLost(Failure(ConnectionDone()))

    assert results[0].check(RedisUnavailable)
    assert words in str(results[0].value)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("wrong version number", "does not speak TLS at this port (wrong version number)"),
        ("http request", "does not speak TLS"),
        ("tlsv13 alert certificate required", "requires a client certificate"),
        ("certificate verify failed", "certificate is not trusted"),
        ("sslv3 alert handshake failure", "refused the TLS handshake"),
        ("something new", "TLS failed: something new"),
    ],
)
def test_errors_of_openssl(reason: str, words: str) -> None:
    """
    The error is explained, followed by OpenSSL's own text.
    """
    assert words in explain(Error([("SSL routines", "", reason)]), "", True, False)


def test_a_connection_that_ends_after_an_answer() -> None:
    """
    The reason is unchanged; without an answer a question about the protocol follows it.
    """
    lost = ConnectionDone("x")
    assert explain(lost, "gone", False, True) == "gone"
    assert explain(lost, "gone.", True, False).startswith("gone; it has not answered: does it")
    assert describe(b"\x16") == "the server speaks TLS at this port"
