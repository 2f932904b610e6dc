"""The read side of the mail: lists, single emails, threads and bytes, and what an owner may change about them.

Every question names its inbox, so that an id of another tenant finds nothing. Lists come with the kept total in one
round trip. Whatever changes an inbox locks its row of counts first, like the writer of new mail, and moves the counts
in the same transaction by what really changed: doing a thing twice, or two at once, counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from clawmail.model.delivery import State
from clawmail.model.mail import SNIPPET_CHARACTERS
from clawmail.model.mailbox import EmailPage, EmailSource, EmailView, Flags, RecipientState, ThreadView
from clawmail.store.db import Connection
from clawmail.store.queries import load
from clawmail.store.usage import UsageChange, add_usage

#: rows beyond which no page is looked for; PostgreSQL counts in 63 bits.
MAX_OFFSET = 2**62
#: rows of a cursor page that a query can give: the largest page and one more, which tells whether there is a next.
MAX_CURSOR_ROWS = 101
#: for callers that want the texts of an email whatever they weigh.
ANY_WEIGHT = 2**31 - 1

_sql = load("mailbox")


async def list_page(
    conn: Connection,
    inbox_id: UUID,
    *,
    archived: bool,
    read: bool | None,
    limit: int,
    offset: int,
    max_weight: int = ANY_WEIGHT,
) -> EmailPage:
    """``limit`` emails after the newest ``offset``, newest first, and how many there are.

    ``read`` None takes both. Texts that weigh more than ``max_weight`` stay behind (``EmailView.weight``).
    """
    offset = min(offset, MAX_OFFSET)
    rows = await conn.fetch(_sql.list_page, inbox_id, archived, read, limit, offset, max_weight)
    if not rows:
        return EmailPage([], 0)
    if rows[0][1] is None:  # the total comes even with an empty page
        return EmailPage([], rows[0][0])
    return EmailPage([EmailView._make(row[1:]) for row in rows], rows[0][0])


async def show(
    conn: Connection, inbox_id: UUID, email_ids: Sequence[UUID], *, max_weight: int = ANY_WEIGHT
) -> list[EmailView]:
    """The emails of an inbox that have these ids, oldest first."""
    return [EmailView._make(row) for row in await conn.fetch(_sql.show, inbox_id, email_ids, max_weight)]


async def source(conn: Connection, inbox_id: UUID, email_id: UUID) -> EmailSource | None:
    """Where the bytes of an email are; None if the inbox has no such email."""
    row = await conn.fetchrow(_sql.source, inbox_id, email_id)
    return None if row is None else EmailSource._make(row)


async def raw_piece(conn: Connection, message_row: UUID, offset: int, length: int) -> bytes:
    """``length`` octets of a message from ``offset`` on; fewer at its end, none when it is gone."""
    piece: bytes | None = await conn.fetchval(_sql.raw_piece, message_row, offset, length)
    return piece or b""


async def recipients(conn: Connection, email_id: UUID) -> list[RecipientState]:
    """What became of a sent mail's recipients."""
    rows = await conn.fetch(_sql.recipients, email_id)
    return [RecipientState(row[0], State(row[1]), *row[2:]) for row in rows]


async def set_flags(
    conn: Connection, inbox_id: UUID, email_id: UUID, *, is_read: bool | None = None, is_archived: bool | None = None
) -> Flags | None:
    """Sets what is not None and returns how the email stands now; None if the inbox has no such email."""
    row = await conn.fetchrow(_sql.set_flags, inbox_id, email_id, is_read, is_archived)
    return None if row is None else Flags._make(row)


async def delete(conn: Connection, inbox_id: UUID, email_ids: Sequence[UUID]) -> int:
    """Removes emails inside the caller's transaction; returns how many of them the inbox had.

    Their threads shrink or go, their bytes go back to the quota, and a message goes with its last holder, unless a
    delivery still carries it: a mail that was sent is not unsent. One transaction takes one inbox only, and messages
    are locked in one order: so no two removals wait for each other in a ring.
    """
    await conn.execute(_sql.lock_counts, inbox_id)
    rows = await conn.fetch(_sql.delete_emails, inbox_id, email_ids)
    if not rows:
        return 0
    await add_usage(conn, {inbox_id: _given_back(rows)})
    for thread_id, emails in Counter(row["thread_id"] for row in rows).items():
        await conn.execute(_sql.delete_empty_thread, thread_id)
        await conn.execute(_sql.shrink_thread, thread_id, emails, SNIPPET_CHARACTERS)
    for message_row in sorted({row["message_id"] for row in rows}):
        await drop_unreferenced(conn, message_row)
    return len(rows)


def _given_back(rows: Sequence[Any]) -> UsageChange:
    change = UsageChange()
    for row in rows:
        change.bytes -= row["size"]
        match row["is_archived"], row["is_read"]:
            case False, False:
                change.unread -= 1
                change.inbound_unread -= row["direction"] == "inbound"
            case False, True:
                change.read -= 1
            case True, False:
                change.archived_unread -= 1
            case _:
                change.archived_read -= 1
    return change


async def drop_unreferenced(conn: Connection, message_row: UUID) -> bool:
    """Removes a message that no inbox holds and no delivery still carries, with its settled deliveries.

    Returns whether it went. If only deliveries hold it, ``store.retention`` comes back for it. Runs inside the
    transaction that took a reference away.
    """
    await conn.execute(_sql.lock_message, message_row)
    await conn.execute(_sql.delete_settled_deliveries, message_row)
    gone: str = await conn.execute(_sql.delete_unreferenced_message, message_row)
    if gone == "DELETE 1":
        return True
    await conn.execute(_sql.leave_over, message_row)
    return False


async def list_threads(conn: Connection, inbox_id: UUID, *, before: UUID | None, limit: int) -> list[ThreadView]:
    """``limit`` threads, newest first, whose newest email is older than ``before``."""
    return [ThreadView._make(row) for row in await conn.fetch(_sql.list_threads, inbox_id, before, limit)]


async def thread(conn: Connection, inbox_id: UUID, thread_id: UUID) -> ThreadView | None:
    """One thread; None if the inbox has no such thread."""
    row = await conn.fetchrow(_sql.thread, inbox_id, thread_id)
    return None if row is None else ThreadView._make(row)


async def emails_of_thread(
    conn: Connection, inbox_id: UUID, thread_id: UUID, *, after: UUID | None, limit: int
) -> list[UUID]:
    """Ids of ``limit`` emails of a thread, oldest first, that are newer than ``after``."""
    return [row[0] for row in await conn.fetch(_sql.emails_of_thread, inbox_id, thread_id, after, limit)]
