"""Retention: the house forgets what it was told to forget.

What an owner deletes is gone at once; what was removed as a whole (an inbox, a domain) is out of sight at once and
emptied here, bit by bit. Mail and events go when their days are over, and a message goes when the last inbox and the
last delivery have let go of it. All of it is upkeep: in small transactions, cut off at any point and resumed later.
After each it rests for as long as that took, so that the mail of others finds the disk free.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from clawmail.base.log import logger
from clawmail.core.upkeep import Chore
from clawmail.model.tenancy import OwnRetention
from clawmail.store import destinations, mailbox, policies, retention
from clawmail.store.db import Connection, Database
from clawmail.store.retention import Days, Old

#: emails deleted in one transaction, during which their inbox takes no new mail.
EMAILS_AT_ONCE = 25
#: rows of other kinds deleted in one transaction.
ROWS_AT_ONCE = 1000
#: removed inboxes and domains looked at in one turn.
PLACES_AT_ONCE = 100

#: destinations that nobody wrote to for so long are forgotten.
HOSTS_AGE = timedelta(days=30)
#: counts for TLS reports; a report tells of one day (RFC 8460 section 4.1), and may be asked for again.
TLS_RESULTS_AGE = timedelta(days=35)
#: suppressions that are over, and soft bounces too few for one, are remembered so long.
SUPPRESSIONS_AGE = timedelta(days=30)

T = TypeVar("T")

_FIRST_ID = UUID(int=0)

log = logger("retention")


class Retention:
    """Removes what is kept no longer."""

    def __init__(self, db: Database, *, mail_days: float, event_days: float) -> None:
        """``mail_days``, ``event_days``: how long each is kept where a domain has no word of its own; 0: for ever."""
        self._db = db
        self._mail_days = mail_days
        self._event_days = event_days

    def chores(self, clock: Callable[[], datetime], *, every_seconds: float) -> list[Chore]:
        """All of it, as periodic work."""
        return [
            Chore("empty what was removed", every_seconds, self.empty_removed),
            Chore("forget mail", every_seconds, lambda: self.forget_mail(clock())),
            Chore("forget events", every_seconds, lambda: self.forget_events(clock())),
            Chore("forget hosts", every_seconds, lambda: self.forget_hosts(clock())),
            Chore("drop leftovers", every_seconds, self.drop_leftovers),
        ]

    async def empty_removed(self) -> int:
        """Empties removed inboxes and deletes removed domains that are empty. Returns how many emails went."""
        async with self._db.connection() as conn:
            inboxes = await retention.removed_inboxes(conn, PLACES_AT_ONCE)
        emails = 0
        for inbox_id in inboxes:
            await self._in_batches(retention.delete_webhook_deliveries_of_inbox, inbox_id)
            emptied = EMAILS_AT_ONCE
            while emptied == EMAILS_AT_ONCE:
                async with self._portion() as conn:
                    emptied = await retention.empty_inbox(conn, inbox_id, EMAILS_AT_ONCE)
                emails += emptied
            await self._in_batches(retention.delete_events_of_inbox, inbox_id)
        async with self._db.connection() as conn:
            domains = await retention.removed_domains(conn, PLACES_AT_ONCE)
        for domain in domains:
            await self._in_batches(retention.delete_webhook_deliveries_of_domain, domain.id)
            await self._in_batches(retention.delete_events_of_domain, domain.id)
            await self._in_batches(retention.delete_deliveries_of_domain, domain.id)
            async with self._db.transaction() as conn:
                await retention.delete_domain(conn, domain)
        if inboxes or domains:
            log.info("removed", inboxes=len(inboxes), domains=len(domains), emails=emails)
        return emails

    async def forget_mail(self, now: datetime) -> int:
        """Deletes mail older than its domain, or ``mail_days``, wants it kept. Returns how many emails went."""
        return sum([await self._forget_mail(old) for old in await self._old(now, lambda days: days.mail)])

    async def forget_events(self, now: datetime) -> int:
        """Deletes old events, and ended forwards and bounces, in the same way. Returns how many rows went."""
        total = 0
        for old in await self._old(now, lambda days: days.events):
            total += await self._in_batches(retention.delete_events_before, old)
            total += await self._in_batches(retention.delete_ended_deliveries, old)
        return total

    async def set_own(self, domain_id: UUID, wanted: OwnRetention) -> None:
        """Keeps what is a domain's for as long as ``wanted`` says, whatever the settings say for the others."""
        async with self._db.transaction() as conn:
            await retention.set_own(conn, domain_id, wanted)

    async def own(self, domain_id: UUID) -> OwnRetention:
        """What was set for a domain."""
        async with self._db.connection() as conn:
            return await retention.own(conn, domain_id)

    async def _old(self, now: datetime, age: Callable[[Days], float]) -> list[Old]:
        """What is old now, of everybody at once or domain by domain; nothing of those who keep it for ever."""
        async with self._db.connection() as conn:
            rules = await retention.days(conn, mail=self._mail_days, events=self._event_days)
        return [Old(now - timedelta(days=age(rule)), rule.domain_id) for rule in rules if age(rule)]

    async def _forget_mail(self, old: Old) -> int:
        total = 0
        while True:
            async with self._db.connection() as conn:
                emails = await retention.emails_before(conn, old, EMAILS_AT_ONCE)
            for inbox_id in {email.inbox_id for email in emails}:
                async with self._portion() as conn:
                    total += await mailbox.delete(conn, inbox_id, [e.id for e in emails if e.inbox_id == inbox_id])
            if len(emails) < EMAILS_AT_ONCE:
                return total

    async def forget_hosts(self, now: datetime) -> int:
        """Deletes what was learnt of other hosts and is out of date: who failed, what they publish, how TLS went.

        Returns how many suppressions went.
        """
        async with self._db.connection() as conn:
            await destinations.forget_old(conn, now - HOSTS_AGE)
            await policies.forget_old(conn, now, (now - TLS_RESULTS_AGE).date())
        return await self._in_batches(retention.delete_expired_suppressions, now - SUPPRESSIONS_AGE)

    async def drop_leftovers(self) -> int:
        """Deletes messages whose owners deleted them while they were on their way and that have arrived since."""
        dropped, after = 0, _FIRST_ID
        while True:
            async with self._db.connection() as conn:
                messages = await retention.leftovers(conn, after, ROWS_AT_ONCE)
            for message in messages:
                async with self._db.transaction() as conn:
                    dropped += await mailbox.drop_unreferenced(conn, message)
            if len(messages) < ROWS_AT_ONCE:
                return dropped
            after = messages[-1]

    async def _in_batches(self, delete: Callable[[Connection, T, int], Awaitable[int]], of: T) -> int:
        """Deletes ``ROWS_AT_ONCE`` rows a transaction until there are no more. Returns how many went."""
        total, gone = 0, ROWS_AT_ONCE
        while gone == ROWS_AT_ONCE:
            async with self._portion() as conn:
                gone = await delete(conn, of, ROWS_AT_ONCE)
            total += gone
        return total

    @contextlib.asynccontextmanager
    async def _portion(self) -> AsyncIterator[Connection]:
        """One small transaction, and a rest as long as it took."""
        clock = asyncio.get_running_loop()
        began = clock.time()
        async with self._db.transaction() as conn:
            yield conn
        await asyncio.sleep(clock.time() - began)
