"""Ids of events: never much older than the transaction that writes them, and what bounds those still to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from clawmail.base.ids import first_id_at, id_at, new_id, time_of
from clawmail.model.events import Event, EventType
from clawmail.store import events
from clawmail.store.db import Database
from tests.support.tenants import Tenant


def deferred(tenant: Tenant, identifier: UUID) -> Event:
    """An event of the tenant's."""
    now = datetime.now(UTC)
    return Event(identifier, tenant.organisation_id, tenant.domain.id, EventType.DEFERRED, now, tenant.inbox.id)


async def test_an_id_that_is_late_is_made_anew(db: Database, tenant: Tenant) -> None:
    now = datetime.now(UTC)
    young, late, ahead = new_id(), id_at(now - timedelta(hours=1)), id_at(now + timedelta(hours=1))
    async with db.connection() as conn:
        await events.append(conn, [deferred(tenant, identifier) for identifier in (young, late, ahead)])
        kept = [event.id for event in await events.list_events(conn, inbox_id=tenant.inbox.id, limit=10)]
    anew = next(identifier for identifier in kept if identifier not in (young, ahead))
    assert (len(kept), anew.version, anew.int & (1 << 80) - 1) == (3, 7, late.int & (1 << 80) - 1)
    assert now - timedelta(seconds=1) < time_of(anew) < now + timedelta(minutes=1)


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2026, 2, 3, 4, 5, 6, 789_999, UTC)])
async def test_the_database_makes_ids_as_we_do(db: Database, moment: datetime) -> None:
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT id_made_at($1, $2)", first_id_at(datetime.now(UTC)), moment) == first_id_at(
            moment
        )


async def test_who_is_in_flight_bounds_what_is_settled(db: Database, database_url: str, tenant: Tenant) -> None:
    writing = await asyncpg.connect(database_url)
    begun = writing.transaction()
    await begun.start()
    started = await writing.fetchval("SELECT now()")
    async with db.connection() as conn:
        # Who only reads writes nothing yet; if ever, then with ids of that time.
        reading = await events.settled(conn)
        await events.append(writing, [deferred(tenant, new_id())])
        held = [await events.settled(conn) for _ in range(2)]
        await begun.commit()
        free = await events.settled(conn)
    await writing.close()
    half_a_minute = first_id_at(started - timedelta(seconds=30))
    assert held == [half_a_minute, half_a_minute]
    assert half_a_minute <= reading <= free
