"""
TLS: certificates by name, read again on demand, and a lean transport.
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

from rt_twisted.net.transports import end_half_closed

_log = Logger()

# For TLS 1.2, the suites that RFC 9113 (9.2.2) leaves to HTTP/2; those of
# TLS 1.3 are all good.
CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
OPTIONS = SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION
RECORD = 16384  # bytes that TLS seals at once (RFC 8446, 5.1)
SEAL = 512  # more than a record grows by being sealed


@implementer(IOpenSSLServerConnectionCreator)
class TlsContexts:
    """
    The certificates of a TLS port. A client that names its host (SNI, RFC
    6066, 3) gets the one for that name, every other the first.

    Two with the same names and keys of different kinds, ECDSA and RSA, stand
    for each other: the client's abilities choose.

    Args:
        pairs: of PEM files: a certificate with its chain behind it, and its key.
        protocols: which ALPN offers (RFC 7301), best first; none for no ALPN.

    Raises:
        ValueError: one sentence about the first file that is wrong.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], protocols: Sequence[bytes] = ()) -> None:
        # Whoever becomes a daemon may change its folder.
        self._pairs = [(abspath(certificate), abspath(key)) for certificate, key in pairs]
        self._protocols = tuple(protocols)
        self._chosen = _Certificates(self._pairs, self._protocols)

    def reload(self) -> None:
        """
        Read all files again, for connections that begin from now on.

        Raises:
            ValueError: one sentence about the first file that is wrong;
                nothing has changed.
        """
        self._chosen = _Certificates(self._pairs, self._protocols)

    def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """
        Begin with the first certificate; the client's words may change that.
        """
        return SSL.Connection(self._chosen.default, None)


class _Certificates:
    """
    What was in the files at one time.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], protocols: Sequence[bytes]) -> None:
        self._by_name: dict[str, SSL.Context] = {}
        contexts: dict[frozenset[str], SSL.Context] = {}
        for certificate, key in pairs:
            names, private_key = _read(certificate, key)
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
        # An idle connection keeps no buffers of 16 KiB; who comes back brings
        # a ticket, and we remember no sessions.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_tlsext_servername_callback(self._named)
        if protocols:

            def choose(connection: SSL.Connection, offered: list[bytes]) -> Any:
                for protocol in protocols:
                    if protocol in offered:
                        return protocol
                return SSL.NO_OVERLAPPING_PROTOCOLS

            context.set_alpn_select_callback(choose)
        return context

    def _named(self, connection: SSL.Connection) -> None:
        raw = connection.get_servername()
        if not raw:
            return
        name = raw.decode("ascii", "replace").lower().rstrip(".")
        found = self._by_name.get(name) or self._by_name.get(f"*.{name.partition('.')[2]}")
        if found is not None:
            connection.set_context(found)


def _read(certificate: str, key: str) -> tuple[frozenset[str], Any]:
    """
    What two files have in them, if it belongs together.

    Returns:
        the names, and the private key.

    Raises:
        ValueError: one sentence.
    """
    chain, secret = _bytes(certificate), _bytes(key)
    try:
        leaf = x509.load_pem_x509_certificate(chain)
    except ValueError:
        raise ValueError(f"{certificate}: there is no PEM certificate in it") from None
    try:
        private_key: Any = load_pem_private_key(secret, None)
    except TypeError:
        raise ValueError(f"{key}: the key is encrypted, and nobody is asked for a word") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{key}: there is no PEM private key in it") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if leaf.public_key().public_bytes(*form) != private_key.public_key().public_bytes(*form):
        raise ValueError(f"{key}: not the key of {certificate}")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        _log.warn("{file}: the certificate has expired", file=certificate)
    return _names(leaf), private_key


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None


def _names(leaf: x509.Certificate) -> frozenset[str]:
    """
    The hosts that a certificate is for (RFC 6125, 6.4).
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
    return str(reasons[-1][-1]) if reasons else "OpenSSL refuses it"


@implementer(IStreamServerEndpoint)
class TlsEndpoint:
    """
    Another endpoint, with TLS on top.

    Args:
        endpoint: where to listen.
        contexts: whose certificates.
        clock: the reactor.
    """

    def __init__(self, endpoint: IStreamServerEndpoint, contexts: TlsContexts, clock: Any) -> None:
        self.contexts = contexts
        self._endpoint = endpoint
        self._clock = clock

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        See `IStreamServerEndpoint`.
        """
        sealed = TLSMemoryBIOFactory(self.contexts, False, factory, self._clock)
        sealed.protocol = UnbufferedTls
        return self._endpoint.listen(sealed)


@implementer(IHalfCloseableProtocol)
class UnbufferedTls(TLSMemoryBIOProtocol):
    """
    A TLS connection that sends a small write at once, and whose protocol may go on
    writing when the peer has said that it sends nothing more (RFC 8446, 6.1).

    Twisted's own collects writes until its next turn, copies them through two
    buffers and asks the kernel whether it may write. Our writes are whole and
    once a turn already. All of Twisted's private names for TLS are here.
    """

    half_closed = False

    def _flushReceiveBIO(self) -> None:
        # Twisted's, but for the peer's close_notify.
        while not self._lostTLSConnection and not self.half_closed:
            try:
                data = self._tlsConnection.recv(2**15)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._peer_closed()
            except SSL.Error:
                self._tlsShutdownFinished(Failure())  # type: ignore[no-untyped-call]  # Twisted's
            else:
                if not self._aborted:
                    self.wrappedProtocol.dataReceived(data)
        self._flushSendBIO()  # type: ignore[no-untyped-call]  # the same

    def readConnectionLost(self) -> None:
        """
        The peer has closed its sending side without a close_notify: what it sent may be
        cut short (RFC 8446, 6.1), so this is the end.
        """
        end_half_closed(self)

    def writeConnectionLost(self) -> None:
        """
        Part of `IHalfCloseableProtocol`.
        """

    def _peer_closed(self) -> None:
        protocol: Any = self.wrappedProtocol
        if self.disconnecting or not IHalfCloseableProtocol.providedBy(protocol):
            self._shutdownTLS()  # type: ignore[no-untyped-call]  # the same
            self._tlsShutdownFinished(None)  # type: ignore[no-untyped-call]  # the same
            return
        self.half_closed = True
        transport: Any = self.transport
        transport.pauseProducing()  # whatever came now would only be kept
        protocol.readConnectionLost()

    def write(self, data: bytes) -> None:
        """
        Seal and send, the usual way if anything stands in between.
        """
        if (
            self._appSendBuffer
            or self.disconnecting
            or not self._handshakeDone
            or self._lostTLSConnection
            or not 0 < len(data) <= RECORD
        ):
            super().write(data)  # type: ignore[no-untyped-call]  # Twisted's
            return
        tls = self._tlsConnection
        try:
            tls.send(data)
            sealed = tls.bio_read(len(data) + SEAL)
        except SSL.WantReadError:
            self._bufferedWrite(data)  # type: ignore[no-untyped-call]  # the same
            return
        except SSL.Error:
            self._tlsShutdownFinished(Failure())  # type: ignore[no-untyped-call]  # the same
            return
        transport: Any = self.transport
        if transport.dataBuffer or transport._tempDataLen or transport.disconnected:
            transport.write(sealed)
            return
        try:
            sent = transport.socket.send(sealed)
        except BlockingIOError:
            sent = 0
        except OSError:
            transport.abortConnection()
            return
        if sent != len(sealed):
            transport.write(sealed[sent:])
