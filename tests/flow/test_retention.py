"""What is kept no longer: removed inboxes and domains, old mail and events, messages nobody holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from clawmail.base.ids import first_id_at, new_id
from clawmail.core import retention
from clawmail.core.retention import Retention
from clawmail.model.events import Event, EventType
from clawmail.store import mailbox, suppressions
from clawmail.store.db import Database
from tests.support import mail
from tests.support.events import write_as_made
from tests.support.mail import assert_counts_are_kept, rows_of
from tests.support.tenants import Tenant, add_inbox, add_tenant

NOW = datetime.now(UTC)
TENANT_TABLES = ("organisations", "domains", "inboxes", "inbox_usage", "access_keys", "emails", "threads", "messages")


async def test_a_removed_inbox_is_emptied_and_goes(db: Database, tenant: Tenant) -> None:
    second = await add_inbox(db, tenant.domain, "second")
    for _ in range(retention.EMAILS_AT_ONCE + 1):
        await mail.file(db, tenant, inbox_id=second.id)
    shared = await mail.file(db, tenant, inbox_id=second.id, also_in=(tenant.inbox.id,))
    async with db.transaction() as conn:
        await conn.execute("UPDATE inboxes SET removed_at = now() WHERE id = $1", second.id)
    keeper = Retention(db, mail_days=0, event_days=0)
    assert await keeper.empty_removed() == retention.EMAILS_AT_ONCE + 2
    assert await keeper.empty_removed() == 0
    assert [await rows_of(db, table) for table in ("inboxes", "emails", "threads", "messages")] == [1, 1, 1, 1]
    async with db.connection() as conn:
        assert await mailbox.source(conn, second.id, shared) is None
    await assert_counts_are_kept(db, tenant.inbox.id)


async def test_a_removed_domain_goes_with_all_that_was_its_own(db: Database, tenant: Tenant) -> None:
    other = await add_tenant(db, "other.test")
    async with db.transaction() as conn:
        await suppressions.record_hard(
            conn, organisation_id=other.organisation_id, domain_id=other.domain.id, address="b@far.test", detail="",
            now=NOW,
        )  # fmt: skip
    await mail.file(db, other, direction="outbound", recipients=("a@far.test",))
    await mail.file(db, tenant)
    async with db.transaction() as conn:
        for table in ("domains", "inboxes"):
            await conn.execute(
                f"UPDATE {table} SET removed_at = now() WHERE organisation_id = $1", other.organisation_id
            )
    keeper = Retention(db, mail_days=0, event_days=0)
    await keeper.empty_removed()
    # A delivery is still on its way, and what becomes of it may have to be remembered of this domain.
    assert [await rows_of(db, table) for table in ("domains", "inboxes", "deliveries", "messages")] == [2, 1, 1, 2]
    async with db.transaction() as conn:
        await conn.execute("UPDATE deliveries SET state = 'delivered', settled_at = now()")
    await keeper.empty_removed()
    assert [await rows_of(db, table) for table in TENANT_TABLES] == [1, 1, 1, 1, 0, 1, 1, 1]
    assert await rows_of(db, "suppressions") == 0


async def test_a_deleted_mail_goes_when_it_has_arrived(db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant, direction="outbound", recipients=("a@far.test",))
    async with db.transaction() as conn:
        await mailbox.delete(conn, tenant.inbox.id, [email])
    keeper = Retention(db, mail_days=0, event_days=0)
    assert await keeper.drop_leftovers() == 0
    assert await rows_of(db, "messages") == 1
    async with db.transaction() as conn:
        await conn.execute("UPDATE deliveries SET state = 'delivered', settled_at = now()")
    assert await keeper.drop_leftovers() == 1
    assert [await rows_of(db, table) for table in ("messages", "deliveries", "leftover_messages")] == [0, 0, 0]


async def test_mail_goes_when_its_days_are_over(db: Database, tenant: Tenant) -> None:
    second = await add_inbox(db, tenant.domain, "second")
    for _ in range(retention.EMAILS_AT_ONCE):
        await mail.file(db, tenant, also_in=(second.id,))
    keeper = Retention(db, mail_days=1, event_days=0)
    assert await keeper.forget_mail(NOW) == 0
    assert await keeper.forget_mail(datetime.now(UTC) + timedelta(days=1, seconds=1)) == 2 * retention.EMAILS_AT_ONCE
    assert await rows_of(db, "messages") == 0
    for inbox in (tenant.inbox.id, second.id):
        await assert_counts_are_kept(db, inbox)
    assert await Retention(db, mail_days=0, event_days=0).forget_mail(NOW + timedelta(days=9999)) == 0


async def test_events_and_ended_forwards_go_when_their_days_are_over(db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant, direction="outbound", recipients=("a@far.test", "b@far.test"))
    old = NOW - timedelta(days=2)
    about = {"organisation_id": tenant.organisation_id, "domain_id": tenant.domain.id, "type": EventType.DEFERRED}
    async with db.transaction() as conn:
        await write_as_made(
            conn, [Event(id=first_id_at(old), at=old, **about), Event(id=new_id(), at=NOW, **about)]  # type: ignore[arg-type]  # by name
        )  # fmt: skip
        # One of the two is made a forward that nobody keeps.
        await conn.execute(
            "UPDATE deliveries SET state = 'delivered', settled_at = $1,"
            " email_id = CASE WHEN recipient = 'a@far.test' THEN email_id END",
            old,
        )
    keeper = Retention(db, mail_days=0, event_days=1)
    assert await keeper.forget_events(NOW) == 2
    assert [await rows_of(db, table) for table in ("events", "deliveries", "messages")] == [1, 1, 1]
    async with db.connection() as conn:
        assert [r.address for r in await mailbox.recipients(conn, email)] == ["a@far.test"]
    assert await Retention(db, mail_days=0, event_days=0).forget_events(NOW + timedelta(days=9999)) == 0
