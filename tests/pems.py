"""
Certificates for tests, signed by an authority of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

Key = Any  # EC or RSA


@cache
def _rsa(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)  # slow: the same for all tests


class Authority:
    """
    Certificate authority that signs certificates for tests.

    Args:
        folder: of the files; the authority's own certificate is `ca.pem`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("an authority")
        root = self._sign(self._name, self._key, [], True)
        self._intermediate_key = ec.generate_private_key(ec.SECP256R1())
        self.file = str(folder / "ca.pem")
        Path(self.file).write_bytes(root.public_bytes(Encoding.PEM))
        self._intermediate = self._sign(
            _name("an intermediate authority"), self._intermediate_key, [], True
        )

    def _sign(
        self,
        name: x509.Name,
        key: Key,
        hosts: Sequence[str],
        may_sign: bool,
        intermediate: bool = False,
        days: int = 30,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        issuer, signing = self._name, self._key
        if intermediate:
            issuer, signing = self._intermediate.subject, self._intermediate_key
        builder = (
            x509.CertificateBuilder(issuer, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=40))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(may_sign, None), True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            # RFC 5280, 4.2.1: Python 3.13 requires them of a chain.
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), False
            )
            .add_extension(_usage(may_sign), True)
        )
        if hosts:
            names = [_alternative(host) for host in hosts]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
        return builder.sign(signing, SHA256())

    def pair(
        self,
        stem: str,
        *hosts: str,
        kind: str = "ecdsa",
        intermediate: bool = False,
        days: int = 30,
        passphrase: bytes = b"",
    ) -> tuple[str, str]:
        """
        Write `STEM.crt` and `STEM.key`; existing ones are replaced.

        Args:
            stem: of the files' names.
            hosts: names and addresses; the common name is the first.
            kind: `ecdsa` or `rsa`.
            intermediate: sign with an intermediate certificate, which follows in the file.
            days: until the certificate expires; may be negative.
            passphrase: encrypts the key; b"" for no encryption.

        Returns:
            the two paths.
        """
        key: Key = _rsa(0) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
        leaf = self._sign(_name(hosts[0]), key, hosts, False, intermediate, days)
        chain = [leaf, self._intermediate] if intermediate else [leaf]
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        certificate, secret = self.folder / f"{stem}.crt", self.folder / f"{stem}.key"
        certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
        secret.write_bytes(
            key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, encryption)
        )
        return str(certificate), str(secret)


def _usage(may_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not may_sign,
        content_commitment=False,
        key_encipherment=not may_sign,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=may_sign,
        crl_sign=may_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
