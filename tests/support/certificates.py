"""Certificates for tests: an authority, and hosts it vouches for."""

from __future__ import annotations

import ssl
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Identity:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def spki(self) -> bytes:
        """SubjectPublicKeyInfo, DER."""
        return self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def server_context(self, *chain: Identity) -> ssl.SSLContext:
        """A context for a server that shows this certificate and ``chain``."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "host.pem"
            file.write_bytes(key + self.pem + b"".join(one.pem for one in chain))
            context.load_cert_chain(file)
        return context


def make_authority(name: str = "Test Authority", by: Identity | None = None) -> Identity:
    """A certificate authority, vouched for ``by`` another or by itself."""
    return _make(name, by, names=(), is_authority=True, days=30)


def make_host(*names: str, by: Identity | None = None, days: int = 30) -> Identity:
    """A host certificate for ``names``, signed by ``by`` or by itself; ``days`` from now it ends (or ended)."""
    return _make(names[0], by, names=names, is_authority=False, days=days)


def _make(common: str, by: Identity | None, *, names: tuple[str, ...], is_authority: bool, days: int) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=60))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        # Who verifies strictly (RFC 5280 section 4.2.1.1) wants to be told which key signed.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key((by.key if by else key).public_key()), critical=False
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    return Identity(key, builder.sign(by.key if by else key, hashes.SHA256()))
