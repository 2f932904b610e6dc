"""New deliveries ask the suppression list as they are written: what it holds by then is never queued."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from clawmail.core.outgoing import event_of
from clawmail.core.writer import Writer
from clawmail.model.delivery import Kind
from clawmail.model.mail import Posting
from clawmail.store import suppressions
from clawmail.store.db import Connection, Database
from clawmail.store.events import event_row
from clawmail.store.filing import delivery_row
from clawmail.store.queries import load
from tests.store.test_plans import pages_read
from tests.support import mail
from tests.support.outgoing import queue, rows
from tests.support.tenants import Tenant, add_tenant

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
SUPPRESSED = 20_000


async def suppress(db: Database, tenant: Tenant, address: str) -> None:
    async with db.connection() as conn:
        await suppressions.record_hard(
            conn, organisation_id=tenant.organisation_id, domain_id=tenant.domain.id, address=address, detail="",
            now=NOW,
        )  # fmt: skip


async def states(db: Database, tenant: Tenant, *recipients: str, kind: Kind = "send") -> list[str]:
    _, ids = await queue(db, tenant, recipients, kind=kind)
    return [row["state"] for row in await rows(db, ids)]


async def test_what_is_on_the_list_is_settled_from_the_start(db: Database, tenant: Tenant) -> None:
    await suppress(db, tenant, "gone@there.test")
    _, (gone, here) = await queue(db, tenant, ["Gone@There.test", "here@there.test"])
    refused, queued = await rows(db, [gone, here])
    assert (refused["state"], refused["settled_at"]) == ("suppressed", refused["created_at"])
    assert (queued["state"], queued["settled_at"]) == ("queued", None)


async def test_the_list_is_one_domains_and_of_what_its_inboxes_send(db: Database, tenant: Tenant) -> None:
    await suppress(db, tenant, "gone@there.test")
    assert await states(db, await add_tenant(db, "elsewhere.test"), "gone@there.test") == ["queued"]
    assert await states(db, tenant, "gone@there.test", kind="forward") == ["queued"]


async def test_what_is_over_or_only_counts_does_not_suppress(db: Database, tenant: Tenant) -> None:
    async def change(what: str, *values: Any) -> None:
        async with db.connection() as conn:
            await conn.execute(f"UPDATE suppressions SET {what}", *values)

    await suppress(db, tenant, "soft@there.test")
    await change("expires_at = $1", NOW - DAY)
    assert await states(db, tenant, "soft@there.test") == ["queued"]
    await change("expires_at = $1", NOW + DAY)
    assert await states(db, tenant, "soft@there.test") == ["suppressed"]
    await change("active = false")
    assert await states(db, tenant, "soft@there.test") == ["queued"]


async def test_the_event_tells_what_became_of_the_delivery(db: Database, tenant: Tenant) -> None:
    await suppress(db, tenant, "gone@there.test")
    deliveries = [mail.delivery_to(tenant, UUID(int=0), f"{name}@there.test") for name in ("gone", "here")]
    await Writer(db).write(
        Posting(mail.message_of(mail.plain()), (), tuple(deliveries), tuple(map(event_of, deliveries)))
    )
    async with db.connection() as conn:
        told = await conn.fetch("SELECT recipient, type, detail->>'reason' AS reason FROM events ORDER BY id")
    assert [tuple(row) for row in told] == [
        ("gone@there.test", "suppressed", "the address is on the suppression list"),
        ("here@there.test", "accepted", None),
    ]


async def test_only_what_was_queued_wakes_the_queue(db: Database, tenant: Tenant, database_url: str) -> None:
    await suppress(db, tenant, "gone@there.test")
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await asyncpg.connect(database_url)
    await listener.add_listener("deliveries", lambda *_: heard.put_nowait("woken"))
    await listener.add_listener("end", lambda *_: heard.put_nowait("end"))
    await states(db, tenant, "gone@there.test")
    async with db.connection() as conn:
        await conn.execute('NOTIFY "end"')
    async with asyncio.timeout(30):
        assert await heard.get() == "end"
        await states(db, tenant, "here@there.test")
        assert await heard.get() == "woken"
    await listener.close()


async def test_the_list_is_found_by_its_index(db: Database, tenant: Tenant) -> None:
    async def pages(conn: Connection, count: int) -> int:
        new = [mail.delivery_to(tenant, UUID(int=0), f"{number}@there.test") for number in range(count)]
        to_send = [delivery_row(UUID(int=0), delivery) for delivery in new]
        told = [event_row(event_of(delivery)) for delivery in new]
        return await pages_read(conn, load("postings").file, [], [], [], told, [], [], to_send)

    async with db.connection() as conn:
        await conn.execute("ALTER TABLE deliveries DROP CONSTRAINT deliveries_message_id_fkey")  # these have none
        alone = await pages(conn, 1)
        await conn.execute(
            "INSERT INTO suppressions (id, organisation_id, domain_id, address, reason, active)"
            " SELECT gen_random_uuid(), $1, $2, n || '@there.test', 'manual', true FROM generate_series(1, $3) AS n",
            tenant.organisation_id, tenant.domain.id, SUPPRESSED,
        )  # fmt: skip
        for analysed in (False, True):
            if analysed:
                await conn.execute("ANALYZE suppressions")
            assert await pages(conn, 1) <= alone + 10
            assert await pages(conn, 16) <= 16 * (alone + 10)
