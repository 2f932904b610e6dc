"""Finishing what a mail client hands in (RFC 6409 section 8): a missing Date or Message-ID is added, Bcc taken out.

Nothing else of the message is touched: it is about to be signed in its author's name.
"""

from __future__ import annotations

from datetime import datetime
from email.utils import format_datetime
from uuid import uuid4

from clawmail.protocol.address import folded
from clawmail.protocol.headers import split_message, without_mbox_line
from clawmail.protocol.mime.mailboxes import parse_mailboxes


def complete_submission(raw: bytes, domain: str, now: datetime) -> bytes:
    """``raw`` ready to be signed and sent; ``domain`` is the right side of a Message-ID made here."""
    message = split_message(raw)
    added = b""
    if message.first(b"date") is None:
        added += f"Date: {format_datetime(now)}\r\n".encode()
    if message.first(b"message-id") is None:
        added += f"Message-ID: <{uuid4()}@{domain}>\r\n".encode()
    return added + without_fields(raw, {b"bcc"})


def authors_of(raw: bytes) -> list[str]:
    """The address of every author in every From field, folded (RFC 5322 section 3.6.2)."""
    fields = split_message(raw).all(b"from")
    return [folded(box.address) for field in fields for box in parse_mailboxes(field.value)]


def without_fields(raw: bytes, names: set[bytes]) -> bytes:
    """``raw`` less every header field of those lower-case names, ready to have others put on top.

    A leading mbox line goes too: below other fields it would end the header.
    """
    raw = without_mbox_line(raw)
    message = split_message(raw)
    if not names.intersection(message.by_name):
        return raw
    header_end = sum(len(field.raw) for field in message.fields)
    kept = b"".join(field.raw for field in message.fields if field.name.lower() not in names)
    return kept + raw[header_end:]
