"""Postings: what one accepted mail writes, and what it must not touch."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from clawmail.base.errors import NotFound, QuotaExceeded
from clawmail.base.ids import id_at, new_id
from clawmail.core.writer import Writer
from clawmail.model.delivery import NewDelivery, State
from clawmail.model.events import Event, EventType
from clawmail.model.mail import Filing, Message, Posted, Posting
from clawmail.store import deliveries, postings
from clawmail.store.db import Database
from clawmail.store.pieces import LARGE_BYTES
from tests.support.tenants import Tenant, add_inbox, add_tenant


def a_message(**changes: Any) -> Message:
    identifier = new_id()
    message = Message(
        id=identifier,
        raw=b"Subject: hello\r\n\r\nHi there\r\n",
        trace=b"Return-Path: <peer@other.test>\r\n",
        rfc_message_id=f"<{identifier}@other.test>",
        in_reply_to=None,
        reference_ids=(),
        subject="hello",
        from_address="peer@other.test",
        from_name="Peer",
        envelope_from="peer@other.test",
        sender_warning=None,
        to_addresses=("agent@example.test",),
        cc_addresses=(),
        bcc_addresses=(),
        reply_to=(),
        body_text="Hi there",
        body_html=None,
        attachments=(),
        authentication={"spf": {"result": "pass"}},
        received_at=datetime.now(UTC),
    )
    return replace(message, **changes)


def filed_in(tenant: Tenant, **changes: Any) -> Filing:
    filing = Filing(new_id(), tenant.organisation_id, tenant.domain.id, tenant.inbox.id, "inbound", False)
    return replace(filing, **changes)


async def usage(db: Database, tenant: Tenant) -> dict[str, int]:
    async with db.connection() as conn:
        row = await conn.fetchrow("SELECT * FROM inbox_usage WHERE inbox_id = $1", tenant.inbox.id)
        return {name: value for name, value in row.items() if name != "inbox_id"}


async def test_one_posting_writes_everything_or_nothing(db: Database, tenant: Tenant) -> None:
    message, filing, now = a_message(), filed_in(tenant), datetime.now(UTC)
    delivery = NewDelivery(
        new_id(), tenant.organisation_id, tenant.domain.id, None, None, None, "forward", "", "x@other.test",
        "other.test", State.QUEUED, now, now,
    )  # fmt: skip
    event = Event(new_id(), tenant.organisation_id, tenant.domain.id, EventType.RECEIVED, now, detail={"size": 1})
    posted = await Writer(db).write(Posting(message, (filing,), (delivery,), (event,)))
    assert set(posted.threads) == {filing.email_id}
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT raw FROM messages WHERE id = $1", message.id) == message.raw
        assert await conn.fetchval("SELECT state FROM deliveries WHERE id = $1", delivery.id) == "queued"
        assert await conn.fetchval("SELECT detail->>'size' FROM events WHERE id = $1", event.id) == "1"
        thread = await conn.fetchrow("SELECT * FROM threads WHERE id = $1", posted.threads[filing.email_id])
    assert (thread["message_count"], thread["snippet"], thread["last_email_id"]) == (1, "Hi there", filing.email_id)
    assert await usage(db, tenant) == {
        "used_bytes": message.size, "unread": 1, "read": 0, "archived_unread": 0, "archived_read": 0,
        "inbound_unread": 1,
    }  # fmt: skip
    twice = Posting(replace(message, id=new_id()), (filed_in(tenant, email_id=filing.email_id),))
    with pytest.raises(Exception, match="_pkey"):
        await Writer(db).write(twice)
    assert (await usage(db, tenant))["used_bytes"] == message.size


async def test_replies_join_by_in_reply_to_then_by_references_and_only_in_their_own_inbox(
    db: Database, tenant: Tenant
) -> None:
    writer = Writer(db)
    first = a_message()
    opened = await writer.write(Posting(first, (filed_in(tenant),)))
    (thread,) = opened.threads.values()
    by_reply = await writer.write(Posting(a_message(in_reply_to=first.rfc_message_id), (filed_in(tenant),)))
    unknown = a_message(in_reply_to="<gone@x>", reference_ids=(str(first.rfc_message_id), "<other@x>"))
    by_reference = await writer.write(Posting(unknown, (filed_in(tenant),)))
    assert [*by_reply.threads.values(), *by_reference.threads.values()] == [thread, thread]

    stranger = await add_tenant(db, "stranger.test")
    foreign = await writer.write(Posting(a_message(in_reply_to=first.rfc_message_id), (filed_in(stranger),)))
    assert thread not in foreign.threads.values()
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT message_count FROM threads WHERE id = $1", thread) == 3


async def test_a_mail_and_its_answer_in_one_batch_share_a_thread(db: Database, tenant: Tenant) -> None:
    first = a_message()
    both = [
        Posting(first, (filed_in(tenant),)),
        Posting(a_message(in_reply_to=first.rfc_message_id), (filed_in(tenant),)),
    ]
    async with db.transaction() as conn:
        one, two = await postings.post(conn, both)
    assert isinstance(one, Posted)
    assert isinstance(two, Posted)
    assert list(one.threads.values()) == list(two.threads.values())


async def test_mails_of_one_thread_in_one_batch_are_counted_and_the_newest_is_shown(
    db: Database, tenant: Tenant
) -> None:
    first, *ids = a_message(), new_id(), new_id()
    filings = [filed_in(tenant, email_id=identifier) for identifier in ids]
    # The newer one is handed in first, as another process may.
    later = a_message(in_reply_to=first.rfc_message_id, body_text="newest", attachments=({"filename": "a"},))
    earlier = a_message(in_reply_to=first.rfc_message_id, body_text="older")
    batch = [Posting(first, (filed_in(tenant, email_id=id_at(datetime(2026, 1, 1, tzinfo=UTC))),))]
    batch += [Posting(later, (filings[1],)), Posting(earlier, (filings[0],))]
    async with db.transaction() as conn:
        await postings.post(conn, batch)
        thread = await conn.fetchrow("SELECT * FROM threads")
        assert await conn.fetchval("SELECT count(*) FROM emails WHERE thread_id = $1", thread["id"]) == 3
    shown = [thread[name] for name in ("message_count", "snippet", "last_email_id", "last_message_at")]
    assert shown == [3, "newest", ids[1], later.received_at]
    assert (thread["first_message_at"], thread["has_attachments"]) == (first.received_at, True)


@pytest.mark.parametrize("size", [100, LARGE_BYTES])
async def test_lists_are_kept_as_they_are(db: Database, tenant: Tenant, size: int) -> None:
    odd = ("plain", "", " ", "NULL", "a,b", "{}", '"quoted"', "back\\slash", '\\"', "zwei\nZeilen", "ü\U0001f4e7")
    message = a_message(
        raw=b"x" * size, reference_ids=odd, to_addresses=odd, cc_addresses=(), reply_to=("", ""), notes=odd
    )
    await Writer(db).write(Posting(message, (filed_in(tenant),)))
    async with db.connection() as conn:
        row = await conn.fetchrow("SELECT * FROM messages WHERE id = $1", message.id)
        raw = await deliveries.body(conn, message.id)
    names = ("reference_ids", "to_addresses", "cc_addresses", "bcc_addresses", "reply_to", "notes")
    assert [tuple(row[name]) for name in names] == [odd, odd, (), (), ("", ""), odd]
    assert raw == message.raw


async def test_what_is_refused_leaves_nothing_and_its_neighbours_are_filed(db: Database, tenant: Tenant) -> None:
    small = await add_inbox(db, tenant.domain, "small", quota=10)
    gone = await add_inbox(db, tenant.domain, "gone")
    large = b"x" * LARGE_BYTES
    async with db.transaction() as conn:
        await conn.execute("UPDATE inboxes SET removed_at = now() WHERE id = $1", gone.id)
        to_full = Posting(a_message(raw=large), (filed_in(tenant), filed_in(tenant, inbox_id=small.id)))
        to_gone = Posting(a_message(), (filed_in(tenant, inbox_id=gone.id),))
        notice = Posting(a_message(), (filed_in(tenant, inbox_id=small.id, within_quota=False),))
        kept = Posting(a_message(raw=large), (filed_in(tenant),))
        results = await postings.post(conn, [to_full, to_gone, notice, kept])
    assert [type(result) for result in results] == [QuotaExceeded, NotFound, Posted, Posted]
    async with db.connection() as conn:
        stored = {row["id"] for row in await conn.fetch("SELECT id FROM messages")}
        used = await conn.fetchval("SELECT used_bytes FROM inbox_usage WHERE inbox_id = $1", small.id)
    assert stored == {notice.message.id, kept.message.id}
    assert (used, (await usage(db, tenant))["used_bytes"]) == (notice.message.size, len(large))


async def test_two_processes_fill_one_inbox_to_its_quota_and_no_further(db: Database, tenant: Tenant) -> None:
    size = a_message().size
    small = await add_inbox(db, tenant.domain, "small", quota=30 * size)
    writers = [Writer(db), Writer(db)]
    mails = [Posting(a_message(), (filed_in(tenant, inbox_id=small.id),)) for _ in range(50)]
    results = await asyncio.gather(
        *(writers[number % 2].write(mail) for number, mail in enumerate(mails)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Posted"] * 30 + ["QuotaExceeded"] * 20
    async with db.connection() as conn:
        counts = await conn.fetchrow("SELECT used_bytes, unread FROM inbox_usage WHERE inbox_id = $1", small.id)
        assert tuple(counts) == (30 * size, 30)
        assert await conn.fetchval("SELECT count(*) FROM messages") == 30


async def test_a_full_inbox_refuses_and_its_neighbours_in_the_batch_do_not_notice(db: Database, tenant: Tenant) -> None:
    small = await add_inbox(db, tenant.domain, "small", quota=10)
    writer = Writer(db)
    refused = writer.write(Posting(a_message(), (filed_in(tenant, inbox_id=small.id),)))
    kept = [writer.write(Posting(a_message(), (filed_in(tenant),))) for _ in range(20)]
    results = await asyncio.gather(refused, *kept, return_exceptions=True)
    assert isinstance(results[0], QuotaExceeded)
    assert not any(isinstance(result, BaseException) for result in results[1:])
    assert (await usage(db, tenant))["unread"] == 20
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM messages") == 20


async def test_answering_marks_the_answered_email_as_read(db: Database, tenant: Tenant) -> None:
    writer = Writer(db)
    first, filing = a_message(), filed_in(tenant)
    posted = await writer.write(Posting(first, (filing,)))
    answer = filed_in(
        tenant, direction="outbound", is_read=True, thread_id=posted.threads[filing.email_id], answers=filing.email_id
    )
    await writer.write(Posting(a_message(), (answer,)))
    counts = await usage(db, tenant)
    assert (counts["unread"], counts["read"], counts["inbound_unread"]) == (0, 2, 0)


async def test_an_answer_to_a_thread_that_was_deleted_meanwhile_opens_it_again(db: Database, tenant: Tenant) -> None:
    gone = new_id()
    answer = filed_in(tenant, direction="outbound", is_read=True, thread_id=gone)
    await Writer(db).write(Posting(a_message(), (answer,)))
    async with db.connection() as conn:
        thread = await conn.fetchrow("SELECT * FROM threads WHERE id = $1", gone)
    assert (thread["message_count"], thread["last_email_id"]) == (1, answer.email_id)


async def test_what_comes_turn_by_turn_shares_one_commit(
    db: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, sizes, post = Writer(db), [], postings.post_plain

    async def counted(conn: Any, batch: Any, planned: Any) -> bool:
        sizes.append(len(batch))
        return await post(conn, batch, planned)

    async def arrive(turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        await writer.write(Posting(a_message(), (filed_in(tenant),)))

    monkeypatch.setattr(postings, "post_plain", counted)
    await asyncio.gather(*(arrive(turns) for turns in range(10)))
    assert sizes == [10]


async def test_small_mail_does_not_wait_for_large(db: Database, tenant: Tenant) -> None:
    writer, order = Writer(db), []

    async def write(name: str, size: int) -> None:
        await writer.write(Posting(a_message(raw=b"x" * size), (filed_in(tenant),)))
        order.append(name)

    await asyncio.gather(*(write("large", 20_000_000) for _ in range(3)), write("small", 100))
    assert order[0] == "small"
    assert (await usage(db, tenant))["unread"] == 4
