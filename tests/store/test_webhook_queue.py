"""What webhooks have to be told: none is missed, none is in two hands, and nobody waits for another's flood."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from clawmail.base.ids import new_id
from clawmail.core.retention import Retention
from clawmail.core.webhooks import upkeep
from clawmail.core.webhooks.metrics import WebhookMetrics
from clawmail.core.webhooks.upkeep import MAX_AGE, REMOVED_AGE, WebhookUpkeep
from clawmail.model.events import EventType
from clawmail.model.webhooks import ClaimedWebhook, EndpointReport, WebhookSettlement, WebhookState
from clawmail.store import events, keys, webhook_queue, webhooks
from clawmail.store.db import Database
from tests.support.tenants import Tenant, add_inbox, add_tenant
from tests.support.webhooks import LEASE, add_webhook, claim, event, happen, rows

ME, OTHER = new_id(), new_id()


def delivered(claimed: ClaimedWebhook) -> WebhookSettlement:
    """The row that a success leaves."""
    return WebhookSettlement(
        claimed.webhook_id, claimed.event_id, claimed.lease_fence, WebhookState.DELIVERED, None, 200, None
    )


async def told(db: Database) -> set[UUID]:
    """The endpoints for which something waits."""
    return {row["webhook_id"] for row in await rows(db)}


async def test_an_event_brings_a_row_for_each_who_listens(db: Database, tenant: Tenant) -> None:
    other = await add_tenant(db, "other.test")
    of_inbox, of_domain = await add_webhook(db, tenant), await add_webhook(db, tenant, of_inbox=False)
    picky = await add_webhook(db, tenant, event_types=["bounced", "received"])
    await add_webhook(db, tenant, event_types=["bounced"])
    await add_webhook(db, other)
    disabled, removed = await add_webhook(db, tenant), await add_webhook(db, tenant)
    async with db.connection() as conn:
        await conn.execute("UPDATE webhooks SET disabled_at = now(), disabled_reason = 'x' WHERE id = $1", disabled)
        await webhooks.remove(conn, removed, datetime.now(UTC))
    (event_id,) = await happen(db, tenant)
    found = await rows(db)
    assert {(row["webhook_id"], row["event_id"]) for row in found} == {
        (webhook, event_id) for webhook in (of_inbox, of_domain, picky)
    }
    assert {row["event_type"] for row in found} == {"received"}
    second = await add_inbox(db, tenant.domain, "second")
    async with db.transaction() as conn:
        await events.append(conn, [event(tenant, inbox_id=second.id), event(tenant, inbox_id=None)])
    assert sum(row["webhook_id"] == of_domain for row in await rows(db)) == 3
    assert len(await rows(db)) == 5


async def test_it_is_written_with_its_event_or_not_at_all(db: Database, tenant: Tenant) -> None:
    await add_webhook(db, tenant)
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as conn:
            await events.append(conn, [event(tenant)])
            raise ZeroDivisionError
    assert await rows(db) == []


async def test_whoever_commits_late_is_not_missed(db: Database, tenant: Tenant) -> None:
    """Ids are made before they are committed: the smaller one may be there long after the greater one was told."""
    await add_webhook(db, tenant)
    async with db.transaction() as slow:
        await events.append(slow, [event(tenant)])
        (second,) = await happen(db, tenant)
        async with db.transaction() as conn:
            (claimed,) = await claim(conn, ME)
            await webhook_queue.settle(conn, ME, datetime.now(UTC), [delivered(claimed)], [])
        assert claimed.event_id == second
    async with db.transaction() as conn:
        (late,) = await claim(conn, ME)
    assert late.event_id < second


async def test_a_flood_hides_nobody(db: Database, tenant: Tenant) -> None:
    flooded = await add_webhook(db, tenant)
    first = await happen(db, tenant, 500)
    quiet = [await add_tenant(db, f"quiet{number}.test") for number in range(3)]
    for one in quiet:
        await add_webhook(db, one)
        await happen(db, one)
    async with db.transaction() as conn:
        claimed = await claim(conn, ME)
    assert [one.event_id for one in claimed if one.webhook_id == flooded] == first[:4]
    assert len({one.webhook_id for one in claimed}) == 4
    async with db.transaction() as conn:  # all four places of the flooded one are taken, whoever asks
        assert await claim(conn, OTHER) == []
    async with db.transaction() as conn:
        await webhook_queue.release(conn, ME, datetime.now(UTC), claimed)
        narrow = await claim(conn, ME, limit=4)
    assert len({one.webhook_id for one in narrow}) == 4  # each its first before anybody its second


async def test_the_ring_leads_past_everybody(db: Database) -> None:
    hooks = []
    for number in range(webhook_queue.WALK_STEPS + 6):
        tenant = await add_tenant(db, f"t{number}.test")
        hooks.append(await add_webhook(db, tenant))
        await happen(db, tenant)
    now = datetime.now(UTC) + timedelta(seconds=1)
    async with db.transaction() as conn:
        first = await webhook_queue.open_endpoints(conn, UUID(int=0), now)
        second = await webhook_queue.open_endpoints(conn, first[-1].webhook_id, now)
    assert [one.webhook_id for one in (*first, *second)] == hooks
    assert len(first) == webhook_queue.WALK_STEPS


async def test_two_processes_share_and_never_hold_the_same(db: Database) -> None:
    for number in range(12):
        tenant = await add_tenant(db, f"t{number}.test")
        await add_webhook(db, tenant)
        await happen(db, tenant, 20)

    async def work(owner: UUID) -> list[tuple[UUID, UUID]]:
        done = []
        for _ in range(20):
            async with db.transaction() as conn:
                claimed = await claim(conn, owner, later=timedelta(seconds=1))
            if claimed:
                async with db.transaction() as conn:
                    kept = await webhook_queue.settle(
                        conn, owner, datetime.now(UTC), [delivered(one) for one in claimed], []
                    )
                assert kept == {(one.webhook_id, one.event_id) for one in claimed}
                done += sorted(kept)
        return done

    one, two = await asyncio.gather(work(ME), work(OTHER))
    assert len(one) + len(two) == len({*one, *two}) == 240


async def test_what_a_dead_process_held_is_due_at_the_end_of_its_lease(db: Database, tenant: Tenant) -> None:
    await add_webhook(db, tenant)
    await happen(db, tenant)
    async with db.transaction() as conn:
        (dead,) = await claim(conn, OTHER)
        (endpoint,) = await webhook_queue.open_endpoints(conn, UUID(int=0), datetime.now(UTC))
        assert endpoint.due is not None and endpoint.due > datetime.now(UTC)
        assert await claim(conn, ME, later=LEASE / 2) == []
        (taken,) = await claim(conn, ME, later=LEASE * 1.1)
    assert (taken.event_id, taken.old_owner, taken.lease_fence) == (dead.event_id, OTHER, dead.lease_fence + 1)
    async with db.transaction() as conn:  # he was only asleep: his result counts no more
        assert await webhook_queue.settle(conn, OTHER, datetime.now(UTC), [delivered(dead)], []) == set()
    assert (await rows(db))[0]["state"] == "waiting"
    async with db.transaction() as conn:
        assert len(await webhook_queue.settle(conn, ME, datetime.now(UTC), [delivered(taken)], [])) == 1
    (row,) = await rows(db)
    assert (row["state"], row["attempts"], row["last_status"], row["lease_owner"]) == ("delivered", 1, 200, None)


async def test_what_an_endpoint_did_decides_how_it_is_treated(db: Database, tenant: Tenant) -> None:
    hook = await add_webhook(db, tenant)
    await happen(db, tenant, 10)
    now = datetime.now(UTC)

    async def observe(failures: int, rest: datetime | None = None, reason: str | None = None) -> None:
        async with db.transaction() as conn:
            (one,) = await claim(conn, ME, later=timedelta(hours=2), limit=1)
            report = EndpointReport(hook, failures, rest, reason, "https://sink.test/hook")
            await webhook_queue.settle(conn, ME, now, [delivered(one)], [report])

    async def claimable(later: timedelta) -> int:
        async with db.transaction() as conn:
            found = await claim(conn, OTHER, later=later)
            await webhook_queue.release(conn, OTHER, now, found)
            return len(found)

    assert await claimable(timedelta(seconds=1)) == 4
    await observe(1)
    assert await claimable(timedelta(seconds=1)) == 1
    await observe(3, now + timedelta(hours=1))
    assert await claimable(timedelta(minutes=59)) == 0
    assert await claimable(timedelta(minutes=61)) == 1
    await observe(0)  # what was under way when it began to rest does not end its rest
    assert await claimable(timedelta(minutes=59)) == 0
    assert await claimable(timedelta(minutes=61)) == 4
    await observe(1, None, "it answered 410 Gone")
    assert await claimable(timedelta(days=1)) == 0
    async with db.connection() as conn:
        (endpoint,) = await webhook_queue.open_endpoints(conn, UUID(int=0), now)
    assert (endpoint.ours, endpoint.due) == (False, None)


async def test_a_revoked_key_takes_its_webhooks_along(db: Database, tenant: Tenant) -> None:
    mine, others = new_id(), new_id()
    await add_webhook(db, tenant, key_id=mine)
    kept = await add_webhook(db, tenant, key_id=others)
    async with db.transaction() as conn:
        await keys.revoke(conn, mine, datetime.now(UTC))
    await happen(db, tenant)
    assert await told(db) == {kept}


async def test_what_waits_is_bounded_and_counted(db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "MAX_WAITING", 10)
    monkeypatch.setattr(upkeep, "ROWS_AT_ONCE", 4)
    hook, other = await add_webhook(db, tenant), await add_webhook(db, tenant, event_types=["bounced"])
    ids = await happen(db, tenant, 25)
    await happen(db, tenant, 5, EventType.BOUNCED)
    async with db.transaction() as conn:
        held = await claim(conn, ME)
    metrics = WebhookMetrics()
    assert await WebhookUpkeep(db, kept_days=7, metrics=metrics).bound() == 20
    left = {row["event_id"] for row in await rows(db) if row["webhook_id"] == hook}
    # Those under way stay, of the others the newest.
    assert left >= {one.event_id for one in held if one.webhook_id == hook} | set(ids[-1:])
    assert len(left) == 10
    assert sum(row["webhook_id"] == other for row in await rows(db)) == 5
    async with db.connection() as conn:
        dropped = await conn.fetch("SELECT dropped FROM webhooks ORDER BY id")
    assert [row["dropped"] for row in dropped] == [20, 0]


async def test_two_processes_give_up_no_more_than_one(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "MAX_WAITING", 10)
    monkeypatch.setattr(upkeep, "ROWS_AT_ONCE", 4)
    await add_webhook(db, tenant)
    await happen(db, tenant, 60)
    keepers = [WebhookUpkeep(db, kept_days=7, metrics=WebhookMetrics()) for _ in range(3)]
    assert sum(await asyncio.gather(*(keeper.bound() for keeper in keepers))) == 50
    assert len(await rows(db)) == 10


async def test_what_waits_too_long_is_given_up_and_forgotten(db: Database, tenant: Tenant) -> None:
    await add_webhook(db, tenant)
    await happen(db, tenant, 3)
    keeper = WebhookUpkeep(db, kept_days=7, metrics=WebhookMetrics())
    now = datetime.now(UTC)
    assert await keeper.forget(now + MAX_AGE / 2) == 0
    assert await keeper.forget(now + MAX_AGE * 1.1) == 3
    assert {(row["state"], row["last_error"]) for row in await rows(db)} == {("failed", "it waited too long")}
    assert await keeper.forget(now + MAX_AGE + timedelta(days=6)) == 0
    assert await keeper.forget(now + MAX_AGE + timedelta(days=9)) == 3
    assert await rows(db) == []


async def test_what_was_removed_is_emptied(db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "ROWS_AT_ONCE", 2)
    hook, kept = await add_webhook(db, tenant), await add_webhook(db, tenant, of_inbox=False)
    await happen(db, tenant, 5)
    now = datetime.now(UTC)
    async with db.connection() as conn:
        await webhooks.remove(conn, hook, now)
    keeper = WebhookUpkeep(db, kept_days=0, metrics=WebhookMetrics())
    assert await keeper.forget(now) == 0  # somebody may still be writing for it
    assert await keeper.forget(now + REMOVED_AGE * 1.1) == 5
    assert await told(db) == {kept}
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM webhooks") == 1


async def test_an_event_that_was_forgotten_is_said_so(db: Database, tenant: Tenant) -> None:
    await add_webhook(db, tenant)
    await happen(db, tenant)
    await Retention(db, mail_days=0, event_days=1).forget_events(datetime.now(UTC) + timedelta(days=2))
    async with db.transaction() as conn:
        (claimed,) = await claim(conn, ME)
    assert claimed.event is None
