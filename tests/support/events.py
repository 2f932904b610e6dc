"""Events as they would have been written long ago."""

from __future__ import annotations

from collections.abc import Sequence

from clawmail.model.events import Event
from clawmail.store.db import Connection
from clawmail.store.events import event_row


async def write_as_made(conn: Connection, events: Sequence[Event]) -> None:
    """Writes events under the ids they have, however old those are: ``store.events.append`` would make them anew."""
    await conn.executemany(
        "INSERT INTO events"
        " (id, organisation_id, domain_id, inbox_id, email_id, delivery_id, type, recipient, detail, at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        [event_row(event) for event in events],
    )
