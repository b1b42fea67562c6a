"""
TLS to a broker's server: trusted authorities and the daemon's client certificate.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from zope.interface import implementer

_PEM_START = b"-----BEGIN CERTIFICATE-----"


class WrongFile(ValueError):
    """
    Raised for a file that cannot be used.

    Args:
        role: which file: `ca`, `cert` or `key`.
        reason: one sentence that begins with the file's path.
    """

    def __init__(self, role: str, reason: str) -> None:
        super().__init__(reason)
        self.role = role


@dataclass(frozen=True, slots=True)
class ClientTls:
    """
    Paths of PEM files, which are read for each connection: a renewed certificate is
    used from the next one on.

    Args:
        ca: the authorities that may have signed the server's certificate; "" for
            the system's.
        cert: the certificate that the daemon presents, followed by its chain; "" for none.
        key: the certificate's key, without a passphrase; "" if it is in the file of *cert*.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""

    def options(self, host: str) -> Any:
        """
        Return Twisted's TLS options for a connection to *host*, whose name is verified.

        Raises:
            WrongFile: a file cannot be read, or is not what it should be.
            ValueError: *host* is not a valid host name.
        """
        trust = None
        if self.ca:
            trust = trustRootFromCertificates(_read_authorities(self.ca))
        return optionsForClientTLS(host, trust, extraCertificateOptions=self._identity())

    def check(self) -> None:
        """
        Read all files, to find errors at start.

        Raises:
            WrongFile: a file cannot be read, or is not what it should be.
        """
        self.options("localhost")

    def _identity(self) -> dict[str, Any]:
        if not self.cert:
            return {}
        try:
            own, *chain = x509.load_pem_x509_certificates(_read("cert", self.cert))
        except WrongFile:
            raise
        except ValueError:
            raise WrongFile("cert", f"{self.cert}: no PEM certificate in it") from None
        path = self.key or self.cert
        try:
            key: Any = load_pem_private_key(_read("key", path), None)
        except TypeError:
            reason = f"{path}: the private key is encrypted; passphrases are not supported"
            raise WrongFile("key", reason) from None
        except WrongFile:
            raise
        except (ValueError, UnsupportedAlgorithm):
            raise WrongFile("key", f"{path}: no PEM private key in it") from None
        form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if own.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
            reason = f"{path}: not the key of the certificate in {self.cert}"
            raise WrongFile("key", reason)
        return {"privateKey": key, "certificate": own, "extraCertChain": chain}


NO_FILES = ClientTls()


def _read(role: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise WrongFile(role, f"{path}: {error.strerror}") from None


def _read_authorities(path: str) -> list[Any]:
    pieces = _read("ca", path).split(_PEM_START)[1:]
    if not pieces:
        raise WrongFile("ca", f"{path}: no PEM certificate in it")
    try:
        return [Certificate.loadPEM(_PEM_START + piece) for piece in pieces]
    except Exception as error:  # OpenSSL raises several kinds
        raise WrongFile("ca", f"{path}: not PEM certificates ({error})") from None


@implementer(IStreamClientEndpoint)
class ClientTlsEndpoint:
    """
    Connects by TLS, with the certificate files as they are at that time.

    Args:
        reactor: the reactor.
        host: name or address; the certificate must be for it.
        port: TCP port.
        tls: the certificate files.
        seconds: time limit for connecting.
    """

    def __init__(self, reactor: Any, host: str, port: int, tls: ClientTls, seconds: float) -> None:
        self._host = host
        self._tls = tls
        self._plain = HostnameEndpoint(reactor, host, port, timeout=seconds)

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        try:
            options = self._tls.options(self._host)
        except ValueError:
            return fail()
        connected: Deferred[Any] = wrapClientTLS(options, self._plain).connect(protocolFactory)
        return connected
