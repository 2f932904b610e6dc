"""Reports as other mail systems write them, about mail that an MX of a test took."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from clawmail.store.db import Database
from tests.support.outgoing import make_settings, make_worker, mx_zone, queue, running, settled
from tests.support.smtp_sink import SmtpSink, Taken
from tests.support.tenants import Tenant


def bounce(
    recipient: str, *, status: str = "5.1.1", envid: str = "", message_id: str = "", action: str = "failed"
) -> bytes:
    """A report as an MX would write it."""
    top = f"Original-Envelope-Id: {envid}\r\n" if envid else ""
    returned = f"Message-ID: {message_id}\r\nSubject: hello\r\n" if message_id else "Subject: hello\r\n"
    return (
        "From: MAILER-DAEMON@there.test\r\nTo: agent@example.test\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nIt did not work.\r\n"
        f"--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; there.test\r\n{top}\r\n"
        f"Final-Recipient: rfc822; {recipient}\r\nAction: {action}\r\nStatus: {status}\r\n"
        f"Diagnostic-Code: smtp; 550 {status} it is as it is\r\n"
        f"\r\n--b\r\nContent-Type: text/rfc822-headers\r\n\r\n{returned}\r\n--b--\r\n"
    ).encode()


def complaint(recipient: str, message_id: str, kind: str = "abuse") -> bytes:
    """A feedback report (RFC 5965)."""
    return (
        "From: fbl@there.test\r\nTo: agent@example.test\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nSomebody complained.\r\n"
        "--b\r\nContent-Type: message/feedback-report\r\n\r\n"
        f"Feedback-Type: {kind}\r\nUser-Agent: Test/1\r\nVersion: 1\r\nOriginal-Rcpt-To: {recipient}\r\n"
        "\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n"
        f"Message-ID: {message_id}\r\nSubject: hello\r\n\r\nhi\r\n--b--\r\n"
    ).encode()


async def delivered(db: Database, tenant: Tenant, *recipients: str, **more: Any) -> tuple[UUID, list[UUID], SmtpSink]:
    """Mail that its MX took: its email, its deliveries, the MX. Each recipient's domain has an MX of its name."""
    sink = SmtpSink()
    zone = mx_zone(sorted({recipient.rpartition("@")[2] for recipient in recipients}))
    async with sink as mx, running(make_worker(db, zone, make_settings(mx.port))):
        email_id, ids = await queue(db, tenant, recipients, **more)
        await settled(db, ids)
    return email_id, ids, sink


def envid_of(taken: Taken) -> str:
    """The ENVID that a mail came with."""
    return taken.mail_parameters.rpartition("ENVID=")[2]
