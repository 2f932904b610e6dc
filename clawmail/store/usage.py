"""Kept counts: what is in an inbox is never counted on the way, so every change of it says what it adds and takes.

``clawmail verify`` recounts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("postings")


@dataclass(slots=True)
class UsageChange:
    """What is added to the kept counts of one inbox; negative: taken away."""

    bytes: int = 0
    unread: int = 0
    read: int = 0
    archived_unread: int = 0
    archived_read: int = 0
    inbound_unread: int = 0


def became_read(change: UsageChange, direction: str, *, archived: bool) -> None:
    """Moves one email from the unread to the read count."""
    if archived:
        change.archived_unread -= 1
        change.archived_read += 1
    else:
        change.unread -= 1
        change.read += 1
        change.inbound_unread -= direction == "inbound"


async def add_usage(conn: Connection, changes: dict[UUID, UsageChange]) -> None:
    """Adds ``changes`` to the kept counts of their inboxes."""
    await conn.execute(_sql.add_usage, [usage_row(*change) for change in changes.items()])


def usage_row(inbox_id: UUID, change: UsageChange) -> tuple[object, ...]:
    """The change as a value of PostgreSQL's type ``usage_change``."""
    return (
        inbox_id,
        change.bytes,
        change.unread,
        change.read,
        change.archived_unread,
        change.archived_read,
        change.inbound_unread,
    )
