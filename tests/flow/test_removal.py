"""Whatever is removed is gone: from every table that says whose a row is, and whatever grows is swept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clawmail.base.errors import Gone
from clawmail.base.ids import new_id
from clawmail.core.directory import Directory
from clawmail.core.downloads import Downloads
from clawmail.core.our_names import OurNames
from clawmail.core.retention import HOSTS_AGE, SUPPRESSIONS_AGE, TLS_RESULTS_AGE, Retention
from clawmail.core.sources import Sources
from clawmail.core.verify import Verifier
from clawmail.model.events import Event, EventType
from clawmail.model.tenancy import OwnRetention
from clawmail.store import events, suppressions
from clawmail.store.db import Database
from tests.support import mail
from tests.support.tenants import Tenant, add_inbox, add_tenant
from tests.support.webhooks import add_webhook

NOW = datetime.now(UTC)
WITH_A_FILE = (
    b"From: a@far.test\r\nContent-Type: application/x-a\r\n"
    b"Content-Disposition: attachment; filename=a\r\nContent-Transfer-Encoding: base64\r\n\r\nZmlsZQ==\r\n"
)
OWNERS = (
    "SELECT c.table_name AS name, c.column_name AS owner FROM information_schema.columns c"
    " JOIN information_schema.tables t USING (table_schema, table_name)"
    " WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE'"
    " AND c.column_name IN ('organisation_id', 'domain_id', 'inbox_id')"
)


async def rows_that_name(db: Database, *owners: UUID) -> dict[str, int]:
    """How many rows of each table say that they belong to one of ``owners``."""
    async with db.connection() as conn:
        columns = await conn.fetch(OWNERS)
        assert {"emails", "threads", "deliveries", "events", "suppressions"} <= {c["name"] for c in columns}
        found = {
            f"{c['name']}.{c['owner']}": await conn.fetchval(
                f"SELECT count(*) FROM {c['name']} WHERE {c['owner']} = ANY ($1)", list(owners)
            )
            for c in columns
        }
    return {place: count for place, count in found.items() if count}


async def furnish(db: Database, tenant: Tenant) -> None:
    """Something of the tenant in every table that can hold something of one."""
    owner: dict[str, Any] = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id}
    for of_inbox in (True, False):
        await add_webhook(db, tenant, of_inbox=of_inbox)
    for _ in range(3):
        await mail.file(db, tenant)
    email = await mail.file(db, tenant, direction="outbound", recipients=("a@far.test", "b@far.test"))
    async with db.transaction() as conn:
        await suppressions.record_hard(conn, **owner, address="a@far.test", detail="", now=NOW)
        about = Event(id=new_id(), at=NOW, **owner, inbox_id=tenant.inbox.id, email_id=email, type=EventType.DELIVERED)
        await events.append(conn, [about])
        await conn.execute("UPDATE deliveries SET state = 'delivered', settled_at = now() WHERE email_id = $1", email)
        for statement in (
            "INSERT INTO access_keys (id, organisation_id, domain_id, kind, prefix, secret_hash)"
            " VALUES ($3, $1, $2, 'domain', 'p', 'h')",
            "INSERT INTO forwarding_rules"
            " (id, organisation_id, domain_id, match_field, regex_pattern, destination_email)"
            " VALUES ($3, $1, $2, 'from', 'x', 'y@far.test')",
            "INSERT INTO sender_rules (id, organisation_id, domain_id, verdict, sender, created_at)"
            " VALUES ($3, $1, $2, 'block', 'spam.test', now())",
            "INSERT INTO webhook_deliveries"
            " (webhook_id, event_id, organisation_id, domain_id, event_type, next_attempt_at, waiting_since)"
            " VALUES ($3, $3, $1, $2, 'received', now(), now())",
        ):
            await conn.execute(statement, tenant.organisation_id, tenant.domain.id, new_id())
        await conn.execute(
            "INSERT INTO dkim_keys (id, domain_id, selector, algorithm, private_sealed, public_record, state)"
            " VALUES ($1, $2, 's', 'rsa-sha256', '', '', 'active')",
            new_id(),
            tenant.domain.id,
        )
        await conn.execute(
            "INSERT INTO idempotency_keys (inbox_id, route, key, body_sha256) VALUES ($1, 'send', 'k', '')",
            tenant.inbox.id,
        )


async def test_nothing_of_a_removed_domain_is_left_in_any_table(db: Database, tenant: Tenant) -> None:
    other = await add_tenant(db, "other.test")
    await furnish(db, tenant)
    await furnish(db, other)
    before = await rows_that_name(db, tenant.organisation_id, tenant.domain.id, tenant.inbox.id)
    async with db.transaction() as conn:
        for table in ("domains", "inboxes"):
            await conn.execute(
                f"UPDATE {table} SET removed_at = now() WHERE organisation_id = $1", other.organisation_id
            )
    keeper = Retention(db, mail_days=0, event_days=0)
    await keeper.empty_removed()
    await keeper.drop_leftovers()
    assert await rows_that_name(db, other.organisation_id, other.domain.id, other.inbox.id) == {}
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM messages") == 4
        assert await conn.fetchval("SELECT count(*) FROM domains") == 1
    assert await rows_that_name(db, tenant.organisation_id, tenant.domain.id, tenant.inbox.id) == before
    assert [problem async for problem in Verifier(db).run()] == []


async def test_nothing_of_a_removed_inbox_is_left_in_any_table(db: Database, tenant: Tenant) -> None:
    await furnish(db, tenant)
    await add_inbox(db, tenant.domain, "second")
    async with db.transaction() as conn:
        await conn.execute("UPDATE inboxes SET removed_at = now() WHERE id = $1", tenant.inbox.id)
    keeper = Retention(db, mail_days=0, event_days=0)
    await keeper.empty_removed()
    await keeper.drop_leftovers()
    assert await rows_that_name(db, tenant.inbox.id) == {}
    assert [problem async for problem in Verifier(db).run()] == []


async def test_what_was_learnt_of_hosts_is_forgotten_in_time(db: Database, tenant: Tenant) -> None:
    owner: dict[str, Any] = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id}
    async with db.transaction() as conn:
        await conn.execute("INSERT INTO destinations (name, site, updated_at) VALUES ('far.test', 'far.test', $1)", NOW)
        await conn.execute("INSERT INTO mta_sts_policies VALUES ('far.test', '1', '', $1, $1)", NOW)
        await conn.execute("INSERT INTO tls_results VALUES ($1, 'far.test', 'sts', '', 'successful', 1)", NOW.date())
        await suppressions.record_hard(conn, **owner, address="hard@far.test", detail="", now=NOW)
        await suppressions.record_soft(conn, **owner, address="soft@far.test", detail="", now=NOW)
    keeper = Retention(db, mail_days=0, event_days=0)

    async def left() -> list[int]:
        async with db.connection() as conn:
            tables = ("destinations", "mta_sts_policies", "tls_results", "suppressions")
            return [await conn.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    await keeper.forget_hosts(NOW)
    assert await left() == [1, 1, 1, 2]
    later = NOW + max(HOSTS_AGE, SUPPRESSIONS_AGE, TLS_RESULTS_AGE) + timedelta(days=2)
    assert await keeper.forget_hosts(later) == 1
    assert await left() == [0, 0, 0, 1]


async def test_a_domain_keeps_things_for_as_long_as_it_has_its_own_word(db: Database, tenant: Tenant) -> None:
    short, never = await add_tenant(db, "short.test"), await add_tenant(db, "never.test")
    for one in (tenant, short, never):
        await furnish(db, one)
    keeper = Retention(db, mail_days=10, event_days=10)
    await keeper.set_own(short.domain.id, OwnRetention(1, None, 2))
    await keeper.set_own(never.domain.id, OwnRetention(0, 5, 0))

    async def left(table: str) -> list[int]:
        async with db.connection() as conn:
            query = f"SELECT count(*) FROM {table} WHERE domain_id = $1"
            return [await conn.fetchval(query, one.domain.id) for one in (tenant, short, never)]

    assert (await left("emails"), await left("events")) == ([4, 4, 4], [1, 1, 1])
    assert await keeper.forget_mail(NOW + timedelta(days=1.5)) == 4
    assert await left("emails") == [4, 0, 4]
    await keeper.forget_events(NOW + timedelta(days=3))
    assert await left("events") == [1, 0, 1]
    await keeper.forget_mail(NOW + timedelta(days=11))
    await keeper.forget_events(NOW + timedelta(days=11))
    assert (await left("emails"), await left("events")) == ([0, 0, 4], [0, 0, 1])
    await keeper.set_own(never.domain.id, OwnRetention(None, None, None))
    assert await keeper.own(never.domain.id) == (None, None, None)
    await keeper.forget_mail(NOW + timedelta(days=11))
    assert await left("emails") == [0, 0, 0]
    assert [problem async for problem in Verifier(db).run()] == []


async def test_attachments_go_when_their_domain_says_so(db: Database, tenant: Tenant) -> None:
    other = await add_tenant(db, "other.test")
    emails = [await mail.file(db, one, WITH_A_FILE, received_at=NOW) for one in (tenant, other)]
    directory = Directory(db, catch_all_local_part="catchall", quota_bytes=1)
    sources = Sources(db, OurNames(directory, hostname="mx.example.test", mx_label="mx"))
    downloads = Downloads(db, sources, attachment_ttl_hours=0)
    await Retention(db, mail_days=0, event_days=0).set_own(tenant.domain.id, OwnRetention(None, 0.5, None))
    for hours, expected in ((0.4, True), (0.6, False)):
        later = NOW + timedelta(hours=hours)
        assert await _is_there(downloads, emails[0], tenant, later) is expected
        assert await _is_there(downloads, emails[1], other, later)


async def _is_there(downloads: Downloads, email: UUID, tenant: Tenant, now: datetime) -> bool:
    try:
        download = await downloads.attachment(tenant.inbox.id, email, 1, now)
    except Gone:
        return False
    return b"".join([piece async for piece in download.pieces()]) == b"file"
