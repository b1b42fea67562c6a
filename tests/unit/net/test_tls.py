"""
Tests of TLS: the choice of certificates, errors at start and on reload, and the transport.

The client is Python's own ssl module, without sockets where possible.
"""

from __future__ import annotations

import inspect
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from OpenSSL import SSL
from twisted.internet.abstract import FileDescriptor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.tcp import Connection
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from rt_twisted.http.h2 import Http2Connection
from rt_twisted.net.tls import TlsContexts, TlsEndpoint, UnbufferedTls
from rt_twisted.net.tls_records import MAX_RECORD, RecordWriter
from rt_twisted.tap.endpoints import make_endpoints
from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_values import SettingError
from tests.pems import Authority
from tests.unit.http.clients import Place


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """
    Return an authority that signs certificates.
    """
    return Authority(tmp_path)


class Handshake:
    """
    What a client learned by a handshake.
    """

    def __init__(self, client: ssl.SSLObject) -> None:
        seen = x509.load_der_x509_certificate(client.getpeercert(True) or b"")
        self.kind = type(seen.public_key()).__name__
        self.serial = seen.serial_number
        name = seen.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
        self.name = str(name)
        self.version = client.version()
        self.protocol = client.selected_alpn_protocol()
        self.cipher = (client.cipher() or ("",))[0]


def trusting(authority: Authority) -> ssl.SSLContext:
    """
    Return a client context that trusts *authority*, and checks no names.
    """
    context = ssl.create_default_context(cafile=authority.file)
    context.check_hostname = False
    return context


def shake_hands(
    contexts: TlsContexts, client: ssl.SSLContext, name: str | None = None
) -> Handshake:
    """
    Do a handshake in memory.
    """
    protocol: Any = None
    server = contexts.serverConnectionForTLS(protocol)
    server.set_accept_state()
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    caller = client.wrap_bio(to_client, to_server, server_hostname=name)
    done = False
    for _ in range(10):
        try:
            caller.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        if to_server.pending:
            server.bio_write(to_server.read())
        with suppress(SSL.WantReadError):
            server.do_handshake()
        try:
            to_client.write(server.bio_read(1 << 16))
        except SSL.WantReadError:
            if done:
                break
    return Handshake(caller)


# Which certificate.


@pytest.mark.parametrize("kind", ["ecdsa", "rsa"])
def test_one_certificate(authority: Authority, kind: str) -> None:
    """
    A single certificate is sent with its chain to clients with and without a server name, for both
    kinds of keys.
    """
    contexts = TlsContexts([authority.pair("a", "a.test", kind=kind, intermediate=True)])

    for name in (None, "a.test", "other.test"):
        met = shake_hands(contexts, trusting(authority), name)
        assert (met.name, met.version) == ("a.test", "TLSv1.3")
    assert verifyObject(IOpenSSLServerConnectionCreator, contexts)


def test_certificates_are_chosen_by_name(authority: Authority) -> None:
    """
    Exact names come before wildcards of one label; other names get the first certificate.
    """
    pairs = [
        authority.pair("first", "a.test", "www.a.test"),
        authority.pair("second", "b.test"),
        authority.pair("wild", "*.c.test"),
        authority.pair("exact", "x.c.test"),
    ]
    contexts = TlsContexts(pairs)
    client = trusting(authority)
    chosen = {
        name: shake_hands(contexts, client, name).name
        for name in "a.test WWW.A.test b.test y.c.test x.c.test z.y.c.test no.test".split()
    }

    assert chosen == {
        "a.test": "a.test",
        "WWW.A.test": "a.test",
        "b.test": "b.test",
        "y.c.test": "*.c.test",
        "x.c.test": "x.c.test",
        "z.y.c.test": "a.test",
        "no.test": "a.test",
    }


def test_ecdsa_and_rsa_for_the_same_names(authority: Authority) -> None:
    """
    A client that does not support ECDSA gets the RSA certificate, each with its own chain.
    """
    contexts = TlsContexts(
        [
            authority.pair("one", "a.test", intermediate=True),
            authority.pair("two", "a.test", kind="rsa"),
        ]
    )
    old = trusting(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")

    assert "EC" in shake_hands(contexts, trusting(authority), "a.test").kind
    assert "RSA" in shake_hands(contexts, old, "a.test").kind


def test_an_invalid_server_name(authority: Authority) -> None:
    """
    An invalid server name gets the first certificate.
    """
    contexts = TlsContexts([authority.pair("a", "a.test")])
    for name in ("xn--bcher-kva.test", "a" * 63 + ".test", "*.test"):
        assert shake_hands(contexts, trusting(authority), name).name == "a.test"


# What is spoken.


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA256"])
def test_old_ciphers_are_refused(authority: Authority, cipher: str) -> None:
    """
    TLS 1.2 requires forward secrecy and authenticated encryption.
    """
    contexts = TlsContexts([authority.pair("a", "a.test", kind="rsa")])
    client = trusting(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake_hands(contexts, client).version == "TLSv1.2"
    client.set_ciphers(cipher)

    with pytest.raises((ssl.SSLError, SSL.Error)):
        shake_hands(contexts, client)


def test_alpn(authority: Authority) -> None:
    """
    The daemon's preference decides. A client without ALPN, or without a common protocol, gets
    HTTP/1.1.
    """
    contexts = TlsContexts([authority.pair("a", "a.test")], [b"h2", b"http/1.1"])
    agreed = []
    for offered in (["http/1.1", "h2"], ["http/1.1"], ["spdy/1"], []):
        client = trusting(authority)
        if offered:
            client.set_alpn_protocols(offered)
        agreed.append(shake_hands(contexts, client).protocol)

    assert agreed == ["h2", "http/1.1", None, None]


def test_without_the_library_there_is_no_http_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without the h2 library, ALPN does not offer HTTP/2.
    """
    assert Place().server.acceptableProtocols() == [b"h2", b"http/1.1"]
    monkeypatch.setattr("rt_twisted.http.server.find_spec", lambda name: None)
    assert Place().server.acceptableProtocols() == [b"http/1.1"]


# What is wrong.


def test_wrong_files_are_one_sentence(authority: Authority, tmp_path: Path) -> None:
    """
    An error is one sentence with the file and what is wrong with it.
    """
    crt, key = authority.pair("a", "a.test")
    _, other = authority.pair("b", "b.test")
    locked = authority.pair("c", "c.test", passphrase=b"secret")
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    broken = tmp_path / "broken.crt"
    broken.write_text(Path(crt).read_text()[:100])
    chain = tmp_path / "chain.crt"
    chain.write_text(
        Path(crt).read_text() + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    for pair, words in (
        ((str(tmp_path / "none"), key), "none: No such file"),
        ((crt, str(tmp_path / "none")), "none: No such file"),
        ((str(tmp_path), key), f"{tmp_path}: Is a directory"),
        ((str(empty), key), "empty: there is no PEM certificate in it"),
        ((str(broken), key), "broken.crt: there is no PEM certificate in it"),
        ((str(chain), key), "chain.crt: "),
        ((crt, crt), "a.crt: there is no PEM private key in it"),
        ((crt, other), "b.key: not the key of "),
        (locked, "c.key: the private key is encrypted"),
    ):
        with pytest.raises(ValueError) as wrong:
            TlsContexts([pair])
        assert words in str(wrong.value)
        assert "\n" not in str(wrong.value)


def test_certificates_are_reloaded(authority: Authority) -> None:
    """
    Connections after a reload get the new certificate; a wrong file changes nothing and raises its
    error.
    """
    pair = authority.pair("a", "a.test")
    contexts = TlsContexts([pair])
    before = shake_hands(contexts, trusting(authority)).serial
    authority.pair("a", "a.test")
    assert shake_hands(contexts, trusting(authority)).serial == before
    contexts.reload()
    after = shake_hands(contexts, trusting(authority)).serial
    assert after != before

    Path(pair[0]).write_text("nonsense")
    with pytest.raises(ValueError, match=r"a\.crt: there is no PEM certificate"):
        contexts.reload()
    assert shake_hands(contexts, trusting(authority)).serial == after


def test_settings_name_pairs(authority: Authority) -> None:
    """
    The settings name one or several pairs; their numbers of certificates and keys must be equal.
    """
    first, second = authority.pair("a", "a.test"), authority.pair("b", "b.test")
    options = Options()
    arguments = ["--use-ssl=1", f"--ssl-cert={first[0]}", f"--ssl-key={first[1]}"]
    arguments += [f"--ssl-cert={second[0]}"]
    options.parseOptions(arguments)
    with pytest.raises(SettingError, match="2 ssl-cert but 1 ssl-key are set"):
        list(make_endpoints(options, None, ()))

    options = Options()
    arguments += [f"--ssl-key={second[1]}"]
    options.parseOptions(arguments)
    (endpoint,) = [
        one for _, one in make_endpoints(options, None, ()) if isinstance(one, TlsEndpoint)
    ]
    assert shake_hands(endpoint.contexts, trusting(authority), "b.test").name == "b.test"
    assert verifyObject(IStreamServerEndpoint, endpoint)


# The transport.


class Receiver(Protocol):
    """
    Records the bytes it receives.
    """

    def __init__(self) -> None:
        self.received = b""
        self.ready: Deferred[Any] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.ready.callback(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(ValueError())) -> None:
        self.lost.callback(None)


class TlsPair:
    """
    A TLS connection over 127.0.0.1: our transport here, a blocking client there.
    """

    def __init__(self, port: Any, receiver: Receiver, client: ssl.SSLSocket) -> None:
        self.port = port
        self.receiver = receiver
        self.client = client

    @property
    def transport(self) -> Any:
        return self.receiver.transport

    async def read(self, size: int) -> bytes:
        def read() -> bytes:
            pieces = b""
            while len(pieces) < size:
                piece = self.client.recv(65536)
                if not piece:
                    break
                pieces += piece
            return pieces

        return await deferToThread(read)


@pytest_twisted.async_yield_fixture
async def pair(authority: Authority) -> AsyncIterator[TlsPair]:
    """
    A connection whose handshake is done.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ServerEndpoint

    loop: Any = reactor
    receiver = Receiver()
    factory = Factory.forProtocol(lambda: receiver)
    factory.noisy = False
    contexts = TlsContexts([authority.pair("a", "a.test")])
    plain = TCP4ServerEndpoint(loop, 0, interface="127.0.0.1")
    port: Any = await TlsEndpoint(plain, contexts, loop).listen(factory)
    number = port.getHost().port

    def connect() -> ssl.SSLSocket:
        sock = socket.create_connection(("127.0.0.1", number), 5)
        return trusting(authority).wrap_socket(sock)

    client = await deferToThread(connect)
    await receiver.ready
    below: Any = receiver.transport.transport  # type: ignore[union-attr]  # it is TLS
    while not receiver.transport._handshakeDone or below.dataBuffer or below._tempDataLen:  # type: ignore[union-attr]  # the same
        await deferLater(loop, 0)
    yield TlsPair(port, receiver, client)
    client.close()
    await port.stopListening()
    if not receiver.lost.called:
        receiver.transport.abortConnection()  # type: ignore[union-attr]  # it is TLS
        await receiver.lost


async def test_small_writes_leave_at_once(pair: TlsPair) -> None:
    """
    Small writes are sent without a reactor iteration, and arrive in order with large ones.
    """
    assert isinstance(pair.transport, UnbufferedTls)
    pair.transport.write(b"at once")
    assert pair.client.recv(100) == b"at once"  # the reactor has not turned
    sent = b""
    for size in (1, 16384, 16385, 300_000, 5, 100_000, 1, 0, 7):
        piece = bytes([size % 251]) * size
        pair.transport.write(piece)
        sent += piece

    assert await pair.read(len(sent)) == sent


async def test_a_full_socket_pauses_the_producer(pair: TlsPair) -> None:
    """
    Bytes that the kernel does not take wait in Twisted's transport, which pauses the producer and
    sends them in order later.
    """
    calls: list[str] = []

    class Producer:
        def pauseProducing(self) -> None:
            calls.append("pause")

        def resumeProducing(self) -> None:
            calls.append("resume")

        def stopProducing(self) -> None:
            calls.append("stop")

    pair.transport.registerProducer(Producer(), True)
    sent = b""
    while not calls:
        piece = b"%07d" % len(sent) * 500
        pair.transport.write(piece)
        sent += piece
    assert await pair.read(len(sent)) == sent
    while calls[-1] != "resume":
        await deferLater(pair.port.reactor, 0)
    assert calls[:2] == ["pause", "resume"]
    pair.transport.unregisterProducer()


async def test_a_write_to_a_peer_that_is_gone(pair: TlsPair) -> None:
    """
    A write to a closed peer ends the connection, and raises nothing.
    """
    pair.client.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
    )  # a reset, not an end
    pair.client.close()
    for _ in range(10):
        pair.transport.write(b"x" * 1000)
    await pair.receiver.lost
    pair.transport.write(b"x")


async def test_losing_sends_what_was_written(pair: TlsPair) -> None:
    """
    loseConnection sends what was written before, and nothing that is written after.
    """
    pair.transport.write(b"x" * 200_000)
    pair.transport.write(b"last")
    pair.transport.loseConnection()
    pair.transport.write(b"late")

    assert await pair.read(1 << 20) == b"x" * 200_000 + b"last"


def test_names_of_twisted_s_tls() -> None:
    """
    net.tls.UnbufferedTls: the private names of Twisted that it uses exist.
    """
    source = inspect.getsource(TLSMemoryBIOProtocol)
    for name in (
        "_appSendBuffer",
        "_handshakeDone",
        "_lostTLSConnection",
        "_tlsConnection",
        "def _bufferedWrite(self, octets)",
        "def _flushReceiveBIO(self)",
        "def _flushSendBIO(self)",
        "def _shutdownTLS(self)",
        "if not self._aborted",
        "def _tlsShutdownFinished(self, reason)",
        "self.wrappedProtocol.handshakeCompleted()",
        "except WantReadError:\n                self._bufferedWrite(bytes[alreadySent:])",
    ):
        assert name in source
    plain = inspect.getsource(FileDescriptor)
    for name in ("dataBuffer", "_tempDataLen", "disconnected"):
        assert f"self.{name}" in plain
    assert "self.socket" in inspect.getsource(Connection)


async def test_clients_that_choose_http_2_get_it(authority: Authority) -> None:
    """
    One port serves both versions: an HTTP/1.1 connection is replaced when the handshake has chosen
    HTTP/2.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ServerEndpoint

    loop: Any = reactor
    place = Place()
    place.server.context.clock = loop
    contexts = TlsContexts([authority.pair("a", "a.test")], place.server.acceptableProtocols())
    plain = TCP4ServerEndpoint(loop, 0, interface="127.0.0.1")
    port: Any = await TlsEndpoint(plain, contexts, loop).listen(place.server)
    client = trusting(authority)
    client.set_alpn_protocols(["h2"])

    def greet() -> bytes:
        address = ("127.0.0.1", port.getHost().port)
        with client.wrap_socket(socket.create_connection(address, 5)) as sock:
            sock.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
            return sock.recv(100)

    settings = await deferToThread(greet)
    kinds = {type(connection) for connection in place.server.connections}
    while place.server.connections:
        await deferLater(loop, 0.01)
    await port.stopListening()

    assert settings[3] == 4  # SETTINGS (RFC 9113, 6.5)
    assert kinds <= {Http2Connection}


def test_records_are_those_of_pyopenssl(authority: Authority) -> None:
    """
    What a record writer encrypts is what the peer decrypts, up to the largest record, and among
    what pyOpenSSL itself encrypts; after the end of the connection it raises as pyOpenSSL does.
    """
    contexts = TlsContexts([authority.pair("records", "a.test")])
    unused: Any = None
    server = contexts.serverConnectionForTLS(unused)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trusting(authority).wrap_bio(incoming, outgoing)
    server.set_accept_state()
    for _ in range(4):
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        if outgoing.pending:
            server.bio_write(outgoing.read())
        with suppress(SSL.WantReadError):
            server.do_handshake()
        with suppress(SSL.WantReadError):
            incoming.write(server.bio_read(1 << 16))
    records = RecordWriter()

    for size in (1, 100, MAX_RECORD - 1, MAX_RECORD):
        server.send(b"s")
        incoming.write(server.bio_read(1 << 16))
        incoming.write(records.encrypt(server, b"r" * size))
        received = b""
        while len(received) <= size:
            received += client.read(1 << 16)
        assert received == b"s" + b"r" * size
    server.shutdown()
    with pytest.raises(SSL.Error):
        records.encrypt(server, b"late")
