"""A tenant who asks for a lot waits behind himself: connections to the database are given to tenants in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import msgspec
import pytest

from clawmail.api.native.routes import ROUTES
from clawmail.api.routing import Call, Route
from clawmail.base.tenant import current_tenant
from clawmail.store.db import Database
from tests.support.api import running_api

CROWD = 20


@pytest.fixture
async def narrow(database_url: str) -> AsyncIterator[Database]:
    """A pool of one connection."""
    database = Database(database_url, pool_size=1)
    await database.open()
    yield database
    await database.close()


async def test_one_question_does_not_wait_behind_another_tenants_crowd(narrow: Database) -> None:
    order: list[UUID] = []

    async def ask(tenant: UUID) -> None:
        current_tenant.set(tenant)
        async with narrow.connection() as conn:
            await conn.execute("SELECT 1")
            order.append(tenant)

    flood, quiet = uuid4(), uuid4()
    await asyncio.gather(*(asyncio.create_task(ask(flood)) for _ in range(CROWD)), asyncio.create_task(ask(quiet)))
    assert len(order) == CROWD + 1
    assert order.index(quiet) <= 2


class Told(msgspec.Struct):
    """For whom a request was worked on."""

    tenant: str


async def _whose(_call: Call) -> Told:
    return Told(str(current_tenant.get()))


async def test_a_request_is_worked_on_for_its_tenant_also_on_a_kept_connection(db: Database) -> None:
    routes = [
        *ROUTES,
        Route("GET", "/whose", _whose, "", "inbox", answer=Told),
        Route("GET", "/nobody", _whose, "", "none", answer=Told),
    ]
    async with running_api(db, routes) as api:
        keys = [await api.inbox(await api.verified_domain(name), f"agent@{name}") for name in ("one.test", "two.test")]
        told = [(await api.get("/whose", key=key)).json["tenant"] for key in (*keys, *keys)]
        assert told[:2] == told[2:] and told[0] != told[1] and "None" not in told
        assert (await api.get("/nobody")).json["tenant"] == "None"
