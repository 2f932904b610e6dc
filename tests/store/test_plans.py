"""What the mailbox's queries cost where much mail is: the same as where there is little.

Time is no measure for a test. Pages of the database are: a query that reads as many of them in an inbox of 40,000
emails as in one of a hundred does not slow down, and one that reads a whole table is found out at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from clawmail.base.ids import new_id
from clawmail.store.db import Connection, Database
from clawmail.store.queries import load
from tests.support.postgres import TestServer
from tests.support.tenants import Tenant, add_inbox, add_tenant

LARGE, SMALL, OTHERS = 40_000, 100, 50
#: pages of 8 KiB that a query about one email, thread or message may read.
FEW_PAGES = 120

ID = "(lpad(to_hex(1767225600000 + n), 12, '0') || '7000800000000000' || right(md5($1::uuid::text), 4))::uuid"
FILL = f"""
WITH message AS (
    INSERT INTO messages (id, raw, raw_sha256, raw_size, trace, rfc_message_id, reference_ids, subject, from_address,
                          from_name, envelope_from, to_addresses, cc_addresses, bcc_addresses, reply_to, body_text,
                          attachments, received_at)
    SELECT {ID}, 'x', 'x', 1, '', '<' || n || '@x>', '{{}}', 'subject', 'a@b.test', '', 'a@b.test', '{{}}', '{{}}',
           '{{}}', '{{}}', repeat('text ', 50), '[]', now()
    FROM generate_series(1, $2) AS n
    RETURNING id
), thread AS (
    INSERT INTO threads (id, organisation_id, domain_id, inbox_id, subject, snippet, first_message_at, last_message_at,
                         last_direction, last_email_id, message_count, has_attachments)
    SELECT id, $3, $4, $1, 'subject', '', now(), now(), 'inbound', id, 1, false FROM message
), delivery AS (
    INSERT INTO deliveries (id, organisation_id, domain_id, inbox_id, email_id, message_id, kind, envelope_from,
                            recipient, destination, state, next_attempt_at, created_at)
    SELECT id, $3, $4, $1, id, id, 'send', 'a@b.test', 'c@d.test', 'd.test', 'delivered', now(), now() FROM message
), event AS (
    INSERT INTO events (id, organisation_id, domain_id, inbox_id, email_id, type, detail, at)
    SELECT id, $3, $4, $1, id, 'received', '{{}}', now() FROM message
)
INSERT INTO emails (id, organisation_id, domain_id, inbox_id, message_id, thread_id, direction, is_read, is_archived,
                    size, created_at)
SELECT id, $3, $4, $1, id, id, 'inbound', row_number() OVER () % 3 = 0, false, 1, now() FROM message
"""
COUNT = """
UPDATE inbox_usage u SET (unread, read, inbound_unread, used_bytes) = (
    SELECT count(*) FILTER (WHERE NOT is_read), count(*) FILTER (WHERE is_read), count(*) FILTER (WHERE NOT is_read),
           count(*)
    FROM emails e WHERE e.inbox_id = u.inbox_id
)
"""


@dataclass
class Filled:
    """A database with a large inbox, a small one and some more."""

    conn: Connection
    tenant: Tenant
    large: UUID
    small: UUID


@pytest.fixture(scope="module")
async def filled(postgres: TestServer) -> AsyncIterator[Filled]:
    url = await postgres.create()
    db = Database(url, pool_size=2)
    await db.open()
    tenant = await add_tenant(db)
    small = (await add_inbox(db, tenant.domain, "small")).id
    others = [(await add_inbox(db, tenant.domain, f"other{n}")).id for n in range(OTHERS)]
    conn = await asyncpg.connect(url, command_timeout=120)
    for inbox, size in ((tenant.inbox.id, LARGE), (small, SMALL), *((other, SMALL) for other in others)):
        await conn.execute(FILL, inbox, size, tenant.organisation_id, tenant.domain.id)
    await conn.execute(COUNT)
    await conn.execute("VACUUM ANALYZE")
    yield Filled(conn, tenant, tenant.inbox.id, small)
    await conn.close()
    await db.close()
    await postgres.drop(url)


async def pages_read(conn: Connection, statement: str, *values: Any) -> int:
    """How many pages the statement reads when it is run; what it changes is undone."""
    for _ in range(2):  # the first run also reads the catalogues
        transaction = conn.transaction()
        await transaction.start()
        plan = await conn.fetchval("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) " + statement, *values)
        await transaction.rollback()
    top = msgspec.json.decode(plan)[0]["Plan"]
    read: int = top["Shared Hit Blocks"] + top["Shared Read Blocks"]
    return read


async def newest(filled: Filled, inbox: UUID, position: int = 0) -> UUID:
    found: UUID = await filled.conn.fetchval(
        "SELECT id FROM emails WHERE inbox_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1", inbox, position
    )
    return found


@pytest.mark.parametrize("read", [None, True, False])
async def test_a_page_of_a_large_inbox_costs_what_one_of_a_small_inbox_costs(filled: Filled, read: bool | None) -> None:
    statement = load("mailbox").list_page
    large = await pages_read(filled.conn, statement, filled.large, False, read, 20, 0, 65536)
    small = await pages_read(filled.conn, statement, filled.small, False, read, 20, 0, 65536)
    assert large <= small * 1.2
    # Twenty emails and messages by their keys, each some three pages deep, and the index of the list.
    assert large <= 20 * 8 + 20
    beyond = await pages_read(filled.conn, statement, filled.large, False, read, 20, LARGE, 65536)
    assert beyond <= 10
    deep = await pages_read(filled.conn, statement, filled.large, False, read, 20, LARGE // 4, 65536)
    assert deep <= large + LARGE // 4 / 50  # the index alone: some 100 entries a page


async def test_walking_by_cursor_costs_the_same_at_every_depth(filled: Filled) -> None:
    owner = {"of_email": filled.large, "of_inbox": filled.large, "of_domain": filled.tenant.domain.id}
    owner["of_email"] = await newest(filled, filled.large)
    top, deep = await newest(filled, filled.large), await newest(filled, filled.large, LARGE // 2)
    threads = load("mailbox").list_threads
    for before in (None, top, deep):
        assert await pages_read(filled.conn, threads, filled.large, before, 21) <= FEW_PAGES
    for name, identifier in owner.items():
        for after in (None, deep):
            statement = load("events").statements[name]
            assert await pages_read(filled.conn, statement, identifier, after, 21) <= FEW_PAGES, name


async def test_one_email_is_found_and_changed_by_its_key(filled: Filled) -> None:
    sql, inbox, email = load("mailbox"), filled.large, await newest(filled, filled.large, LARGE // 3)
    calls: dict[str, tuple[Any, ...]] = {
        "show": (inbox, [email], 65536),
        "source": (inbox, email),
        "raw_piece": (email, 0, 100),
        "recipients": (email,),
        "set_flags": (inbox, email, None, True),
        "lock_counts": (inbox,),
        "delete_emails": (inbox, [email]),
        "delete_empty_thread": (email,),
        "shrink_thread": (email, 0, 200),
        "lock_message": (email,),
        "delete_settled_deliveries": (email,),
        "delete_unreferenced_message": (email,),
        "leave_over": (email,),
        "thread": (inbox, email),
        "emails_of_thread": (inbox, email, None, 21),
    }
    assert set(calls) | {"list_page", "list_threads"} == set(sql.statements)
    for name, values in calls.items():
        assert await pages_read(filled.conn, sql.statements[name], *values) <= FEW_PAGES, name
        # Whatever the values: the plan that is kept for all of them is as good.
        await filled.conn.execute("SET plan_cache_mode = force_generic_plan")
        assert await pages_read(filled.conn, sql.statements[name], *values) <= FEW_PAGES, name
        await filled.conn.execute("RESET plan_cache_mode")


async def test_somebody_elses_email_costs_nothing_to_refuse(filled: Filled) -> None:
    email, stranger = await newest(filled, filled.large), new_id()
    assert await pages_read(filled.conn, load("mailbox").source, stranger, email) <= 10
