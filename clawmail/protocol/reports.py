"""Complaints that come in by mail: the Abuse Reporting Format (RFC 5965, with RFC 6591 and 6650).

A mailbox provider sends one when its user presses "spam". What we need of it is which of our messages it was, and to
whom it went; providers black out the recipient in the copy, so the fields of the report are asked first and the copy
second, and our own signed return path (``srs.read_return_path``) says the rest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from .mime.fields import message_ids, parse_date
from .mime.mailboxes import parse_mailboxes
from .mime.structure import Part, read_structure
from .mime.transfer import decode_transfer
from .mime.words import header_text

#: octets of the report's fields, and of the returned message's header, that are looked at.
MAX_REPORT_OCTETS = 64 * 1024
MAX_RETURNED_OCTETS = 256 * 1024
#: recipients a report may name.
MAX_RECIPIENTS = 100

_REPORT = "message/feedback-report"
_RETURNED = (
    "message/rfc822",
    "message/global",
    "text/rfc822-headers",
    "message/rfc822-headers",
    "message/global-headers",
)
_FIELD = re.compile(rb"^([A-Za-z][A-Za-z-]*+)[ \t]*+:((?>[^\n]*\n[ \t])*+[^\n]*+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Complaint:
    """One feedback report."""

    #: "abuse", "fraud", "virus", "not-spam", "other" …, in lower case (RFC 5965 section 7.3).
    feedback_type: str
    #: who complained: Original-Rcpt-To, or the recipients of the returned copy. May be empty.
    recipients: tuple[str, ...]
    #: Message-ID of the message complained of, with its angle brackets.
    message_id: str | None
    #: the envelope sender it had (Original-Mail-From, or Return-Path of the copy), without brackets; "" when not told.
    mail_from: str
    #: when the provider got it.
    arrived: datetime | None
    #: the address it came from, as told.
    source_ip: str
    #: the program that wrote the report.
    user_agent: str


def read_complaint(raw: bytes) -> Complaint | None:
    """The complaint in ``raw``, or None when it is no feedback report. Never raises; linear in the message."""
    report, returned = None, None
    waiting = [read_structure(raw).root]
    while waiting:
        part = waiting.pop()
        waiting.extend(reversed(part.children or []))
        if part.content_type == _REPORT and report is None:
            report = part
        elif part.content_type in _RETURNED and returned is None:
            returned = part
    if report is None:
        return None
    fields = _fields(_content(raw, report)[:MAX_REPORT_OCTETS])
    copy = _header_of_copy(raw, returned)
    recipients = [box.address for value in fields.get("original-rcpt-to", ()) for box in parse_mailboxes(value)]
    if not recipients:
        recipients = [
            box.address for name in ("to", "cc") for value in copy.get(name, ()) for box in parse_mailboxes(value)
        ]
    ids = message_ids((copy.get("message-id") or [b""])[0], limit=1)
    arrival = next(iter(fields.get("arrival-date", ()) or fields.get("received-date", ())), b"")
    return Complaint(
        feedback_type=_text(fields, "feedback-type").lower() or "other",
        recipients=tuple(dict.fromkeys(recipients))[:MAX_RECIPIENTS],
        message_id=ids[0] if ids else None,
        mail_from=(_text(fields, "original-mail-from") or _text(copy, "return-path")).strip("<> "),
        arrived=parse_date(arrival) if arrival else None,
        source_ip=_text(fields, "source-ip"),
        user_agent=_text(fields, "user-agent"),
    )


def _content(raw: bytes, part: Part) -> bytes:
    return decode_transfer(raw[part.start : min(part.end, part.start + MAX_RETURNED_OCTETS)], part.encoding)


def _fields(octets: bytes) -> dict[str, list[bytes]]:
    fields: dict[str, list[bytes]] = {}
    for name, value in _FIELD.findall(octets):
        fields.setdefault(name.decode("ascii").lower(), []).append(value)
    return fields


def _header_of_copy(raw: bytes, returned: Part | None) -> dict[str, list[bytes]]:
    if returned is None:
        return {}
    fields: dict[str, list[bytes]] = {}
    for name, value in read_structure(_content(raw, returned)).root.fields:
        fields.setdefault(name.decode("ascii").lower(), []).append(value)
    return fields


def _text(fields: dict[str, list[bytes]], name: str) -> str:
    return header_text(fields[name][0]) if name in fields else ""
