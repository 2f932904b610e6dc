"""What the mail path looks up: domains, inboxes, rules and signing keys by the names that stand in an envelope."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from clawmail.model.tenancy import DkimKey, Domain, ForwardingRule, Inbox
from clawmail.protocol.address import folded
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("directory")

#: channel on which a process tells the others that a domain has changed; the payload is its name.
CHANNEL = "directory"


async def domain(conn: Connection, name: str, now: datetime) -> Domain | None:
    """The live domain of that name (lower case, A-labels), pending or verified."""
    row = await conn.fetchrow(_sql.domain, name, now)
    return Domain(**row) if row else None


async def inbox(conn: Connection, address: str) -> Inbox | None:
    """The live inbox of that address, compared without case."""
    row = await conn.fetchrow(_sql.inbox, folded(address))
    return Inbox(**row) if row else None


async def rules(conn: Connection, domain_id: UUID) -> list[ForwardingRule]:
    """A domain's active forwarding rules, oldest first."""
    return [ForwardingRule(**row) for row in await conn.fetch(_sql.rules, domain_id)]


async def active_keys(conn: Connection, domain_id: UUID) -> list[DkimKey]:
    """The keys a domain signs with, RSA first."""
    return [DkimKey(**row) for row in await conn.fetch(_sql.active_keys, domain_id)]


async def add_catch_all(
    conn: Connection, inbox_id: UUID, domain: Domain, local_part: str, quota_bytes: int, now: datetime
) -> None:
    """Adds a domain's catch-all unless an inbox of that address is there, or the domain is gone."""
    local_part = local_part if local_part.isascii() else folded(local_part)
    address = f"{local_part}@{domain.name}"
    await conn.execute(
        _sql.add_catch_all, inbox_id, domain.organisation_id, domain.id, local_part, address, quota_bytes, now
    )
    await conn.execute(_sql.add_usage_row, inbox_id)


async def used_bytes(conn: Connection, inbox_id: UUID) -> int:
    """How full an inbox is, in bytes."""
    return await conn.fetchval(_sql.used_bytes, inbox_id) or 0


async def changed(conn: Connection, domain_name: str) -> None:
    """Makes every process forget what it knew of a domain, once the caller's transaction commits."""
    await conn.execute(_sql.changed, domain_name)
