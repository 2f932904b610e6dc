"""A domain that is removed leaves no address behind, whatever is being added to it at that moment."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from clawmail.base.ids import new_id
from clawmail.core.directory import Directory
from clawmail.model.tenancy import Domain, Inbox
from clawmail.store import accounts
from clawmail.store.db import Database
from tests.support.tenants import Tenant, add_tenant

NOW = datetime.now(UTC)


def directory(db: Database) -> Directory:
    """One that hears of no change, as in the moment before a notification is there."""
    return Directory(db, catch_all_local_part="catchall", quota_bytes=1000)


async def remove(db: Database, domain: Domain) -> None:
    """As its owner does it."""
    async with db.transaction() as conn:
        assert await accounts.remove_domain(conn, domain.id, NOW)


async def live_addresses(db: Database, domain: Domain) -> list[str]:
    """Addresses of a domain that are still taken."""
    async with db.connection() as conn:
        return [inbox.address for inbox in await accounts.inboxes(conn, domain.id)]


async def test_mail_on_its_way_makes_no_catch_all_of_a_removed_domain(db: Database, tenant: Tenant) -> None:
    unaware = directory(db)
    await unaware.domain(tenant.domain.name)
    await remove(db, tenant.domain)
    assert await unaware.inbox_for(tenant.domain, "anybody") is None
    heir = await add_tenant(db, tenant.domain.name)
    found = await directory(db).inbox_for(heir.domain, "anybody")
    assert found is not None and found.domain_id == heir.domain.id


async def test_an_inbox_added_while_its_domain_goes_goes_with_it(db: Database, tenant: Tenant) -> None:
    domain = tenant.domain
    async with db.transaction() as conn:
        assert await accounts.lock_domain(conn, domain.id)
        late = Inbox(new_id(), domain.organisation_id, domain.id, "late", f"late@{domain.name}", False, 1000, NOW)
        assert await accounts.add_inbox(conn, late)
        removal = asyncio.create_task(remove(db, domain))
        async with db.connection() as other, asyncio.timeout(10):
            while not await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
    await removal
    assert await live_addresses(db, domain) == []
