"""The walk over the store: it finds each kind of damage, puts right what can be derived, and never cries wolf."""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from pathlib import Path
from uuid import UUID

import pytest

from clawmail.core.verify import Problem, Progress, Verifier
from clawmail.store import mailbox
from clawmail.store.db import Database
from clawmail.store.embedded import EmbeddedPostgres
from clawmail.store.migrate import migrate
from tests.support import mail
from tests.support.tenants import Tenant, add_inbox, add_tenant

#: (what is done to the store, the check that has to find it, whether it can be put right). A superuser's session with
#: its triggers off stands for whatever it is that damages databases.
DAMAGE = {
    "more bytes are kept than there are": ("UPDATE inbox_usage SET used_bytes = used_bytes + 1", "counts", True),
    "a mail is counted twice": ("UPDATE inbox_usage SET unread = unread + 1", "counts", True),
    "an archived mail is not counted": ("UPDATE emails SET is_archived = true", "counts", True),
    "an inbox has lost its counts": ("DELETE FROM inbox_usage", "counts", True),
    "a bit of a message has flipped": (
        "UPDATE messages SET raw = set_bit(raw, 9, 1 - get_bit(raw, 9))",
        "bytes",
        False,
    ),
    "a message is cut off": ("UPDATE messages SET raw = substring(raw FOR 20)", "bytes", False),
    "an email is charged too little": ("UPDATE emails SET size = size - 1", "copies", True),
    "an email has lost its key": ("UPDATE emails SET message_key = NULL", "copies", True),
    "a thread counts too many": ("UPDATE threads SET message_count = message_count + 1", "threads", True),
    "a thread ends with another email": ("UPDATE threads SET last_email_id = gen_random_uuid()", "threads", True),
    "a thread ends at another time": ("UPDATE threads SET last_message_at = now() + '1 s'", "threads", True),
    "a thread has no attachments": ("UPDATE threads SET has_attachments = NOT has_attachments", "threads", True),
    "threads are lost": ("DELETE FROM threads", "filing", True),
    "emails are lost": ("DELETE FROM emails", "threads", True),
    "messages are lost": ("DELETE FROM messages", "references", False),
    "an email is in another tenant's name": ("UPDATE emails SET domain_id = gen_random_uuid()", "references", False),
    "a delivery ended at no time": ("UPDATE deliveries SET state = 'delivered'", "settled", True),
    "a delivery goes on after its end": ("UPDATE deliveries SET settled_at = now()", "settled", True),
    "attempts left no time": ("UPDATE deliveries SET attempts = 2", "deliveries", False),
    "an owner died, and nobody noticed": (
        "UPDATE deliveries SET state = 'leased', lease_owner = gen_random_uuid(), lease_until = now() - interval '1 h'",
        "leases",
        True,
    ),
    "a clock was a year ahead": (
        "UPDATE deliveries SET state = 'leased', lease_owner = gen_random_uuid(), lease_until = now() + interval '1 y'",
        "leases",
        True,
    ),
    "a key opens a stranger's inbox": (
        "INSERT INTO access_keys (id, organisation_id, domain_id, inbox_id, kind, prefix, secret_hash)"
        " SELECT gen_random_uuid(), organisation_id, gen_random_uuid(), id, 'inbox', 'cm_12345678', '' FROM inboxes",
        "keys",
        False,
    ),
    "a webhook is told of an inbox that is gone": (
        "INSERT INTO webhooks (id, organisation_id, domain_id, inbox_id, key_id, url, event_types, secret_sealed,"
        " created_at) SELECT gen_random_uuid(), organisation_id, domain_id, id, id, 'https://a.test', '{}', '', now()"
        " FROM inboxes LIMIT 1; UPDATE inboxes SET removed_at = now() WHERE id = (SELECT inbox_id FROM webhooks)",
        "webhooks",
        True,
    ),
}


async def verified(db: Database, *, repair: bool = False) -> list[Problem]:
    return [problem async for problem in Verifier(db).run(repair=repair)]


async def damage(db: Database, statement: str) -> None:
    async with db.transaction() as conn:
        await conn.execute("SET LOCAL session_replication_role = replica")  # no foreign key is looked at
        await conn.execute(statement)


async def fill(db: Database, tenant: Tenant) -> None:
    """Two threads in two inboxes, an attachment, an answer, and mail on its way out."""
    other = await add_inbox(db, tenant.domain, "other")
    first = mail.plain("question", "What is it?")
    await mail.file(db, tenant, first, also_in=(other.id,))
    reference = mail.message_of(first).rfc_message_id
    await mail.file(db, tenant, mail.plain("Re: question", "It is.", f"In-Reply-To: {reference}"))
    await mail.file(db, tenant, mail.plain("out"), direction="outbound", recipients=("a@x.test", "b@y.test"))


@pytest.mark.parametrize("what", DAMAGE)
async def test_damage_is_found_and_what_can_be_derived_is_put_right(db: Database, tenant: Tenant, what: str) -> None:
    statement, check, repairable = DAMAGE[what]
    await fill(db, tenant)
    assert await verified(db) == []
    await damage(db, statement)

    found = [problem for problem in await verified(db) if problem.check == check]
    assert found, "nothing was found"
    assert {(problem.repairable, problem.repaired) for problem in found} == {(repairable, False)}

    after = await verified(db, repair=True)
    assert {problem.repaired for problem in after if problem.check == check} == {repairable}
    if repairable:
        assert await verified(db) == []
    else:
        assert [problem.check for problem in await verified(db) if problem.check == check]


async def test_a_repaired_thread_reads_as_before(db: Database, tenant: Tenant) -> None:
    await fill(db, tenant)
    async with db.connection() as conn:
        before = await mailbox.list_threads(conn, tenant.inbox.id, before=None, limit=10)
    await damage(db, "DELETE FROM threads")
    await verified(db, repair=True)
    async with db.connection() as conn:
        assert await mailbox.list_threads(conn, tenant.inbox.id, before=None, limit=10) == before


async def test_an_email_in_a_strangers_thread_gets_one_of_its_own(db: Database, tenant: Tenant) -> None:
    stranger = await add_tenant(db, "stranger.test")
    mine = await mail.file(db, tenant)
    await mail.file(db, stranger)
    await damage(
        db,
        "UPDATE emails SET thread_id = (SELECT id FROM threads t WHERE t.inbox_id <> emails.inbox_id)"
        f" WHERE id = '{mine}'",
    )
    found = await verified(db, repair=True)
    assert "filing" in {problem.check for problem in found if problem.repaired}
    assert await verified(db) == []
    async with db.connection() as conn:
        (thread,) = await mailbox.list_threads(conn, tenant.inbox.id, before=None, limit=10)
        assert await mailbox.emails_of_thread(conn, tenant.inbox.id, thread.thread_id, after=None, limit=10) == [mine]


async def test_an_orphan_goes_and_mail_that_is_carried_stays(db: Database, tenant: Tenant) -> None:
    email_id = await mail.file(db, tenant)
    sent = await mail.file(db, tenant, direction="outbound", recipients=("a@x.test",))
    async with db.transaction() as conn:
        await mailbox.delete(conn, tenant.inbox.id, [sent])  # its delivery still carries the message
    assert await verified(db) == []
    await damage(db, f"DELETE FROM emails WHERE id = '{email_id}'")
    (orphan,) = [problem for problem in await verified(db, repair=True) if problem.check == "orphans"]
    assert orphan.repaired
    assert await verified(db) == []
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM messages") == 1


async def test_a_lease_that_is_taken_over_is_told_as_an_event(db: Database, tenant: Tenant) -> None:
    await mail.file(db, tenant, direction="outbound", recipients=("a@x.test",))
    await damage(db, DAMAGE["an owner died, and nobody noticed"][0])
    await verified(db, repair=True)
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT state FROM deliveries") == "queued"
        assert await conn.fetchval("SELECT detail->>'result' FROM events WHERE type = 'attempted'") == "lease expired"


async def test_a_store_in_use_is_never_found_wrong(db: Database, tenant: Tenant) -> None:
    """Mail is filed, marked and deleted at random while the walk goes round and repairs what it believes is wrong."""
    chance = random.Random(7)
    kept: list[UUID] = [await mail.file(db, tenant)]
    busy = True

    async def use() -> None:
        first = mail.message_of(mail.plain("start")).rfc_message_id
        while busy:
            what = chance.random()
            if what < 0.5 or not kept:
                kept.append(await mail.file(db, tenant, mail.plain("more", "text", f"References: {first}")))
                continue
            email_id = kept.pop(chance.randrange(len(kept)))
            async with db.transaction() as conn:
                if what < 0.8:
                    flags = {"is_read": chance.random() < 0.5, "is_archived": chance.random() < 0.5}
                    await mailbox.set_flags(conn, tenant.inbox.id, email_id, **flags)
                    kept.append(email_id)
                else:
                    await mailbox.delete(conn, tenant.inbox.id, [email_id])

    users = [asyncio.create_task(use()) for _ in range(3)]
    for turn in range(25):
        assert await verified(db, repair=turn % 2 == 0) == []
    busy = False
    await asyncio.gather(*users)
    assert await verified(db) == []


async def test_progress_is_told_batch_by_batch(db: Database, tenant: Tenant) -> None:
    await fill(db, tenant)
    told: list[Progress] = []
    assert [problem async for problem in Verifier(db, told=told.append).run()] == []
    finished = {progress.table: progress.rows for progress in told if progress.finished}
    assert finished == {
        "messages": 3,
        "emails": 4,
        "threads": 3,
        "inboxes": 2,
        "deliveries": 2,
        "access_keys": 0,
        "webhooks": 0,
    }


async def test_a_bit_flipped_on_the_disk_is_found_and_the_walk_goes_on() -> None:
    """PostgreSQL refuses the damaged page; the rows beside it are looked at all the same."""
    directory = Path(tempfile.mkdtemp(prefix="clawmail-verify-"))
    directory.chmod(0o755)
    try:
        server = EmbeddedPostgres(directory)
        await server.start()
        await migrate(server.url)
        db = Database(server.url)
        await db.open()
        tenant = await add_tenant(db)
        # Large enough to lie outside of its row, in pages of its own.
        body = "".join(random.Random(1).choices("abcdefgh", k=60_000))
        hurt = await mail.file(db, tenant, mail.plain("large", "NEEDLE" + body))
        await mail.file(db, tenant)
        async with db.connection() as conn:
            path = await conn.fetchval(
                "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE oid = 'messages'::regclass"
            )
            broken = await conn.fetchval("SELECT message_id FROM emails WHERE id = $1", hurt)
            await conn.execute("CHECKPOINT")
        await db.close()
        await server.stop()

        page = server.directory / path
        content = bytearray(page.read_bytes())
        content[content.index(b"NEEDLE")] ^= 1
        page.write_bytes(content)

        await server.start()
        await db.open()
        found = await verified(db)
        assert {(problem.check, problem.id) for problem in found} == {("bytes", broken)}
        await db.close()
        await server.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
