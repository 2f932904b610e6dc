"""The certificate of last resort: made at the first start, kept in the data directory, for ten years."""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID_DAYS = 3650
#: characters of a common name (RFC 5280 appendix A, ub-common-name).
MAX_COMMON_NAME = 64


def self_signed(data_dir: Path, hostname: str) -> Path:
    """The file with certificate and key (PEM) for ``hostname``; made if it is not there. Raises OSError."""
    path = data_dir / "tls" / f"{hostname}.pem"
    if path.exists():
        return path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_make(hostname, datetime.now(UTC)))
            file.flush()
            os.fsync(file.fileno())
        # Several processes may start at once: the first to get here wins, and the file is never seen half written.
        os.link(draft, path)
    except FileExistsError:
        return path
    finally:
        draft.unlink(missing_ok=True)
    return path


def _make(hostname: str, now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:MAX_COMMON_NAME])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
