"""The mailbox: what the owner of an inbox sees, and what he may do with it.

Reading one email marks it read, as opening a letter does, unless the caller only peeks. Deleting is final at once and
gives the bytes back to the quota; it does not unsend what is on its way. An id that is not this inbox's is not found,
whoever else may own it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, NoReturn
from uuid import UUID

from clawmail.base.errors import NotFound
from clawmail.core.cursors import Cursors
from clawmail.core.sources import Sources
from clawmail.model.mailbox import EmailPage, EmailSource, EmailView, Flags, RecipientState, ThreadView
from clawmail.store import mailbox as store
from clawmail.store.db import Database

#: how much the texts of one email may weigh (``EmailView.weight``) to come along in a list; heavier ones are fetched
#: one by one, so that a page of a hundred large emails does not have to fit into memory.
LISTED_WEIGHT = 64 * 1024


@dataclass(frozen=True, slots=True)
class OpenedEmail:
    """One email with all that is known of it."""

    view: EmailView
    source: EmailSource
    #: every header field, ours on top: name as written, value decoded.
    headers: tuple[tuple[str, str], ...]
    #: of sent mail.
    recipients: tuple[RecipientState, ...]


class ThreadPage(NamedTuple):
    """Some threads, newest first."""

    threads: list[ThreadView]
    #: None on the last page.
    next_cursor: str | None


class Conversation(NamedTuple):
    """A thread and some of its emails, oldest first."""

    thread: ThreadView
    emails: list[EmailView]
    #: None on the last page.
    next_cursor: str | None


class Mailbox:
    """Reads and changes inboxes for their owners."""

    def __init__(self, db: Database, sources: Sources, cursors: Cursors) -> None:
        self._db = db
        self._sources = sources
        self._cursors = cursors

    async def list(self, inbox_id: UUID, *, archived: bool, read: bool | None, page: int, limit: int) -> EmailPage:
        """Page number ``page`` (from 1) of ``limit`` emails, newest first, and the total; ``read`` None takes both.

        Texts over ``LISTED_WEIGHT`` are left out; ``whole`` has them.
        """
        async with self._db.connection() as conn:
            return await store.list_page(
                conn,
                inbox_id,
                archived=archived,
                read=read,
                limit=limit,
                offset=(page - 1) * limit,
                max_weight=LISTED_WEIGHT,
            )

    async def whole(self, inbox_id: UUID, email_id: UUID) -> EmailView | None:
        """One email as it is listed, whatever it weighs; None when it is gone."""
        async with self._db.connection() as conn:
            views = await store.show(conn, inbox_id, [email_id])
        return views[0] if views else None

    async def open(self, inbox_id: UUID, email_id: UUID, *, peek: bool) -> OpenedEmail:
        """One email, which becomes read unless the caller peeks. Raises NotFound."""
        async with self._db.connection() as conn:
            views = await store.show(conn, inbox_id, [email_id])
            source = await store.source(conn, inbox_id, email_id)
            if not views or source is None:
                _not_found()
            view = views[0]
            headers = await self._sources.headers(conn, source)
            recipients = await store.recipients(conn, email_id) if view.direction == "outbound" else []
            if not peek and not view.is_read:
                await store.set_flags(conn, inbox_id, email_id, is_read=True)
                view = view._replace(is_read=True)
        return OpenedEmail(view, source, headers, tuple(recipients))

    async def change(
        self, inbox_id: UUID, email_id: UUID, *, is_read: bool | None = None, is_archived: bool | None = None
    ) -> Flags:
        """Marks an email; None leaves a mark alone. Returns both marks. Raises NotFound."""
        async with self._db.connection() as conn:
            flags = await store.set_flags(conn, inbox_id, email_id, is_read=is_read, is_archived=is_archived)
        return flags if flags is not None else _not_found()

    async def delete(self, inbox_id: UUID, email_id: UUID) -> None:
        """Removes an email for good. Raises NotFound."""
        async with self._db.transaction() as conn:
            if not await store.delete(conn, inbox_id, [email_id]):
                _not_found()

    async def threads(self, inbox_id: UUID, *, cursor: str | None, limit: int) -> ThreadPage:
        """Conversations, the one with the newest email first. Raises Invalid for a cursor that is none of ours."""
        before = self._cursors.read("threads", inbox_id, cursor)
        async with self._db.connection() as conn:
            threads = await store.list_threads(conn, inbox_id, before=before, limit=limit + 1)
        if len(threads) <= limit:
            return ThreadPage(threads, None)
        threads.pop()
        return ThreadPage(threads, self._cursors.write("threads", inbox_id, threads[-1].last_email_id))

    async def thread(self, inbox_id: UUID, thread_id: UUID, *, cursor: str | None, limit: int) -> Conversation:
        """One conversation, oldest email first. Raises NotFound, or Invalid for a cursor that is none of ours."""
        after = self._cursors.read("thread", thread_id, cursor)
        async with self._db.connection() as conn:
            thread = await store.thread(conn, inbox_id, thread_id)
            if thread is None:
                raise NotFound("Thread not found")
            ids = await store.emails_of_thread(conn, inbox_id, thread_id, after=after, limit=limit + 1)
            emails = await store.show(conn, inbox_id, ids[:limit], max_weight=LISTED_WEIGHT)
        more = self._cursors.write("thread", thread_id, ids[limit - 1]) if len(ids) > limit else None
        return Conversation(thread, emails, more)


def _not_found() -> NoReturn:
    raise NotFound("Email not found")
