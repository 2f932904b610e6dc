"""What the SMTP door hands in: a message and its envelope (RFC 5321 section 2.3.1), and how it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from clawmail.model.tenancy import Domain, Inbox
from clawmail.protocol.spf.check import SpfResult


class Refused(Exception):
    """Mail that is not taken: the SMTP reply says why."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(f"{code} {enhanced} {text}")
        self.code = code
        self.enhanced = enhanced
        self.text = text


@dataclass(frozen=True, slots=True)
class ReturnPath:
    """An address of our own making that a bounce comes home to, as ``core.outbound.feedback`` recognised it."""

    address: str
    #: looks like one of ours, but the signature is wrong or it has expired: refused at RCPT.
    forged: bool
    #: the delivery it was made for; None for a rewritten sender of a forward (SRS).
    made_for: UUID | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """One accepted RCPT."""

    #: as the client gave it, domain in lower-case A-labels.
    address: str
    #: where it is filed: what comes home to a return path goes to the inbox that sent the delivery; None without one.
    inbox: Inbox | None
    domain: Domain | None
    #: DSN wishes (RFC 3461): NEVER, or of SUCCESS, FAILURE, DELAY; None if not said.
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None
    #: the return path of ours that this address is.
    return_path: ReturnPath | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """One message as the SMTP door got it."""

    #: after dot-unstuffing, CRLF line ends, exactly as sent.
    raw: bytes
    #: "" is the null sender.
    mail_from: str
    recipients: tuple[Recipient, ...]
    client_ip: IPv4Address | IPv6Address
    #: what the client called itself.
    helo: str
    #: protocol word of RFC 3848 and RFC 6531: ESMTP, ESMTPS, UTF8SMTPS …
    protocol: str
    received_at: datetime
    session_id: str
    #: "TLSv1.3 TLS_AES_256_GCM_SHA384", "" without TLS.
    tls: str = ""
    #: forward-confirmed name of the client, "" if it has none.
    client_name: str = ""
    #: what ``check_sender`` found; None: not yet checked.
    spf: SpfResult | None = None
    smtputf8: bool = False
    require_tls: bool = False
    #: DSN: FULL or HDRS, and the sender's envelope id.
    ret: str | None = None
    envid: str | None = None
    #: the id of the message that is made of it, by which nobody files it twice; None: a new one.
    message_id: UUID | None = None
