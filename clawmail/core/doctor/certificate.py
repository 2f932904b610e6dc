"""The certificate of the door, judged as a sender with MTA-STS would (RFC 8461 section 4.1).

Most senders take any certificate, so a self-signed one is no failure. One that somebody paid attention to set, and that
does not load, has expired or is for another name, is.
"""

from __future__ import annotations

import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from clawmail.base.settings import Settings
from clawmail.core.doctor.findings import Finding, fail, ok, warn

#: a certificate that ends sooner than this should have been renewed by now.
RENEWED_BEFORE = timedelta(days=14)
#: flights of a TLS handshake, with some to spare.
HANDSHAKE_TURNS = 10
RENEW = "Renew it (certbot renew) and send the server SIGHUP."


class _Files(NamedTuple):
    chain: Path
    key: Path
    #: made by the server for want of a better one.
    self_signed: bool


def examine_certificate(settings: Settings, now: datetime | None = None) -> list[Finding]:
    """What there is to say about the certificate for ``settings.hostname``. Reads files."""
    name, now = settings.hostname.lower(), now or datetime.now(UTC)
    files = _find(settings, name)
    if files is None:
        return [
            warn(
                "certificate",
                f"there is no certificate for {name}; a self-signed one is made at the first start",
                "Set smtp.tls_cert and smtp.tls_key, or smtp.tls_dir; certificates of Let's Encrypt are free.",
            )
        ]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.chain, files.key)
        leaf = x509.load_pem_x509_certificate(files.chain.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return [fail("certificate", f"{files.chain} does not load: {reason}", "Correct the files and their owner.")]
    return [_judge(files, leaf, name, now)]


def _find(settings: Settings, name: str) -> _Files | None:
    """The files the door would take: the configured ones, the directory's for our name, its own."""
    smtp = settings.smtp
    if smtp.tls_cert:
        return _Files(Path(smtp.tls_cert), Path(smtp.tls_key or smtp.tls_cert), False)
    if smtp.tls_dir:
        folder = Path(smtp.tls_dir)
        for chain, key in (
            (folder / name / "fullchain.pem", folder / name / "privkey.pem"),
            (folder / name / f"{name}.crt", folder / name / f"{name}.key"),
            (folder / f"{name}.pem", folder / f"{name}.key"),
            (folder / f"{name}.crt", folder / f"{name}.key"),
        ):
            if chain.exists():
                return _Files(chain, key if key.exists() else chain, False)
    own = Path(settings.server.data_dir) / "tls" / f"{name}.pem"
    return _Files(own, own, True) if own.exists() else None


def _judge(files: _Files, leaf: x509.Certificate, name: str, now: datetime) -> Finding:
    begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    until = f"{files.chain} is valid until {ends:%Y-%m-%d}"
    if now > ends:
        return fail("certificate", f"{files.chain} expired on {ends:%Y-%m-%d}", RENEW)
    if now < begins:
        return fail(
            "certificate", f"{files.chain} is not valid before {begins:%Y-%m-%d}", "Check this machine's clock."
        )
    if files.self_signed:
        return warn(
            "certificate",
            f"{until}, but self-signed: senders encrypt with it, and none can be sure that it is us",
            "Set smtp.tls_cert and smtp.tls_key, or smtp.tls_dir; certificates of Let's Encrypt are free.",
        )
    names = _names(leaf)
    if not any(_covers(pattern, name) for pattern in names):
        return fail("certificate", f"{files.chain} is for {', '.join(names) or 'no name'}, not for {name}", RENEW)
    if ends - now < RENEWED_BEFORE:
        return warn("certificate", f"{until} only", RENEW)
    problem = _untrusted(files, name)
    if problem:
        return warn(
            "certificate",
            f"{until}, but no public authority vouches for it: {problem}",
            "Let the file hold the whole chain (fullchain.pem) of a public authority.",
        )
    return ok("certificate", f"{until}, for {', '.join(names[:5])}")


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name.lower() for name in names.get_values_for_type(x509.DNSName)]


def _covers(pattern: str, name: str) -> bool:
    """RFC 6125 section 6.4.3: a wildcard stands for the whole first label."""
    return pattern == name or (pattern.startswith("*.") and pattern[2:] == name.partition(".")[2])


def _untrusted(files: _Files, name: str) -> str:
    """Why a sender who checks would turn away, in OpenSSL's words; "" when he would not.

    A handshake in memory: what is trusted is what this system trusts, and nothing goes over a wire.
    """
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.chain, files.key)
    upstream, downstream = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(upstream, downstream, server_side=True)
    client = ssl.create_default_context().wrap_bio(downstream, upstream, server_hostname=name)
    for _ in range(HANDSHAKE_TURNS):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            with contextlib.suppress(ssl.SSLWantReadError):
                server.do_handshake()
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        else:
            return ""
    return "the handshake does not end"
