"""Bounces, delay notices and receipts that we send (RFC 3461, 3464, 6522, 6533).

A report is for two readers. The person gets plain sentences: who did not get the message, why, what the other server
said, what to do. The program gets a ``message/delivery-status`` part with the same facts. The third part is the message
it is about, whole when it was asked for (RET=FULL) or small, else its header. A report about a report does not exist:
for the null sender nothing is written (RFC 3464 section 2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from textwrap import wrap

from ..headers import split_message
from ..mime.charset import clean
from ..mime.encode import checked, fold, ids_field, mailboxes_field, text_field
from ..mime.mailboxes import Mailbox
from ..mime.words import header_text
from .status import meaning, one_line

#: octets of an original that is returned whole without having been asked for, and of one that was.
MAX_UNASKED_OCTETS = 64 * 1024
MAX_RETURNED_OCTETS = 5 * 1024 * 1024
#: octets of a returned header, and recipients told in one report.
MAX_HEADER_OCTETS = 64 * 1024
MAX_RECIPIENTS = 1_000
#: columns of the text for people; characters of one word of a reply, as no line may grow beyond 998 octets.
HUMAN_COLUMNS = 76
MAX_WORD_CHARS = 240

_CODES = re.compile(r"[245]\d\d (?:[245]\.\d{1,3}\.\d{1,3} )?")
_XTEXT_PLAIN = re.compile(r"[!-~]+")
_SUBJECTS = {
    "failed": "Undelivered: {}",
    "delayed": "Delayed: {}",
    "delivered": "Delivered: {}",
    "relayed": "Passed on: {}",
    "expanded": "Passed on: {}",
}
_OPENINGS = {
    "failed": "Your message could not be delivered to:",
    "delayed": "Your message has not been delivered yet. You need not send it again, we go on trying:",
    "delivered": "Your message was delivered to:",
    "relayed": "Your message was passed to a server that gives no receipts of its own, for:",
    "expanded": "Your message was passed on to the members of:",
}
_ADVICE = {
    "1": "Check the address for a slip of the pen, and ask the person for the right one.",
    "2": "Try again later, or reach the person in another way.",
    "3": "Try again later; if the message is large, send it in parts or as a link.",
    "4": "Check the part behind the @. If it is right, try again later.",
    "5": "This looks like a technical fault; your administrator can tell from the server's words.",
    "6": "Send the content in another form.",
    "7": "The receiving side refused it. Ask the person to allow your address, or ask your administrator.",
}


@dataclass(frozen=True, slots=True)
class DsnRecipient:
    """What became of one recipient."""

    #: the address the delivery failed at.
    final: str
    #: "failed", "delayed", "delivered", "relayed" or "expanded".
    action: str
    #: enhanced status code, such as "5.1.1".
    status: str
    #: the last SMTP reply, or what went wrong in words when there was none.
    reply: str = ""
    #: the server that said it; "" when no other server said anything.
    remote_host: str = ""
    #: ORCPT as the sender gave it, decoded: "rfc822;bob@example.org"; "" without one.
    original: str = ""
    last_attempt: datetime | None = None
    #: for "delayed": when we give up.
    retry_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class DsnRequest:
    """The message a report is about, and what its sender asked for."""

    #: the envelope sender.
    sender: str
    #: the message as it was to be delivered.
    original: bytes
    arrived: datetime
    #: "FULL", "HDRS" or "" (RFC 3461 section 4.3).
    ret: str = ""
    #: ENVID, decoded; "" without one.
    envelope_id: str = ""


def write_dsn(
    request: DsnRequest,
    recipients: Sequence[DsnRecipient],
    *,
    reporting_host: str,
    message_id: str,
    now: datetime,
) -> bytes | None:
    """The report as a message to ``request.sender``; None when that is the null sender or there is nobody to tell of.

    It is to be sent with the null sender. ``message_id`` has its angle brackets; ``now`` is aware.
    """
    recipients = recipients[:MAX_RECIPIENTS]
    if request.sender in ("", "<>") or not recipients:
        return None
    # RFC 6533 section 3: the "global" types, if any address or the returned header is not ASCII.
    returned, whole = _returned(request, recipients)
    header_end = split_message(returned).body_start
    is_global = not all(r.final.isascii() and r.original.isascii() for r in recipients)
    status_part = _status_part(request, recipients, reporting_host)
    kind = _returned_type(returned[:header_end], whole)
    parts = (
        ("text/plain; charset=utf-8", _human_part(request, recipients, reporting_host).encode("utf-8")),
        (f"message/{'global-' if is_global else ''}delivery-status", status_part.encode("utf-8")),
        (kind, returned),
    )
    boundary = f"=_dsn_{re.sub(r'[^A-Za-z0-9]', '', message_id)[:40]}"
    worst = _worst_action(recipients)
    head = "".join(
        (
            mailboxes_field("From", [Mailbox("Mail Delivery System", f"MAILER-DAEMON@{reporting_host}")]),
            mailboxes_field("To", [Mailbox("", checked("sender", request.sender))]),
            text_field("Subject", checked("subject", _SUBJECTS[worst].format(_subject_of(request.original)))),
            f"Date: {format_datetime(now)}\r\nMessage-ID: {message_id}\r\n",
            _reply_fields(request.original),
            "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n",
            f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n\r\n',
        )
    )
    return head.encode("utf-8") + _multipart(boundary, parts)


def _multipart(boundary: str, parts: Sequence[tuple[str, bytes]]) -> bytes:
    pieces = []
    for kind, content in parts:
        encoding = "7bit" if content.isascii() else "8bit"
        head = f"--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        pieces += [head.encode("ascii"), content, b"\r\n"]
    return b"".join(pieces) + f"--{boundary}--\r\n".encode("ascii")


def _worst_action(recipients: Sequence[DsnRecipient]) -> str:
    actions = {recipient.action for recipient in recipients}
    return next((action for action in _OPENINGS if action in actions), "failed")


def _human_part(request: DsnRequest, recipients: Sequence[DsnRecipient], reporting_host: str) -> str:
    lines = [f"This is the mail server {reporting_host}.", ""]
    for action, opening in _OPENINGS.items():
        concerned = [recipient for recipient in recipients if recipient.action == action]
        if not concerned:
            continue
        lines += [opening, ""]
        for recipient in concerned:
            lines += [*_about(recipient), ""]
    lines += ["Your message:", f"    Subject: {_subject_of(request.original)}"]
    lines += [f"    Received: {format_datetime(request.arrived)}", ""]
    return clean("\r\n".join(lines)) + "\r\n"


def _about(recipient: DsnRecipient) -> list[str]:
    lines = [f"    {_line(recipient.final)}"]
    if recipient.action in ("failed", "delayed"):
        why = meaning(recipient.status)
        if why:
            lines.append(f"        Why: {why} ({recipient.status}).")
        if recipient.reply:
            lines.append(f"        {_told(recipient)}")
        if recipient.retry_until:
            lines.append(f"        We try until: {format_datetime(recipient.retry_until)}")
        if recipient.action == "failed":
            _, _, rest = recipient.status.partition(".")
            lines.append(f"        What to do: {_ADVICE.get(rest.partition('.')[0], _ADVICE['5'])}")
    return [part for line in lines for part in wrap(line, HUMAN_COLUMNS, subsequent_indent=" " * 12)]


def _told(recipient: DsnRecipient) -> str:
    reply = _line(recipient.reply)
    if recipient.remote_host:
        return f"{_line(recipient.remote_host)} said: {reply}"
    # Our own words; the codes before them would look like a server's.
    codes = _CODES.match(reply)
    return f"What happened: {reply[codes.end() :] if codes else reply}"


def _status_part(request: DsnRequest, recipients: Sequence[DsnRecipient], reporting_host: str) -> str:
    lines = []
    if request.envelope_id:
        lines.append(f"Original-Envelope-Id: {_line(request.envelope_id)}")
    lines += [f"Reporting-MTA: dns; {reporting_host}", f"Arrival-Date: {format_datetime(request.arrived)}"]
    for recipient in recipients:
        lines.append("")
        if recipient.original:
            lines.append(f"Original-Recipient: {_line(recipient.original)}")
        kind = "rfc822" if recipient.final.isascii() else "utf-8"
        lines += [f"Final-Recipient: {kind}; {_line(recipient.final)}", f"Action: {recipient.action}"]
        lines.append(f"Status: {recipient.status}")
        if recipient.remote_host:
            lines.append(f"Remote-MTA: dns; {_line(recipient.remote_host)}")
        if recipient.reply:
            kind = "smtp;" if recipient.remote_host else "x-clawmail;"  # no server said it: our own words
            words = [word[:MAX_WORD_CHARS] for word in _line(recipient.reply).split(" ")]
            lines.append(fold("Diagnostic-Code:", [kind, *words]).removesuffix("\r\n"))
        if recipient.last_attempt:
            lines.append(f"Last-Attempt-Date: {format_datetime(recipient.last_attempt)}")
        if recipient.retry_until:
            lines.append(f"Will-Retry-Until: {format_datetime(recipient.retry_until)}")
    return "\r\n".join(lines) + "\r\n"


def _returned(request: DsnRequest, recipients: Sequence[DsnRecipient]) -> tuple[bytes, bool]:
    """The original as it is returned, and whether it is whole."""
    asked = request.ret.upper()
    failed = any(recipient.action == "failed" for recipient in recipients)
    room = MAX_RETURNED_OCTETS if asked == "FULL" else MAX_UNASKED_OCTETS
    # RET is for reports of failure; all others return the header alone (RFC 3461 section 4.3).
    if failed and asked != "HDRS" and len(request.original) <= room:
        return request.original, True
    header = request.original[: split_message(request.original).body_start]
    return header[:MAX_HEADER_OCTETS], False


def _returned_type(header: bytes, whole: bool) -> str:
    if header.isascii():
        return "message/rfc822" if whole else "text/rfc822-headers"
    return "message/global" if whole else "message/global-headers"


def _reply_fields(original: bytes) -> str:
    field = split_message(original).first("message-id")
    identifier = _line(field.value.decode("utf-8", "replace")) if field else ""
    if not identifier.startswith("<") or not _XTEXT_PLAIN.fullmatch(identifier):
        return ""
    return ids_field("In-Reply-To", [identifier]) + ids_field("References", [identifier])


def _subject_of(original: bytes) -> str:
    field = split_message(original).first("subject")
    return _line(header_text(field.value[:4096]))[:200] if field else "(no subject)"


def _line(text: str) -> str:
    return one_line(clean(text))
