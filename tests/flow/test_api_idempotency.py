"""Idempotency keys in a real database: taken, answered, freed, forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from clawmail.base.errors import Conflict, Invalid, QuotaExceeded, StoreUnwell, Unprocessable
from clawmail.core.idempotency import DEAD_AFTER, OnceOnly, StoredAnswer
from clawmail.store.db import Database
from tests.support.tenants import Tenant

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROUTE = "POST /api/v1/emails/send"
BODY, OTHER_BODY = b"1" * 32, b"2" * 32


async def _answered(db: Database, tenant: Tenant, key: str) -> None:
    """What the writer does in the transaction of the mail."""
    async with db.transaction() as conn:
        await conn.execute(
            "UPDATE idempotency_keys SET status = 201, answer = $3 WHERE inbox_id = $1 AND key = $2",
            tenant.inbox.id,
            key,
            b'{"id":"1"}',
        )


async def test_an_answered_request_is_repeated_for_24_hours(db: Database, tenant: Tenant) -> None:
    once = OnceOnly(db)
    async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW) as repeated:
        assert repeated is None
        await _answered(db, tenant, "key")
    async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW + timedelta(hours=23)) as repeated:
        assert repeated == StoredAnswer(201, b'{"id":"1"}')
    with pytest.raises(Unprocessable):
        async with once.request(tenant.inbox.id, ROUTE, "key", OTHER_BODY, NOW):
            raise AssertionError("the block must not run")
    # Another route or a day later, the key is new.
    for route, now in (("POST /other", NOW), (ROUTE, NOW + timedelta(hours=24, seconds=1))):
        async with once.request(tenant.inbox.id, route, "key", OTHER_BODY, now) as repeated:
            assert repeated is None


async def test_a_request_in_flight_is_a_conflict_until_it_is_dead(db: Database, tenant: Tenant) -> None:
    once = OnceOnly(db)
    async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW):
        with pytest.raises(Conflict):
            async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW + timedelta(minutes=5)):
                raise AssertionError("the block must not run")
        # The process that began it has died long ago.
        async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW + timedelta(minutes=11)) as repeated:
            assert repeated is None


async def test_a_failed_request_frees_its_key_and_an_answered_one_does_not(db: Database, tenant: Tenant) -> None:
    once = OnceOnly(db)
    with pytest.raises(QuotaExceeded):
        async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW):
            raise QuotaExceeded("full")
    with pytest.raises(RuntimeError):
        async with once.request(tenant.inbox.id, ROUTE, "key", OTHER_BODY, NOW) as repeated:
            assert repeated is None
            await _answered(db, tenant, "key")
            raise RuntimeError("after the commit")
    async with once.request(tenant.inbox.id, ROUTE, "key", OTHER_BODY, NOW) as repeated:
        assert repeated is not None


@pytest.mark.parametrize("key", ["", "x" * 257, "a\nb", "a\x00b", "\udcff"])
async def test_a_key_that_cannot_be_kept_is_refused(db: Database, tenant: Tenant, key: str) -> None:
    with pytest.raises(Invalid):
        async with OnceOnly(db).request(tenant.inbox.id, ROUTE, key, BODY, NOW):
            raise AssertionError("the block must not run")


async def test_old_keys_are_forgotten(db: Database, tenant: Tenant) -> None:
    once = OnceOnly(db)
    for number in range(3):
        async with once.request(tenant.inbox.id, ROUTE, f"key {number}", BODY, NOW + timedelta(hours=number)):
            pass
    assert await once.forget_old(NOW + timedelta(hours=25, minutes=1)) == 2


async def test_a_key_that_lost_its_database_is_free_when_asked_again(db: Database, tenant: Tenant) -> None:
    once = OnceOnly(db)

    async def lose(name: str) -> None:
        with pytest.raises(StoreUnwell):
            async with once.request(tenant.inbox.id, ROUTE, name, BODY, NOW):
                await db.close()
                raise StoreUnwell("the store is not available")
        await db.open()

    await lose("key")
    async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW) as repeated:
        assert repeated is None
        with pytest.raises(Conflict):  # it was freed once, and is in flight now
            async with once.request(tenant.inbox.id, ROUTE, "key", BODY, NOW):
                raise AssertionError("the block must not run")
    await lose("late")
    late = NOW + DEAD_AFTER
    async with OnceOnly(db).request(tenant.inbox.id, ROUTE, "late", BODY, late + timedelta(seconds=1)):
        with pytest.raises(Conflict):  # another process holds it by now
            async with once.request(tenant.inbox.id, ROUTE, "late", BODY, late + timedelta(seconds=2)):
                raise AssertionError("the block must not run")
