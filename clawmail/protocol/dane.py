"""DANE for SMTP: a host's certificate held against the TLSA records of its own zone (RFC 7672, RFC 6698).

Two usages count in SMTP. DANE-EE (3) names the host's own key; nothing else about its certificate matters, neither its
names nor its dates (RFC 7672 section 3.1.1). DANE-TA (2) names an authority that the host has to show a chain to, with
a name that fits. PKIX usages (0 and 1) are not used here (section 3.1.3). Only records from DNSSEC-validated answers
may be handed in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .dns import TLSA

DANE_TA, DANE_EE = 2, 3
#: certificates of a chain, and records, that are looked at.
MAX_CHAIN = 10
MAX_RECORDS = 30

_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


def usable(records: Sequence[TLSA]) -> tuple[TLSA, ...]:
    """The records this program can hold a certificate against (RFC 7672 section 3.1)."""
    return tuple(
        record
        for record in records[:MAX_RECORDS]
        if record.usage in (DANE_TA, DANE_EE)
        and record.selector in (0, 1)
        and (record.matching_type == 0 or _fits_digest(record))
    )


def _fits_digest(record: TLSA) -> bool:
    digest = _DIGESTS.get(record.matching_type)
    return digest is not None and len(record.data) == digest().digest_size


def mismatch(chain: Sequence[bytes], records: Sequence[TLSA], names: Sequence[str], now: datetime) -> str:
    """Why the certificates shown (DER, the host's own first) match none of ``records``; "" if one matches.

    ``names``: what the host may be called for DANE-TA: the TLSA base domain and the MX name (RFC 7672 section 3.2.2).
    """
    if not chain:
        return "the host showed no certificate"
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain[:MAX_CHAIN]]
    except ValueError as error:
        return f"the host's certificate cannot be read: {error}"
    leaf = certificates[0]
    if any(_matches(leaf, record) for record in records if record.usage == DANE_EE):
        return ""
    authorities = [record for record in records if record.usage == DANE_TA]
    if not authorities:
        return "the host's certificate is not the one its TLSA records name"
    problem = _path_problem(certificates, authorities, now)
    if problem:
        return problem
    if not _has_name(leaf, names):
        return f"the host's certificate is not for {names[0]}"
    return ""


def _matches(certificate: x509.Certificate, record: TLSA) -> bool:
    # RFC 6698 section 2.1.2: selector 0 is the whole certificate, 1 its SubjectPublicKeyInfo.
    if record.selector == 0:
        selected = certificate.public_bytes(Encoding.DER)
    else:
        selected = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = _DIGESTS.get(record.matching_type)
    return (digest(selected).digest() if digest else selected) == record.data


def _path_problem(certificates: Sequence[x509.Certificate], records: Sequence[TLSA], now: datetime) -> str:
    """Why no chain of signatures leads from the host's certificate to an authority named; "" if one does."""
    current = certificates[0]
    for _ in range(MAX_CHAIN):
        if not current.not_valid_before_utc <= now <= current.not_valid_after_utc:
            return "a certificate of the chain is not valid now"
        if any(_matches(current, record) for record in records):
            return ""
        issuer = next((one for one in certificates[1:] if one is not current and _issued(one, current)), None)
        if issuer is None:
            break
        current = issuer
    return "no authority that the TLSA records name signed the host's certificate"


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, ValueError, TypeError, InvalidSignature):
        return False
    return constraints.ca


def _has_name(certificate: x509.Certificate, names: Sequence[str]) -> bool:
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        shown = {name.lower() for name in alternatives.get_values_for_type(x509.DNSName)}
    except (x509.ExtensionNotFound, ValueError):
        return False
    wanted = {name.lower().rstrip(".") for name in names}
    return bool(shown & (wanted | {"*." + name.partition(".")[2] for name in wanted}))
