"""Mail to test with: messages and postings as rows, by the same writer that real mail takes."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any
from uuid import UUID

from clawmail.base.ids import new_id
from clawmail.core.writer import Writer
from clawmail.model.delivery import NewDelivery, State
from clawmail.model.mail import Filing, Message, Posting
from clawmail.protocol.mime.parse import parse_message
from clawmail.store.db import Database
from tests.support.tenants import Tenant

#: what a judged message from outside looks like in the API.
AUTHENTICATION = {
    "spf": {
        "result": "pass",
        "domain": "mailer.other.test",
        "comment": "mx.example.test: domain of bounce@mailer.other.test designates 198.51.100.7 as permitted sender",
    },
    "dkim": {
        "result": "pass",
        "signatures": [
            {
                "result": "pass",
                "signing_domain": "other.test",
                "selector": "default",
                "algorithm": "rsa-sha256",
                "aligned": True,
            }
        ],
    },
    "dmarc": {
        "result": "pass",
        "domain": "other.test",
        "policy": "reject",
        "comment": "p=REJECT",
        "header_from": "other.test",
        "alignment": {
            "spf": {"result": "other.test", "strict": False},
            "dkim": {"result": "other.test", "strict": False, "underSized": False},
        },
    },
    "disposition": "none",
}

#: what the kept counts of an inbox have to be.
COUNTS = """
SELECT coalesce(sum(size), 0) AS used_bytes,
       count(*) FILTER (WHERE NOT is_archived AND NOT is_read) AS unread,
       count(*) FILTER (WHERE NOT is_archived AND is_read) AS read,
       count(*) FILTER (WHERE is_archived AND NOT is_read) AS archived_unread,
       count(*) FILTER (WHERE is_archived AND is_read) AS archived_read,
       count(*) FILTER (WHERE direction = 'inbound' AND NOT is_archived AND NOT is_read) AS inbound_unread
FROM emails WHERE inbox_id = $1
"""


def message_of(raw: bytes, **changes: Any) -> Message:
    """The message that ``raw`` is, as it would be received; ``changes`` are put over its fields."""
    parsed = parse_message(raw)
    author = parsed.from_.address if parsed.from_ else ""
    message = Message(
        id=new_id(),
        raw=raw,
        trace=b"Return-Path: <peer@other.test>\r\n",
        rfc_message_id=parsed.message_id,
        in_reply_to=parsed.in_reply_to,
        reference_ids=parsed.references,
        subject=parsed.subject or "",
        from_address=author,
        from_name=parsed.from_.name if parsed.from_ else "",
        envelope_from=author,
        sender_warning=None,
        to_addresses=tuple(box.address for box in parsed.to),
        cc_addresses=tuple(box.address for box in parsed.cc),
        bcc_addresses=(),
        reply_to=tuple(box.address for box in parsed.reply_to),
        body_text=parsed.text,
        body_html=parsed.html,
        attachments=tuple(asdict(attachment) for attachment in parsed.attachments),
        authentication=AUTHENTICATION,
        received_at=datetime.now(UTC),
    )
    return replace(message, **changes)


def plain(subject: str = "hello", body: str = "Hi there", *fields: str) -> bytes:
    """A small message with a Message-ID of its own."""
    lines = [
        "From: Peer <peer@other.test>",
        "To: agent@example.test",
        f"Subject: {subject}",
        f"Message-ID: <{new_id()}@other.test>",
        *fields,
        "",
        body,
        "",
    ]
    return "\r\n".join(lines).encode()


async def file(
    db: Database,
    tenant: Tenant,
    raw: bytes | None = None,
    *,
    inbox_id: UUID | None = None,
    direction: str = "inbound",
    recipients: tuple[str, ...] = (),
    also_in: tuple[UUID, ...] = (),
    **changes: Any,
) -> UUID:
    """Files a message into the tenant's inbox and returns the email's id; ``recipients`` are queued deliveries."""
    message = message_of(raw or plain(), **changes)
    first = new_id()
    filings = [
        Filing(
            email_id,
            tenant.organisation_id,
            tenant.domain.id,
            inbox,
            "outbound" if direction == "outbound" else "inbound",
            direction == "outbound",
        )
        for email_id, inbox in [(first, inbox_id or tenant.inbox.id), *((new_id(), other) for other in also_in)]
    ]
    deliveries = tuple(delivery_to(tenant, first, address) for address in recipients)
    await Writer(db).write(Posting(message, tuple(filings), deliveries))
    return first


def delivery_to(tenant: Tenant, email_id: UUID, address: str) -> NewDelivery:
    """A queued delivery of a sent email."""
    now = datetime.now(UTC)
    return NewDelivery(
        id=new_id(),
        organisation_id=tenant.organisation_id,
        domain_id=tenant.domain.id,
        inbox_id=tenant.inbox.id,
        email_id=email_id,
        rule_id=None,
        kind="send",
        envelope_from=tenant.inbox.address,
        recipient=address,
        destination=address.rpartition("@")[2],
        state=State.QUEUED,
        next_attempt_at=now,
        created_at=now,
    )


def with_files(*files: tuple[str, bytes], content_type: str = "application/octet-stream") -> bytes:
    """A message with these files attached."""
    message = EmailMessage()
    message["From"], message["To"] = "peer@other.test", "agent@example.test"
    message["Subject"], message["Message-ID"] = "files", f"<{new_id()}@other.test>"
    message.set_content("see the files")
    for name, content in files:
        maintype, _, subtype = content_type.partition("/")
        message.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
    return message.as_bytes().replace(b"\n", b"\r\n")


async def assert_counts_are_kept(db: Database, inbox_id: UUID) -> None:
    """What is kept has to be what would be counted."""
    async with db.connection() as conn:
        kept = dict(await conn.fetchrow("SELECT * FROM inbox_usage WHERE inbox_id = $1", inbox_id))
        counted = dict(await conn.fetchrow(COUNTS, inbox_id))
    kept.pop("inbox_id")
    assert kept == counted


async def rows_of(db: Database, table: str) -> int:
    """How many rows a table has."""
    async with db.connection() as conn:
        count: int = await conn.fetchval(f"SELECT count(*) FROM {table}")
        return count
