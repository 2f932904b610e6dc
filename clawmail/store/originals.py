"""Originals: what a reply or a forward needs of the email it starts from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from clawmail.model.mail import Direction
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("originals")


@dataclass(frozen=True, slots=True)
class Original:
    """An email that is answered or sent on."""

    id: UUID
    thread_id: UUID
    direction: Direction
    raw: bytes
    rfc_message_id: str | None
    reference_ids: list[str]
    in_reply_to: str | None
    subject: str
    from_address: str
    from_name: str
    to_addresses: list[str]
    cc_addresses: list[str]
    reply_to: list[str]
    body_text: str | None
    body_html: str | None
    received_at: datetime


async def original(conn: Connection, email_id: UUID, inbox_id: UUID) -> Original | None:
    """The email of that id if it is this inbox's own."""
    row = await conn.fetchrow(_sql.original, email_id, inbox_id)
    return Original(**row) if row else None
