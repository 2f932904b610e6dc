"""The suppression list of a domain: addresses it must not send to, because mail to them fails or is not wanted.

A hard bounce or a complaint suppresses until somebody removes it; three soft bounces in a row, for seven days. A row
that is not active only counts soft bounces; a delivered mail deletes it (``deliveries.settle``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from clawmail.base.ids import new_id
from clawmail.protocol.address import folded_abroad
from clawmail.store.db import Connection
from clawmail.store.queries import load

#: soft bounces in a row that suppress an address, and for how long.
SOFT_BOUNCES = 3
SOFT_SUPPRESSION = timedelta(days=7)
#: characters of a reply that are kept as the reason.
MAX_DETAIL = 500

_sql = load("suppressions")


@dataclass(frozen=True, slots=True)
class Suppression:
    """One address of the list."""

    id: UUID
    address: str
    #: "hard bounce", "soft bounces", "complaint" or "manual".
    reason: str
    #: the reply, or what was complained about.
    detail: str
    created_at: datetime
    #: None: until somebody removes it.
    expires_at: datetime | None


async def record_hard(
    conn: Connection,
    *,
    organisation_id: UUID,
    domain_id: UUID,
    address: str,
    detail: str,
    now: datetime,
    reason: Literal["hard bounce", "complaint", "manual"] = "hard bounce",
) -> None:
    """Suppresses ``address`` until somebody removes it."""
    await conn.execute(
        _sql.record_hard, new_id(), organisation_id, domain_id, folded_abroad(address), reason, detail[:MAX_DETAIL], now
    )


async def record_soft(
    conn: Connection, *, organisation_id: UUID, domain_id: UUID, address: str, detail: str, now: datetime
) -> None:
    """Counts one more soft bounce; the third in a row suppresses for seven days."""
    await conn.execute(
        _sql.record_soft,
        new_id(),
        organisation_id,
        domain_id,
        folded_abroad(address),
        detail[:MAX_DETAIL],
        now,
        SOFT_BOUNCES,
        now + SOFT_SUPPRESSION,
    )


async def page(
    conn: Connection, domain_id: UUID, now: datetime, *, after: UUID | None, limit: int
) -> list[Suppression]:
    """A page of the list, newest first; ``after`` is the id the last page ended with."""
    return [_suppression(row) for row in await conn.fetch(_sql.list_after, domain_id, now, after, limit)]


async def get(conn: Connection, domain_id: UUID, address: str, now: datetime) -> Suppression | None:
    """One address of the list."""
    row = await conn.fetchrow(_sql.get, domain_id, folded_abroad(address), now)
    return None if row is None else _suppression(row)


async def delete(conn: Connection, domain_id: UUID, address: str) -> bool:
    """Takes an address off the list; False if it was not on it."""
    return bool(await conn.fetchval(_sql.delete, domain_id, folded_abroad(address)))


def _suppression(row: Any) -> Suppression:
    return Suppression(row["id"], row["address"], row["reason"], row["detail"], row["created_at"], row["expires_at"])
