"""Removing much disturbs nobody: others' mail waits for no batch of it, and the room is used again."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from clawmail.core.retention import EMAILS_AT_ONCE, Retention
from clawmail.store import accounts, mailbox, retention
from clawmail.store.db import Database
from tests.support import mail
from tests.support.tenants import Tenant, add_inbox, add_tenant

NOW = datetime.now(UTC)
EMAILS = 60
BODY = b"0123456789abcdef\r\n" * 1000


async def remove(db: Database, tenant: Tenant) -> None:
    """As its owner does it."""
    async with db.transaction() as conn:
        assert await accounts.remove_domain(conn, tenant.domain.id, NOW)


async def test_nobody_waits_for_a_portion_of_a_removal(db: Database, tenant: Tenant) -> None:
    """While one is under way and not committed, others' mail is filed, listed and deleted."""
    other = await add_tenant(db, "other.example")
    shared = [await mail.file(db, other, also_in=(tenant.inbox.id,)) for _ in range(3)]
    for _ in range(EMAILS):
        await mail.file(db, tenant)
    await remove(db, tenant)
    async with db.transaction() as removing:
        assert await retention.empty_inbox(removing, tenant.inbox.id, EMAILS_AT_ONCE) == EMAILS_AT_ONCE
        async with asyncio.timeout(20):
            filed = await mail.file(db, other)
            later = await add_inbox(db, other.domain, "later")
            await mail.file(db, other, inbox_id=later.id)
            async with db.transaction() as conn:
                page = await mailbox.list_page(conn, other.inbox.id, archived=False, read=None, limit=20, offset=0)
                assert page.total == len(shared) + 1
                assert await mailbox.delete(conn, other.inbox.id, [filed]) == 1


async def test_the_room_of_what_was_removed_is_used_again(db: Database) -> None:
    """What is removed leaves room for as much, once it was vacuumed, as PostgreSQL does by itself."""

    async def fill() -> Tenant:
        tenant = await add_tenant(db, "large.example")
        for number in range(EMAILS):
            await mail.file(db, tenant, mail.plain(f"number {number}") + BODY)
        return tenant

    async def size() -> int:
        async with db.connection() as conn:
            return int(await conn.fetchval("SELECT pg_total_relation_size('messages')"))

    empty = await size()
    tenant = await fill()
    full = await size()
    assert full > empty + EMAILS * len(BODY) / 20  # PostgreSQL compresses what repeats itself
    for _ in range(3):
        await remove(db, tenant)
        await Retention(db, mail_days=0, event_days=0).empty_removed()
        async with db.connection() as conn:
            assert await conn.fetchval("SELECT count(*) FROM messages") == 0
            await conn.execute("VACUUM messages")
        tenant = await fill()
        assert await size() <= 1.1 * full
