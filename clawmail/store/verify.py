"""What is wrong in the store: counts, references, bytes, leases and times, looked at row by row, in small batches.

Each check is one statement over a batch of ids. A statement sees the database at one moment, and whoever writes mail
writes what belongs together in one transaction, so a check beside running daemons never reports something half done.
What can be derived again is repaired under the lock that every writer of an inbox takes first, its row of counts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from clawmail.model.mail import SNIPPET_CHARACTERS
from clawmail.store import deliveries, webhooks
from clawmail.store.db import Connection
from clawmail.store.mailbox import drop_unreferenced
from clawmail.store.queries import load

#: octets that one statement reads, hashes or counts in: a fraction of a second, unless a single row has more.
MAX_BYTES = 32 * 1024 * 1024
#: longest wait for such a statement; an inbox of many millions is counted at once.
STATEMENT_SECONDS = 3600.0
_FIRST_ID = UUID(int=0)

_sql = load("verify")

Repair = Callable[[Connection, UUID], Awaitable[None]]


class Finding(NamedTuple):
    """A row that is not as it should be."""

    id: UUID
    #: what is wrong, in words, to be read after the row's name.
    problem: str


@dataclass(frozen=True, slots=True)
class Check:
    """Something that has to hold for every row of a table."""

    name: str
    #: statement that names the rows of a batch for which it does not hold.
    find: str
    #: makes it hold again for one row, in the caller's transaction; None where nothing is left to derive it from.
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table with its checks, and how it is walked."""

    name: str
    #: statement that gives the next ids.
    next_ids: str
    #: ids that one statement looks at.
    batch: int
    checks: tuple[Check, ...]


async def estimated_rows(conn: Connection) -> dict[str, int]:
    """About how many rows each table has; 0 where PostgreSQL has not looked yet."""
    rows = await conn.fetch(_sql.sizes, [table.name for table in TABLES])
    return {row["name"]: max(0, row["rows"]) for row in rows}


async def next_batch(conn: Connection, table: Table, after: UUID | None) -> list[list[UUID]]:
    """The ids that follow ``after`` (None: the first), in portions for one statement each; none at the end."""
    rows = await conn.fetch(table.next_ids, after or _FIRST_ID, table.batch)
    portions: list[list[UUID]] = []
    room = 0
    for row in rows:
        size = row.get("octets", 0)
        if not portions or size > room:
            portions.append([])
            room = MAX_BYTES
        portions[-1].append(row["id"])
        room -= size
    return portions


async def find(conn: Connection, check: Check, ids: Sequence[UUID]) -> list[Finding]:
    """The rows among ``ids`` for which ``check`` does not hold."""
    try:
        return [
            Finding(row["id"], row["problem"]) for row in await conn.fetch(check.find, ids, timeout=STATEMENT_SECONDS)
        ]
    except (asyncpg.DataCorruptedError, asyncpg.IndexCorruptedError) as damage:
        if len(ids) == 1:
            return [Finding(ids[0], f"it cannot be read: {damage}")]
    return [finding async for finding in _one_by_one(conn, check, ids)]


async def _one_by_one(conn: Connection, check: Check, ids: Sequence[UUID]) -> AsyncIterator[Finding]:
    """A damaged page fails a whole statement: each row by itself, so that the others are looked at."""
    for row_id in ids:
        for finding in await find(conn, check, [row_id]):
            yield finding


async def _drop_orphan(conn: Connection, message_id: UUID) -> None:
    await drop_unreferenced(conn, message_id)


async def _refile(conn: Connection, email_id: UUID) -> None:
    place = await conn.fetchrow(_sql.place_of_email, email_id)
    if place is None:
        return
    await conn.execute(_sql.lock_counts, place["inbox_id"])
    thread_id = await conn.fetchval(_sql.own_thread, email_id) or place["thread_id"]
    await conn.execute(_sql.rebuild_thread, thread_id, place["inbox_id"], SNIPPET_CHARACTERS)


async def _recopy(conn: Connection, email_id: UUID) -> None:
    place = await conn.fetchrow(_sql.place_of_email, email_id)
    if place is not None:
        await conn.execute(_sql.lock_counts, place["inbox_id"])
        await conn.execute(_sql.recopy_email, email_id)


async def _rebuild_thread(conn: Connection, thread_id: UUID) -> None:
    inbox_id = await conn.fetchval(_sql.inbox_of_thread, thread_id)
    if inbox_id is not None:
        await conn.execute(_sql.lock_counts, inbox_id)
        await conn.execute(_sql.delete_empty_thread, thread_id)
        await conn.execute(_sql.rebuild_thread, thread_id, inbox_id, SNIPPET_CHARACTERS)


async def _recount(conn: Connection, inbox_id: UUID) -> None:
    await conn.execute(_sql.add_missing_counts, inbox_id)
    await conn.execute(_sql.lock_counts, inbox_id)
    await conn.execute(_sql.recount, inbox_id)


async def _resettle(conn: Connection, delivery_id: UUID) -> None:
    await conn.execute(_sql.resettle, delivery_id)


async def _take_over(conn: Connection, delivery_id: UUID) -> None:
    await conn.execute(_sql.end_lease, delivery_id)
    await deliveries.take_over(conn, datetime.now(UTC))


async def _remove_webhook(conn: Connection, webhook_id: UUID) -> None:
    await webhooks.remove(conn, webhook_id, datetime.now(UTC))


#: everything that is looked at. Copies come before what is counted from them.
TABLES = (
    Table(
        "messages",
        _sql.some_messages,
        1000,
        (
            Check("bytes", _sql.changed_messages),
            Check("orphans", _sql.orphaned_messages, _drop_orphan),
        ),
    ),
    Table(
        "emails",
        _sql.some_emails,
        1000,
        (
            Check("references", _sql.lost_emails),
            Check("copies", _sql.miscopied_emails, _recopy),
            Check("filing", _sql.misfiled_emails, _refile),
        ),
    ),
    Table("threads", _sql.some_threads, 500, (Check("threads", _sql.wrong_threads, _rebuild_thread),)),
    Table("inboxes", _sql.some_inboxes, 200, (Check("counts", _sql.wrong_counts, _recount),)),
    Table(
        "deliveries",
        _sql.some_deliveries,
        1000,
        (
            Check("deliveries", _sql.wrong_deliveries),
            Check("settled", _sql.wrongly_settled, _resettle),
            Check("leases", _sql.bad_leases, _take_over),
        ),
    ),
    Table("access_keys", _sql.some_keys, 1000, (Check("keys", _sql.stray_keys),)),
    Table("webhooks", _sql.some_webhooks, 1000, (Check("webhooks", _sql.stray_webhooks, _remove_webhook),)),
)
