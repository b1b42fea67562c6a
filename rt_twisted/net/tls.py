"""
TLS servers: certificates by host name that can be reloaded, and a transport without buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from os.path import abspath
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.net.tls_records import MAX_RECORD, RecordWriter
from rt_twisted.net.transports import end_half_closed

_log = Logger()

# For TLS 1.2, the suites that RFC 9113 (9.2.2) allows for HTTP/2. All those of TLS 1.3
# are secure.
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION


@implementer(IOpenSSLServerConnectionCreator)
class TlsContexts:
    """
    The certificates of a TLS port.

    A client that names its host (SNI, RFC 6066, 3) gets the certificate for that name,
    other clients get the first one. Of two with the same names and keys of different
    kinds, ECDSA and RSA, a client gets the one that it supports.

    Args:
        pairs: of PEM files: a certificate with its chain behind it, and its key.
        protocols: that ALPN offers (RFC 7301), best first; none for no ALPN.

    Raises:
        ValueError: one sentence about the first file that is wrong.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], protocols: Sequence[bytes] = ()) -> None:
        # A daemon changes its working folder.
        self._pairs = [(abspath(certificate), abspath(key)) for certificate, key in pairs]
        self._protocols = tuple(protocols)
        self._certificates = _Certificates(self._pairs, self._protocols)

    def reload(self) -> None:
        """
        Read all files again, for the connections that follow.

        Raises:
            ValueError: one sentence about the first file that is wrong;
                nothing has changed.
        """
        self._certificates = _Certificates(self._pairs, self._protocols)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        # The first certificate, until the client has named its host.
        return SSL.Connection(self._certificates.default, None)


class _Certificates:
    """
    The contents of the files at one time, as contexts by host name.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], protocols: Sequence[bytes]) -> None:
        self._by_name: dict[str, SSL.Context] = {}
        contexts: dict[frozenset[str], SSL.Context] = {}
        for certificate, key in pairs:
            names, private_key = _read_pair(certificate, key)
            context = contexts.get(names)
            if context is None:
                context = contexts[names] = self._context(protocols)
            try:
                context.use_certificate_chain_file(certificate)
                context.use_privatekey(private_key)
                context.check_privatekey()
            except SSL.Error as error:
                raise ValueError(f"{certificate}: {_reason(error)}") from None
            for name in names:
                self._by_name.setdefault(name, context)
        self.default = next(iter(contexts.values()))

    def _context(self, protocols: Sequence[bytes]) -> SSL.Context:
        context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_options(OPTIONS)
        context.set_cipher_list(CIPHERS)
        # An idle connection keeps no buffers of 16 KiB. A client resumes its session by a
        # ticket, so none are cached here.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_tlsext_servername_callback(self._on_server_name)
        if protocols:

            def choose(connection: SSL.Connection, offered: list[bytes]) -> Any:
                for protocol in protocols:
                    if protocol in offered:
                        return protocol
                return SSL.NO_OVERLAPPING_PROTOCOLS

            context.set_alpn_select_callback(choose)
        return context

    def _on_server_name(self, connection: SSL.Connection) -> None:
        raw = connection.get_servername()
        if not raw:
            return
        name = raw.decode("ascii", "replace").lower().rstrip(".")
        found = self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
        if found is not None:
            connection.set_context(found)


def _read_pair(certificate: str, key: str) -> tuple[frozenset[str], Any]:
    """
    Read a certificate and its private key.

    Returns:
        the host names, and the key.

    Raises:
        ValueError: one sentence about what is wrong.
    """
    chain, secret = _read_file(certificate), _read_file(key)
    try:
        leaf = x509.load_pem_x509_certificate(chain)
    except ValueError:
        raise ValueError(f"{certificate}: there is no PEM certificate in it") from None
    try:
        private_key: Any = load_pem_private_key(secret, None)
    except TypeError:
        raise ValueError(
            f"{key}: the private key is encrypted; passphrases are not supported"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{key}: there is no PEM private key in it") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != private_key.public_key().public_bytes(*form):
        raise ValueError(f"{key}: not the key of {certificate}")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        _log.warn("{file}: the certificate has expired", file=certificate)
    return _names(leaf), private_key


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def _names(leaf: x509.Certificate) -> frozenset[str]:
    """
    Return the host names that a certificate is for (RFC 6125, 6.4).
    """
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = found.get_values_for_type(x509.DNSName)
    except (x509.ExtensionNotFound, ValueError):
        common = leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        names = [str(each.value) for each in common]
    return frozenset(name.lower().rstrip(".") for name in names)


def _reason(error: SSL.Error) -> str:
    reasons = error.args[0] if error.args else ()
    return str(reasons[-1][-1]) if reasons else "OpenSSL does not accept it"


@implementer(IStreamServerEndpoint)
class TlsEndpoint:
    """
    Listens by TLS on another endpoint.

    Args:
        endpoint: where to listen.
        contexts: have the certificates.
        clock: the reactor.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, contexts: TlsContexts, clock: Any) -> None:
        self.contexts = contexts
        self._endpoint = endpoint
        self._clock = clock

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        tls: Any = TLSMemoryBIOFactory(self.contexts, False, factory, self._clock)
        tls.protocol = UnbufferedTls
        tls.records = RecordWriter()  # for all connections of the port
        return self._endpoint.listen(tls)


@implementer(IHalfCloseableProtocol)
class UnbufferedTls(TLSMemoryBIOProtocol):
    """
    A TLS connection that sends a small write at once, and supports half-closed peers.

    Twisted's own collects writes until the next reactor iteration, copies them through
    two buffers and asks the kernel whether it may write. Our writes are whole, and
    collected already. The protocol may go on writing when the peer has sent a
    close_notify (RFC 8446, 6.1). All of Twisted's private names for TLS are here.
    """

    half_closed = False

    def _flushReceiveBIO(self) -> None:
        # As Twisted's, but for the peer's close_notify.
        while not self._lostTLSConnection and not self.half_closed:
            try:
                data = self._tlsConnection.recv(2**15)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._on_close_notify()
            except SSL.Error:
                self._tlsShutdownFinished(Failure())  # type: ignore[no-untyped-call]  # Twisted's
            else:
                if not self._aborted:
                    self.wrappedProtocol.dataReceived(data)
        if self._tlsConnection is not None:  # a half-closed peer may have ended the connection
            self._flushSendBIO()  # type: ignore[no-untyped-call]  # the same

    def readConnectionLost(self) -> None:
        # The peer has closed its sending side without a close_notify: its data may be
        # truncated (RFC 8446, 6.1), so the connection ends.
        end_half_closed(self)

    def writeConnectionLost(self) -> None:
        """
        Do nothing: we have closed our sending side.
        """

    def _on_close_notify(self) -> None:
        protocol: Any = self.wrappedProtocol
        if self.disconnecting or not IHalfCloseableProtocol.providedBy(protocol):
            self._shutdownTLS()  # type: ignore[no-untyped-call]  # the same
            self._tlsShutdownFinished(None)  # type: ignore[no-untyped-call]  # the same
            return
        self.half_closed = True
        transport: Any = self.transport
        transport.pauseProducing()  # bytes that follow would only be buffered
        protocol.readConnectionLost()

    def write(self, data: bytes) -> None:
        # By Twisted's write if anything is buffered, or the connection is not open.
        if (
            self._appSendBuffer
            or self.disconnecting
            or not self._handshakeDone
            or self._lostTLSConnection
            or type(data) is not bytes
            or not 0 < len(data) <= MAX_RECORD
        ):
            super().write(data)  # type: ignore[no-untyped-call]  # Twisted's
            return
        factory: Any = self.factory
        try:
            record = factory.records.encrypt(self._tlsConnection, data)
        except SSL.WantReadError:
            self._bufferedWrite(data)  # type: ignore[no-untyped-call]  # the same
            return
        except SSL.Error:
            self._tlsShutdownFinished(Failure())  # type: ignore[no-untyped-call]  # the same
            return
        transport: Any = self.transport
        if transport.dataBuffer or transport._tempDataLen or transport.disconnected:
            transport.write(record)
            return
        try:
            sent = transport.socket.send(record)
        except BlockingIOError:
            sent = 0
        except OSError:
            transport.abortConnection()
            return
        if sent != len(record):
            transport.write(record[sent:])
