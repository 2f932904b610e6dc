"""The journal: what happened to mail, and which addresses are no longer written to.

Events come in the order of their ids, oldest first. The owner of an inbox sees that inbox's; the owner of a domain sees
all of the domain's and may lift a suppression.

Who keeps asking hands in what the last page gave him as ``after``. Ids are made before they are committed, by several
processes, so an event may appear later than one with a greater id. Therefore no page gives an ``after`` below which
one could still appear (``store.events.settled``): half a minute before now, or before the oldest transaction in flight.
What is younger is shown again the next time, and none is missed, however long it took.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from clawmail.base.errors import NotFound
from clawmail.core.cursors import Cursors
from clawmail.model.events import Event
from clawmail.model.tenancy import Principal
from clawmail.store import events as event_store
from clawmail.store import mailbox as mailbox_store
from clawmail.store import suppressions as suppression_store
from clawmail.store.db import Database
from clawmail.store.suppressions import Suppression


class EventPage(NamedTuple):
    """Some events, oldest first."""

    events: list[Event]
    #: None when there are no more for now.
    next_cursor: str | None


class JournalPage(NamedTuple):
    """Some events of an inbox or a domain, oldest first."""

    events: list[Event]
    #: None when there are no more for now.
    next_cursor: str | None
    #: behind which to look the next time: no event that is not on this page or an earlier one has a smaller id.
    after: UUID


class SuppressionPage(NamedTuple):
    """Some suppressed addresses, newest first."""

    suppressions: list[Suppression]
    #: None on the last page.
    next_cursor: str | None


class Journal:
    """Reads events and suppressions."""

    def __init__(self, db: Database, cursors: Cursors) -> None:
        self._db = db
        self._cursors = cursors

    async def of_email(self, inbox_id: UUID, email_id: UUID, *, cursor: str | None, limit: int) -> EventPage:
        """What happened to one email. Raises NotFound, or Invalid for a cursor that is none of ours."""
        after = self._cursors.read("events of an email", email_id, cursor)
        async with self._db.connection() as conn:
            if await mailbox_store.source(conn, inbox_id, email_id) is None:
                raise NotFound("Email not found")
            found = await event_store.list_events(conn, email_id=email_id, after=after, limit=limit + 1)
        return self._page(found, limit, "events of an email", email_id)

    async def of_caller(self, caller: Principal, *, cursor: str | None, after: UUID | None, limit: int) -> JournalPage:
        """What happened in the caller's inbox or domain, from behind ``cursor``, else ``after``, else the beginning.

        ``after`` may be any id. Raises Invalid for a cursor that is none of ours.
        """
        owner = caller.inbox_id or caller.domain_id
        walked = self._cursors.read_all("events", owner, cursor)
        begin = walked[0] if walked else after
        async with self._db.connection() as conn:
            # In this order: what is in flight when we ask appears behind the id, or is on the page. And as it was when
            # the walk began: its first pages do not show what was in flight then.
            settled = min([await event_store.settled(conn), *walked[1:]])
            if caller.inbox_id is not None:
                found = await event_store.list_events(conn, inbox_id=owner, after=begin, limit=limit + 1)
            else:
                found = await event_store.list_events(conn, domain_id=owner, after=begin, limit=limit + 1)
        page = self._page(found, limit, "events", owner, settled)
        # Nobody is sent back behind where he asked from; but a cursor may have led him past what is not settled yet.
        latest = max(settled, after or settled)
        last = page.events[-1].id if page.events else begin
        return JournalPage(*page, after=latest if last is None else min(last, latest))

    async def suppressions(self, domain_id: UUID, now: datetime, *, cursor: str | None, limit: int) -> SuppressionPage:
        """Addresses the domain is not to write to now. Raises Invalid for a cursor that is none of ours."""
        after = self._cursors.read("suppressions", domain_id, cursor)
        async with self._db.connection() as conn:
            found = await suppression_store.page(conn, domain_id, now, after=after, limit=limit + 1)
        if len(found) <= limit:
            return SuppressionPage(found, None)
        return SuppressionPage(found[:limit], self._cursors.write("suppressions", domain_id, found[limit - 1].id))

    async def forgive(self, domain_id: UUID, address: str) -> None:
        """Lets the domain write to ``address`` again. Raises NotFound if it is not suppressed."""
        async with self._db.connection() as conn:
            if not await suppression_store.delete(conn, domain_id, address):
                raise NotFound("This address is not suppressed")

    def _page(self, found: list[Event], limit: int, name: str, owner: UUID, *known: UUID) -> EventPage:
        if len(found) <= limit:
            return EventPage(found, None)
        return EventPage(found[:limit], self._cursors.write(name, owner, found[limit - 1].id, *known))
