"""What a tenant owns beside mail: domains with their signing keys, inboxes, forwarding rules.

What is removed is marked and leaves every look-up at once; its mail is emptied by upkeep, in small steps.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from clawmail.model.accounts import InboxOverview
from clawmail.model.tenancy import DkimKey, Domain, ForwardingRule, Inbox
from clawmail.protocol.address import folded
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("accounts")


async def lock_name(conn: Connection, name: str) -> None:
    """Makes others who register the same name wait for the caller's transaction."""
    await conn.execute(_sql.lock_name, name)


async def domain_for_update(conn: Connection, name: str) -> Domain | None:
    """The live domain of that name, pending time over or not; locked until the transaction ends."""
    row = await conn.fetchrow(_sql.domain_for_update, name)
    return Domain(**row) if row else None


async def domain_by_id(conn: Connection, domain_id: UUID) -> Domain | None:
    """A live domain, pending time over or not."""
    row = await conn.fetchrow(_sql.domain_by_id, domain_id)
    return Domain(**row) if row else None


async def domains(conn: Connection, now: datetime) -> list[Domain]:
    """Every live domain of the installation, by name."""
    return [Domain(**row) for row in await conn.fetch(_sql.domains, now)]


async def add_pending(conn: Connection, domain: Domain) -> None:
    """Adds a pending domain and the tenant it belongs to. Raises Conflict if a live domain of that name is there."""
    await conn.execute(_sql.add_organisation, domain.organisation_id, domain.name, domain.created_at)
    await conn.execute(
        _sql.add_domain,
        domain.id,
        domain.organisation_id,
        domain.name,
        domain.verification_value,
        domain.pending_until,
        domain.created_at,
    )


async def renew_pending(conn: Connection, domain: Domain) -> None:
    """Gives a pending domain its new verification value and time."""
    await conn.execute(_sql.renew_pending, domain.id, domain.verification_value, domain.pending_until)


async def verify_domain(conn: Connection, domain_id: UUID, *, trusted: bool, now: datetime) -> None:
    """Turns a pending domain into a verified one."""
    await conn.execute(_sql.verify_domain, domain_id, trusted, now)


async def remove_domain(conn: Connection, domain_id: UUID, now: datetime) -> bool:
    """Takes a domain with its inboxes, keys and rules out of every look-up; False if it was gone already."""
    # A statement sees what was there when it began: one that had to wait for an inbox being added would not see it.
    if not await lock_domain(conn, domain_id):
        return False
    return bool(await conn.fetchval(_sql.remove_domain, domain_id, now))


async def forget_expired(conn: Connection, now: datetime, at_most: int) -> int:
    """Deletes registrations whose time is over; returns how many."""
    expired = await conn.fetch(_sql.forget_expired, now, at_most)
    await conn.execute(_sql.delete_domains, [row["id"] for row in expired])
    await conn.execute(_sql.delete_organisations, [row["organisation_id"] for row in expired])
    return len(expired)


async def dkim_keys(conn: Connection, domain_id: UUID) -> list[DkimKey]:
    """All signing keys a domain ever had, newest first."""
    return [DkimKey(**row) for row in await conn.fetch(_sql.dkim_keys, domain_id)]


async def add_dkim_key(conn: Connection, key: DkimKey) -> None:
    """Adds a signing key as it is."""
    await conn.execute(
        _sql.add_dkim_key,
        key.id,
        key.domain_id,
        key.selector,
        key.algorithm,
        key.private_sealed,
        key.public_record,
        key.state,
        key.created_at,
    )


async def activate_key(conn: Connection, key: DkimKey, now: datetime) -> None:
    """Lets a waiting key sign from now on; the one before it retires."""
    await conn.execute(_sql.retire_active_key, key.domain_id, key.algorithm, now)
    await conn.execute(_sql.activate_key, key.id, now)


async def waiting_keys(conn: Connection, at_most: int) -> list[tuple[str, DkimKey]]:
    """Domain name and key of those whose record has not been seen yet."""
    rows = [dict(row) for row in await conn.fetch(_sql.waiting_keys, at_most)]
    return [(row.pop("domain_name"), DkimKey(**row)) for row in rows]


async def inbox_for_share(conn: Connection, address: str) -> Inbox | None:
    """The live inbox of an address, compared without case; it stays until the transaction ends."""
    row = await conn.fetchrow(_sql.inbox_for_share, folded(address))
    return Inbox(**row) if row else None


async def add_inbox(conn: Connection, inbox: Inbox) -> bool:
    """Adds an inbox with empty counts; False if a live one of that address is there."""
    added = await conn.fetchval(
        _sql.add_inbox,
        inbox.id,
        inbox.organisation_id,
        inbox.domain_id,
        inbox.local_part,
        inbox.address,
        inbox.is_catch_all,
        inbox.storage_quota_bytes,
        inbox.created_at,
    )
    if added is not None:
        await conn.execute(_sql.add_usage, inbox.id)
    return added is not None


async def inboxes(conn: Connection, domain_id: UUID) -> list[InboxOverview]:
    """The inboxes of a domain, oldest first."""
    return [InboxOverview(**row) for row in await conn.fetch(_sql.inboxes, domain_id)]


async def set_quota(conn: Connection, address: str, domain_id: UUID, quota_bytes: int) -> bool:
    """Sets how much an inbox may hold; False if the domain has none of that address."""
    return await conn.fetchval(_sql.set_quota, folded(address), domain_id, quota_bytes) is not None


async def remove_inbox(conn: Connection, address: str, domain_id: UUID, now: datetime) -> bool:
    """Takes an inbox and its keys out of every look-up; False if the domain has none of that address."""
    return await conn.fetchval(_sql.remove_inbox, folded(address), domain_id, now) is not None


async def rules(conn: Connection, domain_id: UUID) -> list[ForwardingRule]:
    """The forwarding rules of a domain, oldest first."""
    return [ForwardingRule(**row) for row in await conn.fetch(_sql.rules, domain_id)]


async def lock_domain(conn: Connection, domain_id: UUID) -> bool:
    """Makes what is added to a domain wait for the caller's transaction; False if the domain is gone."""
    return await conn.fetchval(_sql.lock_domain, domain_id) is not None


async def count_rules(conn: Connection, domain_id: UUID) -> int:
    """How many rules a domain has."""
    number: int = await conn.fetchval(_sql.count_rules, domain_id)
    return number


async def add_rule(conn: Connection, rule: ForwardingRule) -> None:
    """Adds a forwarding rule."""
    await conn.execute(
        _sql.add_rule,
        rule.id,
        rule.organisation_id,
        rule.domain_id,
        rule.match_field,
        rule.regex_pattern,
        rule.destination_email,
        rule.created_at,
    )


async def delete_rule(conn: Connection, rule_id: UUID, domain_id: UUID) -> bool:
    """Deletes a rule; False if the domain has none of that id."""
    return await conn.fetchval(_sql.delete_rule, rule_id, domain_id) is not None
