"""What is kept no longer: emptied inboxes, removed domains, old mail and events, messages nobody holds.

Everything here goes in batches, each its own transaction made by the caller, and finds its work through an index, so
that a large house costs no more to look through than a small one.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from clawmail.base.ids import first_id_at
from clawmail.model.tenancy import OwnRetention
from clawmail.store import mailbox
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("retention")


class OldEmail(NamedTuple):
    """An email and whose it is."""

    id: UUID
    inbox_id: UUID


class RemovedDomain(NamedTuple):
    """A domain and whose it was."""

    id: UUID
    organisation_id: UUID


class Old(NamedTuple):
    """What counts as old, and whose."""

    moment: datetime
    #: None: all domains.
    domain_id: UUID | None = None


class Days(NamedTuple):
    """How long mail and events are kept, in days; 0: for ever."""

    #: None: all domains.
    domain_id: UUID | None
    mail: float
    events: float


async def removed_inboxes(conn: Connection, limit: int) -> list[UUID]:
    """Inboxes that were removed and are still there."""
    return [row[0] for row in await conn.fetch(_sql.removed_inboxes, limit)]


async def empty_inbox(conn: Connection, inbox_id: UUID, limit: int) -> int:
    """Deletes at most ``limit`` emails of a removed inbox; with the last of them goes the inbox. Returns how many."""
    emails = [row[0] for row in await conn.fetch(_sql.emails_of_inbox, inbox_id, limit)]
    await mailbox.delete(conn, inbox_id, emails)
    await conn.execute(_sql.delete_inbox, inbox_id)
    return len(emails)


async def removed_domains(conn: Connection, limit: int) -> list[RemovedDomain]:
    """Domains that were removed and that nothing belongs to any more."""
    return [RemovedDomain._make(row) for row in await conn.fetch(_sql.removed_domains, limit)]


async def delete_events_of_inbox(conn: Connection, inbox_id: UUID, limit: int) -> int:
    """Deletes at most ``limit`` events of an inbox. Returns how many."""
    return _count(await conn.execute(_sql.delete_events_of_inbox, inbox_id, limit))


async def delete_events_of_domain(conn: Connection, domain_id: UUID, limit: int) -> int:
    """Deletes at most ``limit`` events of a domain. Returns how many."""
    return _count(await conn.execute(_sql.delete_events_of_domain, domain_id, limit))


async def delete_webhook_deliveries_of_inbox(conn: Connection, inbox_id: UUID, limit: int) -> int:
    """Deletes at most ``limit`` rows of what an inbox's webhooks were to be told. Returns how many."""
    return _count(await conn.execute(_sql.delete_webhook_deliveries_of_inbox, inbox_id, limit))


async def delete_webhook_deliveries_of_domain(conn: Connection, domain_id: UUID, limit: int) -> int:
    """Deletes at most ``limit`` rows of what a domain's webhooks were to be told. Returns how many."""
    return _count(await conn.execute(_sql.delete_webhook_deliveries_of_domain, domain_id, limit))


async def delete_deliveries_of_domain(conn: Connection, domain_id: UUID, limit: int) -> int:
    """Deletes at most ``limit`` ended deliveries of a domain, and messages nothing else holds. Returns how many."""
    messages = [row[0] for row in await conn.fetch(_sql.delete_deliveries_of_domain, domain_id, limit)]
    for message in sorted(set(messages)):
        await mailbox.drop_unreferenced(conn, message)
    return len(messages)


async def delete_domain(conn: Connection, domain: RemovedDomain) -> None:
    """Deletes a domain's last rows, and its organisation if that was its only domain."""
    await conn.execute(_sql.delete_domain, domain.id)
    await conn.execute(_sql.delete_organisation, domain.organisation_id)


async def emails_before(conn: Connection, old: Old, limit: int) -> list[OldEmail]:
    """The oldest emails, of all domains or one."""
    before = first_id_at(old.moment)
    if old.domain_id is None:
        rows = await conn.fetch(_sql.emails_before, before, limit)
    else:
        rows = await conn.fetch(_sql.emails_of_domain_before, old.domain_id, before, limit)
    return [OldEmail._make(row) for row in rows]


async def delete_events_before(conn: Connection, old: Old, limit: int) -> int:
    """Deletes at most ``limit`` old events, oldest first. Returns how many."""
    before = first_id_at(old.moment)
    if old.domain_id is None:
        return _count(await conn.execute(_sql.delete_events_before, before, limit))
    return _count(await conn.execute(_sql.delete_events_of_domain_before, old.domain_id, before, limit))


async def delete_ended_deliveries(conn: Connection, old: Old, limit: int) -> int:
    """Deletes forwards and bounces that ended long ago, and messages that nothing else holds. Returns how many."""
    if old.domain_id is None:
        rows = await conn.fetch(_sql.delete_ended_deliveries, old.moment, limit)
    else:
        rows = await conn.fetch(_sql.delete_ended_deliveries_of_domain, old.domain_id, old.moment, limit)
    for message in sorted({row[0] for row in rows}):
        await mailbox.drop_unreferenced(conn, message)
    return len(rows)


async def days(conn: Connection, *, mail: float, events: float) -> list[Days]:
    """How long mail and events are kept: one line for all while the settings hold for all, else one a domain.

    ``mail`` and ``events`` are what the settings say.
    """
    if not await conn.fetchval(_sql.some_domain_has_its_own):
        return [Days(None, mail, events)]
    return [Days._make(row) for row in await conn.fetch(_sql.days_of_domains, mail, events)]


async def own(conn: Connection, domain_id: UUID) -> OwnRetention:
    """What was set for a domain."""
    row = await conn.fetchrow(_sql.of_domain, domain_id)
    return OwnRetention._make(row) if row else OwnRetention(None, None, None)


async def set_own(conn: Connection, domain_id: UUID, wanted: OwnRetention) -> None:
    """Sets it for a domain."""
    if wanted == (None, None, None):
        await conn.execute(_sql.delete_of_domain, domain_id)
    else:
        await conn.execute(_sql.set_of_domain, domain_id, *wanted)


async def delete_expired_suppressions(conn: Connection, moment: datetime, limit: int) -> int:
    """Deletes at most ``limit`` suppressions that were over before ``moment``. Returns how many."""
    return _count(await conn.execute(_sql.delete_expired_suppressions, moment, limit))


async def leftovers(conn: Connection, after: UUID, limit: int) -> list[UUID]:
    """Messages that only deliveries held when they were last looked at, from behind the id ``after``."""
    return [row[0] for row in await conn.fetch(_sql.leftovers, after, limit)]


def _count(tag: str) -> int:
    """The number of rows in PostgreSQL's ``DELETE 17``."""
    return int(tag.rpartition(" ")[2])
