"""Whole inboxes, read from one end to the other and filled again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from clawmail.model.mail import Direction, Message, message_key
from clawmail.store.db import Connection
from clawmail.store.queries import load

_FIRST_ID = UUID(int=0)
_sql = load("archive")


class ArchivedEmail(NamedTuple):
    """An email with all that is kept of it."""

    direction: Direction
    is_read: bool
    is_archived: bool
    received_at: datetime
    envelope_from: str
    bcc_addresses: list[str]
    #: the API's authentication_results as JSON text; None on mail sent from here.
    authentication: str | None
    message_id: str | None
    subject: str
    trace: bytes
    raw: bytes


async def next_emails(conn: Connection, inbox_id: UUID, after: UUID | None, limit: int) -> list[tuple[UUID, int]]:
    """Id and size of the emails that follow ``after`` (None: the oldest ones), oldest first."""
    rows = await conn.fetch(_sql.next_emails, inbox_id, after or _FIRST_ID, limit)
    return [(row["id"], row["size"]) for row in rows]


async def emails(conn: Connection, inbox_id: UUID, ids: Sequence[UUID]) -> list[ArchivedEmail]:
    """These emails, oldest first; those that were removed meanwhile are missing."""
    return [ArchivedEmail._make(row) for row in await conn.fetch(_sql.emails, inbox_id, ids)]


async def count(conn: Connection, inbox_id: UUID) -> int:
    """How many emails an inbox has."""
    return await conn.fetchval(_sql.count, inbox_id) or 0


async def lock(conn: Connection, inbox_id: UUID) -> bool:
    """Nobody else files into the inbox until the transaction ends; False if it is gone."""
    return await conn.fetchval(_sql.lock_counts, inbox_id) is not None


async def known(conn: Connection, inbox_id: UUID, messages: Sequence[tuple[Message, Direction, bytes]]) -> set[int]:
    """Which of ``messages`` (with direction and SHA-256), counted from 0, the inbox holds already."""
    keys = [message_key(m.rfc_message_id) if m.rfc_message_id else None for m, _, _ in messages]
    rows = await conn.fetch(
        _sql.known,
        inbox_id,
        list(range(len(messages))),
        [digest for _, _, digest in messages],
        keys,
        [m.size for m, _, _ in messages],
        [direction for _, direction, _ in messages],
    )
    return {row["place"] for row in rows}
