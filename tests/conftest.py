"""Fixtures that every ring of tests shares: a real PostgreSQL, a fresh database, a tenant in it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from clawmail.store.db import Database
from tests.support.postgres import TestServer, new_server_directory, start_test_server
from tests.support.tenants import Tenant, add_tenant

# A busy machine makes an example slow, not wrong: no test fails by the clock.
settings.register_profile("clawmail", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("clawmail")


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[TestServer]:
    """The session's PostgreSQL."""
    directory = new_server_directory()
    server = await start_test_server(directory)
    yield server
    await server.server.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def database_url(postgres: TestServer) -> AsyncIterator[str]:
    """A fresh, migrated database of the test's own."""
    url = await postgres.create()
    yield url
    await postgres.drop(url)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A pool on that database."""
    database = Database(database_url, pool_size=5)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def tenant(db: Database) -> Tenant:
    """A verified domain example.test with the inbox agent@example.test."""
    return await add_tenant(db)
