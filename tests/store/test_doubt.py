"""A commit that was not answered: what is stored is promised, and only what is not is put off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from clawmail.base.errors import StoreUnwell
from clawmail.base.ids import new_id
from clawmail.core import writer
from clawmail.core.writer import Writer
from clawmail.model.mail import Filing, Posting
from clawmail.store.db import Connection, Database
from tests.support import mail
from tests.support.tenants import Tenant


class Forgetful(Database):
    """A database whose connection breaks at the commit: just before it, or before it is answered."""

    commits = True
    #: connections that cannot be had afterwards, and how many of them are left.
    goes_away_for = 0
    away = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        async with super().connection() as conn:
            transaction = conn.transaction()
            await transaction.start()
            yield conn
            await (transaction.commit() if self.commits else transaction.rollback())
        self.away = self.goes_away_for
        raise StoreUnwell("the store is not available")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        if self.away:
            self.away -= 1
            raise StoreUnwell("the store is not available")
        async with super().connection() as conn:
            yield conn


@pytest.fixture
async def forgetful(database_url: str) -> AsyncIterator[Forgetful]:
    """Such a database, open."""
    db = Forgetful(database_url, pool_size=3)
    await db.open()
    yield db
    await db.close()


def posting_for(tenant: Tenant) -> Posting:
    """A mail for the tenant's inbox."""
    filing = Filing(new_id(), tenant.organisation_id, tenant.domain.id, tenant.inbox.id, "inbound", False)
    return Posting(mail.message_of(b"From: a@far.test\r\n\r\nx"), (filing,))


async def emails(db: Database) -> int:
    """How many are filed."""
    async with db.connection() as conn:
        return int(await conn.fetchval("SELECT count(*) FROM emails"))


async def test_what_was_committed_is_promised_although_nobody_said_so(
    forgetful: Forgetful, db: Database, tenant: Tenant
) -> None:
    posting = posting_for(tenant)
    assert (await Writer(forgetful).write(posting)).message_id == posting.message.id
    assert await emails(db) == 1


async def test_the_outcome_is_looked_for_until_the_database_is_back(
    forgetful: Forgetful, db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DOUBT_GAP_SECONDS", 0.001)
    forgetful.goes_away_for = 3
    posting = posting_for(tenant)
    assert (await Writer(forgetful).write(posting)).message_id == posting.message.id
    assert forgetful.away == 0
    assert await emails(db) == 1


async def test_what_was_not_committed_is_put_off(forgetful: Forgetful, db: Database, tenant: Tenant) -> None:
    forgetful.commits = False
    with pytest.raises(StoreUnwell):
        await Writer(forgetful).write(posting_for(tenant))
    assert await emails(db) == 0


async def test_a_database_that_stays_away_is_not_waited_for_long(
    forgetful: Forgetful, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "DOUBT_SECONDS", 0.05)
    monkeypatch.setattr(writer, "DOUBT_GAP_SECONDS", 0.001)
    forgetful.goes_away_for = 1_000_000
    with pytest.raises(StoreUnwell):
        await Writer(forgetful).write(posting_for(tenant))
