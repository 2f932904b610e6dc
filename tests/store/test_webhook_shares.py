"""Claims of webhooks: who has least under way comes first, and a plan that was made for an empty queue still serves."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from clawmail.base.ids import new_id
from clawmail.core.webhooks.decide import settlement
from clawmail.model.webhooks import EndpointReport, WebhookAttempt
from clawmail.store import webhook_queue
from clawmail.store.db import Database
from clawmail.store.queries import load
from tests.support.tenants import Tenant, add_tenant
from tests.support.webhooks import add_webhook, claim, happen, rows

ME = new_id()
SOON = timedelta(seconds=1)
GONE = WebhookAttempt(410, "it answered 410", 0.1)


async def test_many_endpoints_with_older_events_keep_nobody_out(db: Database, tenant: Tenant) -> None:
    for _ in range(5):
        await add_webhook(db, tenant)
    await happen(db, tenant, 10)
    other = await add_tenant(db, "quiet.test")
    quiet = await add_webhook(db, other)
    await happen(db, other)
    async with db.transaction() as conn:
        before = await claim(conn, ME, later=SOON, limit=2, of_one_tenant=2)
    assert {one.tenant_id for one in before} == {tenant.organisation_id, other.organisation_id}
    async with db.transaction() as conn:
        await webhook_queue.release(conn, ME, datetime.now(UTC), before)
        held = [tenant.organisation_id] * 3
        (first,) = await claim(conn, ME, later=SOON, limit=1, under_way=held)
    assert first.webhook_id == quiet, "whose tenant has nothing under way comes before older events"
    async with db.transaction() as conn:
        await webhook_queue.release(conn, ME, datetime.now(UTC), [first])
        rest = await claim(conn, ME, later=SOON, under_way=held, of_one_tenant=5)
    assert [one.webhook_id for one in rest].count(quiet) == 1 and len(rest) == 3


async def test_an_endpoint_that_has_some_under_way_waits_for_one_that_has_none(db: Database, tenant: Tenant) -> None:
    slow = await add_webhook(db, tenant)
    await happen(db, tenant, 10)
    async with db.transaction() as conn:
        assert [one.webhook_id for one in await claim(conn, ME, later=SOON, limit=3)] == [slow] * 3
    late = await add_webhook(db, tenant)
    await happen(db, tenant)
    async with db.transaction() as conn:
        (one,) = await claim(conn, ME, later=SOON, limit=1)
    assert one.webhook_id == late


async def test_what_somebody_has_in_hand_is_passed(db: Database, tenant: Tenant) -> None:
    """Upkeep locks rows and then their endpoint, a claim the other way round: neither may wait for the other."""
    await add_webhook(db, tenant)
    first, second = await happen(db, tenant, 2)
    async with db.transaction() as upkeep:
        await upkeep.execute("SELECT FROM webhook_deliveries WHERE event_id = $1 FOR UPDATE", first)
        async with db.transaction() as conn:
            assert [one.event_id for one in await claim(conn, ME, later=SOON)] == [second]


async def test_events_of_a_newer_release_are_left_to_it(db: Database, tenant: Tenant) -> None:
    await add_webhook(db, tenant)
    unknown, known = await happen(db, tenant, 2)
    async with db.transaction() as conn:
        await conn.execute("UPDATE webhook_deliveries SET event_type = 'invented' WHERE event_id = $1", unknown)
        assert [one.event_id for one in await claim(conn, ME, later=SOON)] == [known]
    assert {row["state"] for row in await rows(db)} == {"waiting"}


async def test_what_an_address_of_before_answered_is_not_held_against_the_new_one(db: Database, tenant: Tenant) -> None:
    hook = await add_webhook(db, tenant)
    await happen(db, tenant)
    now = datetime.now(UTC)
    async with db.transaction() as conn:
        (one,) = await claim(conn, ME, later=SOON)
        await conn.execute(
            "UPDATE webhooks SET url = 'https://new.test/' WHERE id = $1", hook
        )  # by its owner, meanwhile
        gone = EndpointReport(hook, 1, now + SOON, "it answered 410 Gone", one.url)
        await webhook_queue.settle(conn, ME, now, [settlement(one, GONE, [5.0], now, 0.5)], [gone])
        row = await conn.fetchrow("SELECT failures, resting_until, disabled_at FROM webhooks WHERE id = $1", hook)
    assert tuple(row) == (0, None, None)


@pytest.mark.parametrize("seen", ["nothing", "an empty table", "what was told"])
async def test_a_plan_made_for_an_empty_table_serves_a_flood(db: Database, tenant: Tenant, seen: str) -> None:
    """Plans are made once (``plans_once``), and the queue is empty most of the time."""
    hook = await add_webhook(db, tenant)
    queue = Database(db.url, pool_size=1, plans_once=True)
    await queue.open()
    try:
        async with queue.connection() as conn:
            if seen == "what was told":
                await happen(db, tenant, 1000)
                await happen(db, tenant, 1000)
                await conn.execute("UPDATE webhook_deliveries SET state = 'delivered', settled_at = now()")
            if seen != "nothing":
                await conn.execute("VACUUM ANALYZE webhook_deliveries")
            later = datetime.now(UTC) + timedelta(hours=1)
            arguments: tuple[object, ...] = (ME, later, later + SOON, 50, [hook], 4, 1, [], 64, ["received"])
            kinds = "uuid, timestamptz, timestamptz, integer, uuid[], integer, integer, uuid[], integer, text[]"
            await conn.execute(f"PREPARE taking ({kinds}) AS {load('webhook_queue').statements['claim']}")
            call = f"EXECUTE taking ({literals(arguments)})"
            await conn.execute(call)
            for _ in range(5):
                await happen(db, tenant, 1000)
            await conn.execute("BEGIN")
            plan = await conn.fetchval("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + call)
            await conn.execute("ROLLBACK")
    finally:
        await queue.close()
    top = msgspec.json.decode(plan)[0]["Plan"]
    assert top["Actual Rows"] == 4
    assert top["Shared Hit Blocks"] + top["Shared Read Blocks"] <= 100, plan


def literals(values: tuple[object, ...]) -> str:
    """Values as SQL has them."""
    found = []
    for value in values:
        if isinstance(value, list):
            found.append("'{" + ",".join(map(str, value)) + "}'")
        else:
            found.append(f"'{value}'")
    return ", ".join(found)
