"""Idempotency keys in a real database: taken, answered, freed, forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from clawmail.base.errors import Conflict, Invalid, QuotaExceeded, StoreUnwell, Unprocessable
from clawmail.core import idempotency
from clawmail.core.idempotency import OnceOnly, StoredAnswer
from clawmail.core.writer import Writer
from clawmail.model.mail import IdempotentAnswer, Posting
from clawmail.model.outgoing import Idempotency
from clawmail.store.db import Database
from tests.support import mail
from tests.support.tenants import Tenant

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROUTE = "POST /api/v1/emails/send"
BODY, OTHER_BODY = b"1" * 32, b"2" * 32


def once_for(key: str, body_sha256: bytes = BODY, route: str = ROUTE) -> Idempotency:
    """A request of its own with that key."""
    return Idempotency(route, key, body_sha256, 201, lambda sent: b"")


async def _answered(db: Database, tenant: Tenant, key: str) -> None:
    """What the writer does in the transaction of the mail."""
    async with db.transaction() as conn:
        await conn.execute(
            "UPDATE idempotency_keys SET status = 201, answer = $3 WHERE inbox_id = $1 AND key = $2",
            tenant.inbox.id,
            key,
            b'{"id":"1"}',
        )


async def _over(db: Database) -> None:
    """As much time passes as a claim lasts."""
    async with db.connection() as conn:
        await conn.execute("UPDATE idempotency_keys SET held_until = now() - interval '1 second'")


async def _write(db: Database, tenant: Tenant, once: Idempotency) -> None:
    """A mail that keeps its answer."""
    answer = IdempotentAnswer(tenant.inbox.id, once.route, once.key, once.claim, once.status, b"{}")
    await Writer(db).write(Posting(mail.message_of(mail.plain()), (), idempotent_answer=answer))


async def test_an_answered_request_is_repeated_for_24_hours(db: Database, tenant: Tenant) -> None:
    requests = OnceOnly(db)
    async with requests.request(tenant.inbox.id, once_for("key"), NOW) as repeated:
        assert repeated is None
        await _answered(db, tenant, "key")
    async with requests.request(tenant.inbox.id, once_for("key"), NOW + timedelta(hours=23)) as repeated:
        assert repeated == StoredAnswer(201, b'{"id":"1"}')
    with pytest.raises(Unprocessable):
        async with requests.request(tenant.inbox.id, once_for("key", OTHER_BODY), NOW):
            raise AssertionError("the block must not run")
    # Another route or a day later, the key is new.
    for route, now in (("POST /other", NOW), (ROUTE, NOW + timedelta(hours=24, seconds=1))):
        async with requests.request(tenant.inbox.id, once_for("key", OTHER_BODY, route), now) as repeated:
            assert repeated is None


async def test_a_request_in_flight_is_a_conflict_until_its_claim_is_over(db: Database, tenant: Tenant) -> None:
    one, two, first = OnceOnly(db), OnceOnly(db), once_for("key")
    with pytest.raises(Conflict, match="still in flight"):
        async with one.request(tenant.inbox.id, first, NOW):
            for later in (timedelta(), timedelta(minutes=11)):
                with pytest.raises(Conflict):
                    async with two.request(tenant.inbox.id, once_for("key"), NOW + later):
                        raise AssertionError("the block must not run")
            await _over(db)
            async with two.request(tenant.inbox.id, once_for("key"), NOW) as repeated:
                assert repeated is None
                # Who began it was asleep, and writes now: whether the other has written or not, it is his.
                await _write(db, tenant, first)
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM messages") == 0
        assert await conn.fetchval("SELECT count(*) FROM idempotency_keys WHERE status IS NULL") == 0


async def test_who_has_a_key_no_more_takes_no_neighbour_down(db: Database, tenant: Tenant) -> None:
    once, lost, kept = OnceOnly(db), once_for("lost"), once_for("kept")
    async with once.request(tenant.inbox.id, kept, NOW):
        results = await asyncio.gather(*(_write(db, tenant, o) for o in (lost, kept)), return_exceptions=True)
    assert [type(result) for result in results] == [Conflict, type(None)]
    async with once.request(tenant.inbox.id, once_for("kept"), NOW) as repeated:
        assert repeated == StoredAnswer(201, b"{}")


async def test_a_request_that_takes_long_goes_on_having_its_key(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "RENEW_SECONDS", 0.05)
    async with OnceOnly(db).request(tenant.inbox.id, once_for("key"), NOW):
        await _over(db)
        async with asyncio.timeout(20), db.connection() as conn:
            while not await conn.fetchval("SELECT held_until > now() FROM idempotency_keys"):
                await asyncio.sleep(0.01)


async def test_a_key_of_a_release_without_claims_is_free_after_ten_minutes(db: Database, tenant: Tenant) -> None:
    async with db.connection() as conn:
        await conn.execute(
            "INSERT INTO idempotency_keys (inbox_id, route, key, body_sha256, created_at)"
            " VALUES ($1, $2, 'key', $3, $4)",
            tenant.inbox.id,
            ROUTE,
            BODY,
            NOW,
        )
    with pytest.raises(Conflict):
        async with OnceOnly(db).request(tenant.inbox.id, once_for("key"), NOW + timedelta(minutes=9)):
            raise AssertionError("the block must not run")
    async with OnceOnly(db).request(tenant.inbox.id, once_for("key"), NOW + timedelta(minutes=11)) as repeated:
        assert repeated is None


async def test_a_failed_request_frees_its_key_and_an_answered_one_does_not(db: Database, tenant: Tenant) -> None:
    requests = OnceOnly(db)
    with pytest.raises(QuotaExceeded):
        async with requests.request(tenant.inbox.id, once_for("key"), NOW):
            raise QuotaExceeded("full")
    with pytest.raises(RuntimeError):
        async with requests.request(tenant.inbox.id, once_for("key", OTHER_BODY), NOW) as repeated:
            assert repeated is None
            await _answered(db, tenant, "key")
            raise RuntimeError("after the commit")
    async with requests.request(tenant.inbox.id, once_for("key", OTHER_BODY), NOW) as repeated:
        assert repeated is not None


@pytest.mark.parametrize("key", ["", "x" * 257, "a\nb", "a\x00b", "\udcff"])
async def test_a_key_that_cannot_be_kept_is_refused(db: Database, tenant: Tenant, key: str) -> None:
    with pytest.raises(Invalid):
        async with OnceOnly(db).request(tenant.inbox.id, once_for(key), NOW):
            raise AssertionError("the block must not run")


async def test_old_keys_are_forgotten(db: Database, tenant: Tenant) -> None:
    requests = OnceOnly(db)
    for number in range(3):
        async with requests.request(tenant.inbox.id, once_for(f"key {number}"), NOW + timedelta(hours=number)):
            pass
    assert await requests.forget_old(NOW + timedelta(hours=25, minutes=1)) == 2


async def test_a_key_that_lost_its_database_is_free_when_asked_again(db: Database, tenant: Tenant) -> None:
    requests = OnceOnly(db)

    async def lose(name: str) -> None:
        with pytest.raises(StoreUnwell):
            async with requests.request(tenant.inbox.id, once_for(name), NOW):
                await db.close()
                raise StoreUnwell("the store is not available")
        await db.open()

    await lose("key")
    async with requests.request(tenant.inbox.id, once_for("key"), NOW) as repeated:
        assert repeated is None
        with pytest.raises(Conflict):  # it was freed once, and is in flight now
            async with requests.request(tenant.inbox.id, once_for("key"), NOW):
                raise AssertionError("the block must not run")
    await lose("late")
    await _over(db)
    async with OnceOnly(db).request(tenant.inbox.id, once_for("late"), NOW):
        with pytest.raises(Conflict):  # another process has it by now
            async with requests.request(tenant.inbox.id, once_for("late"), NOW):
                raise AssertionError("the block must not run")
