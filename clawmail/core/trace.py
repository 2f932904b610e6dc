"""Trace fields (RFC 5321 section 4.4): what we put on top of mail that comes in, and how a loop is seen in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from email.utils import format_datetime
from uuid import UUID

from clawmail.core.envelope import Envelope
from clawmail.protocol.headers import HeaderField

#: Received fields of a message that has been around too much (RFC 5321 section 6.3).
MAX_RECEIVED = 50
#: how often a message may have passed through one of our own names.
MAX_RECEIVED_BY_US = 3

_BY = re.compile(rb"\bby\s+([A-Za-z0-9_.-]{1,255})", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]|[()\\<>]")
#: how much of one Received field is searched, in bytes.
MAX_FIELD_BYTES = 2048


def received_field(envelope: Envelope, *, hostname: str, queue_id: UUID) -> bytes:
    """Our Received field, CRLF-ended. Names the recipient only when there is but one, so that none learns of others."""
    helo = _UNPRINTABLE.sub("?", envelope.helo)[:255] or "unknown"
    client = f"{envelope.client_name or 'unknown'} [{_literal(envelope)}]"
    lines = [f"Received: from {helo} ({client})"]
    if envelope.tls:
        lines.append(f"\t(using {envelope.tls})")
    lines.append(f"\tby {hostname} (Clawmail) with {envelope.protocol} id {queue_id}")
    if len(envelope.recipients) == 1:
        lines.append(f"\tfor <{envelope.recipients[0].address}>")
    return ("\r\n".join(lines) + f";\r\n\t{date_text(envelope.received_at)}\r\n").encode("utf-8", "replace")


def return_path_field(mail_from: str) -> bytes:
    """The envelope sender, as final delivery writes it down."""
    return f"Return-Path: <{mail_from}>\r\n".encode("utf-8", "replace")


def date_text(moment: datetime) -> str:
    """RFC 5322 date and time."""
    return format_datetime(moment)


def hosts_passed(fields: Iterable[HeaderField]) -> list[str]:
    """Names that the Received fields say the message passed through, lower case, topmost first; "" where unreadable."""
    hosts = []
    for field in fields:
        if field.name.lower() == b"received":
            by = _BY.search(field.value[:MAX_FIELD_BYTES])
            hosts.append(by[1].decode("ascii").rstrip(".").lower() if by else "")
            if len(hosts) > MAX_RECEIVED:
                break  # too many already: how many more does not matter
    return hosts


def _literal(envelope: Envelope) -> str:
    ip = envelope.client_ip
    return f"IPv6:{ip}" if ip.version == 6 else str(ip)
