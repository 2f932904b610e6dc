"""TLS towards MX hosts: what is demanded of a connection, and what a handshake's failure is called (RFC 8460).

Most mail is protected opportunistically: any certificate will do, since the alternative is clear text (RFC 7435). Where
the recipient's domain publishes a policy, by MTA-STS or DANE, or the message asks for it by REQUIRETLS, a connection
that falls short is not used at all.
"""

from __future__ import annotations

import enum
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


class Level(enum.IntEnum):
    """How much protection is demanded."""

    #: clear text, because this host's TLS is broken and nobody demands more.
    NEVER = 0
    #: TLS where it works, unverified.
    MAY = 1
    #: TLS, unverified.
    ENCRYPT = 2
    #: TLS with a certificate that a public authority signed for the host's name (RFC 8461 section 4.1).
    PKIX = 3
    #: TLS with a certificate that the host's TLSA records name (RFC 7672).
    DANE = 4


@dataclass(frozen=True, slots=True)
class Demand:
    """What a connection has to offer to be used."""

    level: Level = Level.MAY
    #: for DANE: given the certificates the host showed (DER, its own first), why they do not match; "" if they do.
    check: Callable[[list[bytes]], str] | None = None
    #: whose demand it is, in the words of RFC 8460 section 4.4.
    policy: Literal["sts", "tlsa", "no-policy-found"] = "no-policy-found"
    #: a failure is counted, and mail goes all the same (RFC 8461 section 5, mode "testing").
    forgiving: bool = False


class TlsFailed(Exception):
    """The protection demanded could not be had. ``result`` is a result type of RFC 8460 section 4.3."""

    def __init__(self, why: str, result: str) -> None:
        super().__init__(why)
        self.result = result


class TlsContexts:
    """The two contexts of a process: one that verifies, one that does not."""

    def __init__(self, *, min_version: str = "1.2", ca_file: str = "") -> None:
        """``ca_file``: authorities trusted beside the system's, PEM."""
        version = ssl.TLSVersion.TLSv1_3 if min_version == "1.3" else ssl.TLSVersion.TLSv1_2
        self.verifying = ssl.create_default_context()
        if ca_file:
            self.verifying.load_verify_locations(ca_file)
        self.verifying.minimum_version = version
        self.unverified = ssl.create_default_context()
        self.unverified.check_hostname = False
        self.unverified.verify_mode = ssl.CERT_NONE
        self.unverified.minimum_version = version

    def of(self, level: Level) -> ssl.SSLContext:
        """The context for a level."""
        return self.verifying if level is Level.PKIX else self.unverified


def shown_chain(connection: ssl.SSLObject) -> list[bytes]:
    """The certificates the host showed, DER, its own first."""
    # Public from Python 3.13 on; before that the same call is one attribute deeper.
    source = getattr(connection, "get_unverified_chain", None) or connection._sslobj.get_unverified_chain  # type: ignore[attr-defined]  # private in 3.11
    return [one if isinstance(one, bytes) else one.public_bytes(_DER) for one in source() or []]


#: _ssl.ENCODING_DER, which 3.11 does not export.
_DER = 2

# X509_V_ERR_…: why OpenSSL refused a certificate (x509_vfy.h)
_RESULTS = {9: "certificate-expired", 10: "certificate-expired", 62: "certificate-host-mismatch"}


def failure_result(error: BaseException) -> str:
    """The RFC 8460 section 4.3.2 name of a failed handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _RESULTS.get(error.verify_code, "certificate-not-trusted")
    return "validation-failure"
