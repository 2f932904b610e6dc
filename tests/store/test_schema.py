"""The schema: migrations apply once, in order, whoever starts; and constraints hold what they promise."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from clawmail.store.db import Database
from clawmail.store.migrate import MigrationError, migrate
from tests.support.postgres import TestServer
from tests.support.tenants import Tenant


async def test_two_processes_that_start_at_once_migrate_once(postgres: TestServer) -> None:
    url = postgres.url_of("twins")
    await postgres._admin("CREATE DATABASE twins")
    applied = await asyncio.gather(*(migrate(url) for _ in range(4)))
    assert sorted(len(names) for names in applied)[:3] == [0, 0, 0]
    assert max(applied, key=len)[0] == "0001_house"
    assert await migrate(url) == []
    await postgres.drop(url)


async def test_a_migration_in_another_wording_is_refused(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE schema_migrations SET sha256 = 'other' WHERE name = '0001_house'")
    await connection.close()
    with pytest.raises(MigrationError, match="0001_house"):
        await migrate(database_url)


async def test_a_name_can_be_live_once(db: Database, tenant: Tenant) -> None:
    insert = (
        "INSERT INTO domains (id, organisation_id, name, state, verification_value)"
        " VALUES (gen_random_uuid(), $1, $2, 'pending', 'x')"
    )
    async with db.connection() as conn:
        with pytest.raises(asyncpg.UniqueViolationError):
            await conn.execute(insert, tenant.organisation_id, tenant.domain.name)
        await conn.execute("UPDATE domains SET removed_at = now() WHERE id = $1", tenant.domain.id)
        await conn.execute(insert, tenant.organisation_id, tenant.domain.name)
