"""The operator's view of the queue, and his moves in it. Every move names the states it may come from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from clawmail.base.ids import first_id_at
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("outqueue")


async def page(
    conn: Connection,
    *,
    domain: str | None,
    states: Sequence[str],
    destination: str | None,
    after: UUID | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Deliveries, oldest first."""
    return [dict(row) for row in await conn.fetch(_sql.list, domain, states, after, limit, destination)]


async def show(conn: Connection, delivery_id: UUID) -> dict[str, Any] | None:
    """One delivery with all that is known of it; ``events`` are (type, at, detail as JSON text)."""
    row = await conn.fetchrow(_sql.show, delivery_id)
    if row is None:
        return None
    if row["email_id"] is not None:
        events = await conn.fetch(_sql.events_of, row["email_id"], delivery_id)
    else:
        # Ids sort by time: nothing happened to a delivery before it was made.
        since = first_id_at(row["created_at"] - timedelta(hours=1))
        events = await conn.fetch(_sql.events_of_other, row["domain_id"], delivery_id, since)
    return dict(row) | {"events": [dict(event) for event in events]}


async def retry(conn: Connection, ids: Sequence[UUID], now: datetime) -> int:
    """Makes what waits due now; how many that were."""
    return len(await conn.fetch(_sql.retry, ids, now))


async def hold(conn: Connection, ids: Sequence[UUID]) -> int:
    """Holds what waits; how many that were."""
    return len(await conn.fetch(_sql.hold, ids))


async def release(conn: Connection, ids: Sequence[UUID], now: datetime) -> int:
    """Lets go what was held; how many that were."""
    return len(await conn.fetch(_sql.release, ids, now))


async def drop(conn: Connection, ids: Sequence[UUID], now: datetime) -> int:
    """Cancels what waits or is held; how many that were."""
    return len(await conn.fetch(_sql.drop, ids, now))


async def wake(conn: Connection) -> None:
    """Tells the workers."""
    await conn.execute(_sql.wake)


async def top(conn: Connection, now: datetime, limit: int) -> list[dict[str, Any]]:
    """Where mail waits, by site."""
    return [dict(row) for row in await conn.fetch(_sql.top, now, limit)]


async def measure(conn: Connection) -> dict[str, tuple[int, datetime]]:
    """``{state: (deliveries, when the oldest of them was made)}``."""
    return {row["state"]: (row["deliveries"], row["oldest"]) for row in await conn.fetch(_sql.measure)}
