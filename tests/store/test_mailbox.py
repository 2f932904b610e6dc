"""The read side of an inbox: lists with kept totals, marks, deletion, threads."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from clawmail.base.ids import new_id
from clawmail.model.mailbox import EmailPage
from clawmail.store import mailbox
from clawmail.store.db import Database
from tests.support import mail
from tests.support.mail import assert_counts_are_kept
from tests.support.tenants import Tenant, add_tenant


async def page(db: Database, inbox_id: UUID, **wanted: object) -> EmailPage:
    options = {"archived": False, "read": None, "limit": 20, "offset": 0, **wanted}
    async with db.connection() as conn:
        return await mailbox.list_page(conn, inbox_id, **options)  # type: ignore[arg-type]  # the names say what they are


async def test_a_list_is_newest_first_and_its_total_comes_along(db: Database, tenant: Tenant) -> None:
    ids = [await mail.file(db, tenant, mail.plain(f"number {n}")) for n in range(5)]
    found = await page(db, tenant.inbox.id, limit=2)
    assert [e.id for e in found.emails] == [ids[4], ids[3]]
    assert found.total == 5
    found = await page(db, tenant.inbox.id, limit=2, offset=4)
    assert ([e.id for e in found.emails], found.total) == ([ids[0]], 5)
    for beyond in (5, 10_000_000_000, 10**30):
        found = await page(db, tenant.inbox.id, limit=2, offset=beyond)
        assert (found.emails, found.total) == ([], 5)


async def test_filters_and_their_totals(db: Database, tenant: Tenant) -> None:
    ids = [await mail.file(db, tenant) for _ in range(4)]
    async with db.connection() as conn:
        await mailbox.set_flags(conn, tenant.inbox.id, ids[0], is_read=True)
        await mailbox.set_flags(conn, tenant.inbox.id, ids[1], is_archived=True)
        await mailbox.set_flags(conn, tenant.inbox.id, ids[2], is_read=True, is_archived=True)
    expected = {
        (False, None): [ids[3], ids[0]],
        (False, True): [ids[0]],
        (False, False): [ids[3]],
        (True, None): [ids[2], ids[1]],
        (True, True): [ids[2]],
        (True, False): [ids[1]],
    }
    for (archived, read), wanted in expected.items():
        found = await page(db, tenant.inbox.id, archived=archived, read=read)
        assert ([e.id for e in found.emails], found.total) == (wanted, len(wanted))


async def test_an_inbox_without_counts_has_an_empty_list(db: Database, tenant: Tenant) -> None:
    assert await page(db, new_id()) == EmailPage([], 0)


async def test_large_texts_stay_behind_in_a_list(db: Database, tenant: Tenant) -> None:
    large: list[dict[str, Any]] = [
        {"body_text": "é" * 600},
        {"body_html": "x" * 1100},
        {"subject": "x" * 1100},
        {"to_addresses": tuple(f"someone{n}@far.test" for n in range(50))},
        {"cc_addresses": tuple(f"someone{n}@far.test" for n in range(50))},
        {"attachments": tuple({"filename": f"file {n}", "content_type": "x/y", "size": n} for n in range(50))},
    ]
    small = await mail.file(db, tenant, body_text="é" * 100, body_html="<p>")
    ids = [await mail.file(db, tenant, **({"body_text": None} | changes)) for changes in large]
    found = (await page(db, tenant.inbox.id, max_weight=1000)).emails
    assert [email.id for email in found] == [*ids[::-1], small]
    for email in found[:-1]:
        assert email.weight > 1000
        assert email[-6:] == ("", [], [], "[]", None, None)
    assert found[-1].weight < 1000
    assert (found[-1].subject, found[-1].body_text, found[-1].body_html) == ("hello", "é" * 100, "<p>")
    async with db.connection() as conn:
        for email_id, changes in zip(ids, large, strict=True):
            (shown,) = await mailbox.show(conn, tenant.inbox.id, [email_id])
            for name, value in changes.items():
                told = getattr(shown, name)
                assert (len(msgspec.json.decode(told)) if name == "attachments" else len(told)) == len(value)


async def test_marks_move_the_counts_by_what_really_changed(db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant)
    sent = await mail.file(db, tenant, direction="outbound")
    async with db.connection() as conn:
        for is_read, is_archived in itertools.product((True, False, None), repeat=2):
            for _ in range(2):  # the second time changes nothing
                for one in (email, sent):
                    flags = await mailbox.set_flags(
                        conn, tenant.inbox.id, one, is_read=is_read, is_archived=is_archived
                    )
                    assert flags is not None
                    assert is_read in (None, flags.is_read)
                    assert is_archived in (None, flags.is_archived)
            await assert_counts_are_kept(db, tenant.inbox.id)


async def test_marks_set_at_once_are_counted_once(db: Database, tenant: Tenant) -> None:
    ids = [await mail.file(db, tenant) for _ in range(3)]
    chance = random.Random(7)

    async def change() -> None:
        email = chance.choice(ids)
        is_read, is_archived = chance.choice((True, False, None)), chance.choice((True, False, None))
        async with db.connection() as conn:
            await mailbox.set_flags(conn, tenant.inbox.id, email, is_read=is_read, is_archived=is_archived)

    async def post() -> None:
        await mail.file(db, tenant)

    async def remove() -> None:
        async with db.transaction() as conn:
            await mailbox.delete(conn, tenant.inbox.id, [chance.choice(ids)])

    await asyncio.gather(*(chance.choice((change, change, change, post, remove))() for _ in range(120)))
    await assert_counts_are_kept(db, tenant.inbox.id)


async def test_another_inbox_sees_and_changes_nothing(db: Database, tenant: Tenant) -> None:
    email = await mail.file(db, tenant)
    other = await add_tenant(db, "elsewhere.test")
    async with db.transaction() as conn:
        assert await mailbox.show(conn, other.inbox.id, [email]) == []
        assert await mailbox.source(conn, other.inbox.id, email) is None
        assert await mailbox.set_flags(conn, other.inbox.id, email, is_read=True) is None
        assert not await mailbox.delete(conn, other.inbox.id, [email])
        (shown,) = await mailbox.show(conn, tenant.inbox.id, [email])
    assert not shown.is_read


async def test_threads_are_walked_by_their_newest_email(db: Database, tenant: Tenant) -> None:
    ids = [await mail.file(db, tenant, mail.plain(f"talk {n}")) for n in range(5)]
    seen: list[UUID] = []
    before = None
    async with db.connection() as conn:
        while rows := await mailbox.list_threads(conn, tenant.inbox.id, before=before, limit=2):
            seen += [row.last_email_id for row in rows]
            before = rows[-1].last_email_id
    assert seen == ids[::-1]


async def test_recipients_of_a_sent_mail(db: Database, tenant: Tenant) -> None:
    addresses = ("a@far.test", "b@far.test", "c@far.test", "d@far.test")
    email = await mail.file(db, tenant, direction="outbound", recipients=addresses)
    now = datetime.now(UTC)
    async with db.transaction() as conn:
        lease = "UPDATE deliveries SET state = 'leased', lease_owner = $1, lease_until = $2"
        await conn.execute(lease + " WHERE recipient = 'b@far.test'", new_id(), now)
        await conn.execute(
            lease + ", attempts = 1, last_reply = '451 later', last_host = 'mx.far.test', last_attempt_at = $2"
            " WHERE recipient = 'c@far.test'",
            new_id(),
            now,
        )
        await conn.execute(
            "UPDATE deliveries SET state = 'delivered', settled_at = $1 WHERE recipient = 'd@far.test'", now
        )
        found = await mailbox.recipients(conn, email)
    assert [(r.address, r.state, r.last_reply, r.mx) for r in found] == [
        ("a@far.test", "queued", None, None),
        ("b@far.test", "queued", None, None),
        ("c@far.test", "deferred", "451 later", "mx.far.test"),
        ("d@far.test", "delivered", None, None),
    ]
    assert [r.next_attempt_at is None for r in found] == [False, False, False, True]


async def test_pieces_of_the_raw_message(db: Database, tenant: Tenant) -> None:
    raw = mail.plain("pieces", "x" * 100_000)
    email = await mail.file(db, tenant, raw)
    async with db.connection() as conn:
        source = await mailbox.source(conn, tenant.inbox.id, email)
        assert source is not None
        pieces = [await mailbox.raw_piece(conn, source.message_row, at, 33_333) for at in range(0, len(raw), 33_333)]
        assert await mailbox.raw_piece(conn, source.message_row, len(raw), 10) == b""
    assert b"".join(pieces) == raw
