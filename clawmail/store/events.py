"""Events: appended with the state they tell of, read back in order by id.

An id that is more than ten seconds older than the statement that writes it (its process slept, waited for the database,
or has a clock that is behind) is made anew by ``event_id`` of the schema. So nobody has to guess how late an event may
still appear: ``settled`` knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from clawmail.model.events import Event, EventType
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("events")
_json = msgspec.json.Encoder()


async def append(conn: Connection, events: Sequence[Event]) -> None:
    """Writes ``events`` in the transaction of the facts they tell of."""
    if not events:
        return
    await conn.execute(_sql.append, *event_columns(events))


def event_row(event: Event) -> tuple[object, ...]:
    """The event as its table has it."""
    return (
        event.id,
        event.organisation_id,
        event.domain_id,
        event.inbox_id,
        event.email_id,
        event.delivery_id,
        event.type.value,
        event.recipient,
        _json.encode(event.detail or {}).decode(),
        event.at,
    )


def event_columns(events: Sequence[Event]) -> tuple[list[object], ...]:
    """The events as columns of a statement."""
    return (
        [e.id for e in events],
        [e.organisation_id for e in events],
        [e.domain_id for e in events],
        [e.inbox_id for e in events],
        [e.email_id for e in events],
        [e.delivery_id for e in events],
        [e.type.value for e in events],
        [e.recipient for e in events],
        [_json.encode(e.detail or {}).decode() for e in events],
        [e.at for e in events],
    )


async def settled(conn: Connection) -> UUID:
    """An id below which no event will appear that was not there when this was asked. To be asked before reading.

    It is that of half a minute ago, or earlier by as much as the oldest transaction in flight has taken.
    """
    found: UUID = await conn.fetchval(_sql.settled)
    return found


async def list_events(
    conn: Connection,
    *,
    email_id: UUID | None = None,
    inbox_id: UUID | None = None,
    domain_id: UUID | None = None,
    after: UUID | None = None,
    limit: int,
) -> list[Event]:
    """Events of one email, inbox or domain (the first that is given), oldest first, from behind the id ``after``.

    At most 501 come at once.
    """
    if email_id is not None:
        rows = await conn.fetch(_sql.of_email, email_id, after, limit)
    elif inbox_id is not None:
        rows = await conn.fetch(_sql.of_inbox, inbox_id, after, limit)
    else:
        rows = await conn.fetch(_sql.of_domain, domain_id, after, limit)
    return [
        Event(**{**row, "type": EventType(row["type"]), "detail": msgspec.json.decode(row["detail"])}) for row in rows
    ]
