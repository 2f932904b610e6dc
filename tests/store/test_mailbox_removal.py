"""Emails that are removed: what goes with them, and what stays."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from clawmail.base.ids import new_id
from clawmail.model.mailbox import EmailPage, ThreadView
from clawmail.store import mailbox
from clawmail.store.db import Database
from tests.support import mail
from tests.support.mail import assert_counts_are_kept, rows_of
from tests.support.tenants import Tenant, add_inbox


async def page(db: Database, inbox_id: UUID, **wanted: object) -> EmailPage:
    options = {"archived": False, "read": None, "limit": 20, "offset": 0, **wanted}
    async with db.connection() as conn:
        return await mailbox.list_page(conn, inbox_id, **options)  # type: ignore[arg-type]  # the names say what they are


async def test_the_last_holder_takes_the_message_along(db: Database, tenant: Tenant) -> None:
    second = await add_inbox(db, tenant.domain, "second")
    email = await mail.file(db, tenant, also_in=(second.id,))
    async with db.transaction() as conn:
        assert await mailbox.delete(conn, tenant.inbox.id, [email])
        assert not await mailbox.delete(conn, tenant.inbox.id, [email])
    await assert_counts_are_kept(db, tenant.inbox.id)
    assert await rows_of(db, "messages") == 1
    (kept,) = (await page(db, second.id)).emails
    async with db.transaction() as conn:
        assert await mailbox.delete(conn, second.id, [kept.id])
    assert [await rows_of(db, table) for table in ("messages", "emails", "threads")] == [0, 0, 0]


async def test_two_holders_that_let_go_at_once_leave_nothing_behind(db: Database, tenant: Tenant) -> None:
    second = await add_inbox(db, tenant.domain, "second")

    async def let_go(inbox_id: UUID, email: UUID) -> None:
        async with db.transaction() as conn:
            await mailbox.delete(conn, inbox_id, [email])

    for _ in range(10):
        email = await mail.file(db, tenant, also_in=(second.id,))
        (other,) = (await page(db, second.id)).emails
        await asyncio.gather(let_go(tenant.inbox.id, email), let_go(second.id, other.id))
    assert await rows_of(db, "messages") == 0


async def test_many_at_once_and_those_that_are_not_there(db: Database, tenant: Tenant) -> None:
    first = mail.plain("plans")
    name = mail.message_of(first).rfc_message_id
    ids = [await mail.file(db, tenant, first)]
    ids += [await mail.file(db, tenant, mail.plain("Re: plans", f"{n}", f"In-Reply-To: {name}")) for n in range(4)]
    async with db.transaction() as conn:
        await mailbox.set_flags(conn, tenant.inbox.id, ids[0], is_read=True)
        await mailbox.set_flags(conn, tenant.inbox.id, ids[1], is_archived=True)
        await mailbox.set_flags(conn, tenant.inbox.id, ids[2], is_read=True, is_archived=True)
        assert await mailbox.delete(conn, tenant.inbox.id, [*ids[:4], new_id()]) == 4
        (thread,) = await mailbox.list_threads(conn, tenant.inbox.id, before=None, limit=2)
        assert (thread.message_count, thread.last_email_id) == (1, ids[4])
    await assert_counts_are_kept(db, tenant.inbox.id)
    assert await rows_of(db, "messages") == 1


async def test_a_thread_shows_what_is_left_of_it(db: Database, tenant: Tenant) -> None:
    first = mail.plain("plans", "first  words\r\nof it", "X: 1")
    name = mail.message_of(first).rfc_message_id
    one = await mail.file(db, tenant, first)
    two = await mail.file(
        db, tenant, mail.plain("Re: plans", "second", f"In-Reply-To: {name}"), attachments=({"filename": "a.txt"},)
    )
    three = await mail.file(db, tenant, mail.plain("Re: plans", "third", f"References: {name}"))
    async with db.connection() as conn:
        (thread,) = await mailbox.list_threads(conn, tenant.inbox.id, before=None, limit=10)
        ids = await mailbox.emails_of_thread(conn, tenant.inbox.id, thread.thread_id, after=None, limit=10)
    assert (thread.message_count, thread.snippet, thread.has_attachments) == (3, "third", True)
    assert (thread.last_email_id, ids) == (three, [one, two, three])

    async def without(email: UUID) -> ThreadView | None:
        async with db.transaction() as conn:
            await mailbox.delete(conn, tenant.inbox.id, [email])
            return await mailbox.thread(conn, tenant.inbox.id, thread.thread_id)

    left = await without(three)
    assert left is not None
    assert (left.message_count, left.snippet, left.last_email_id, left.has_attachments) == (2, "second", two, True)
    left = await without(two)
    assert left is not None
    assert (left.message_count, left.snippet, left.last_email_id) == (1, "first words of it", one)
    assert (left.has_attachments, left.first_message_at) == (False, left.last_message_at)
    assert await without(one) is None


@pytest.mark.parametrize(
    ("state", "notice", "stays"),
    [
        ("queued", None, True),
        ("deferred", None, True),
        ("held", None, True),
        ("delivered", None, False),
        ("bounced", None, False),
        ("bounced", "failed", True),
    ],
)
async def test_deleting_a_sent_mail_does_not_unsend_it(
    db: Database, tenant: Tenant, state: str, notice: str | None, stays: bool
) -> None:
    email = await mail.file(db, tenant, direction="outbound", recipients=("a@far.test", "b@far.test"))
    async with db.transaction() as conn:
        await conn.execute("UPDATE deliveries SET state = 'delivered' WHERE recipient = 'b@far.test'")
        await conn.execute(
            "UPDATE deliveries SET state = $1, notice = $2 WHERE recipient = 'a@far.test'", state, notice
        )
        (message_id,) = await conn.fetchrow("SELECT message_id FROM emails WHERE id = $1", email)
        assert await mailbox.delete(conn, tenant.inbox.id, [email])
    assert await rows_of(db, "messages") == stays
    assert await rows_of(db, "deliveries") == (2 if stays else 0)
    # Once it has arrived, whoever sweeps up finds nothing in the way.
    async with db.transaction() as conn:
        await conn.execute("UPDATE deliveries SET state = 'delivered', notice = NULL")
        assert await mailbox.drop_unreferenced(conn, message_id) is stays
    assert await rows_of(db, "messages") == 0
