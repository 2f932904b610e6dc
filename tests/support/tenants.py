"""A tenant to test with: an organisation, a verified domain and an inbox, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from clawmail.base.ids import new_id
from clawmail.model.tenancy import Domain, Inbox, Principal
from clawmail.store.db import Database


@dataclass(frozen=True)
class Tenant:
    """One verified domain and one inbox on it."""

    organisation_id: UUID
    domain: Domain
    inbox: Inbox

    @property
    def principal(self) -> Principal:
        """The caller who holds the inbox's key."""
        return Principal(
            kind="inbox",
            key_id=new_id(),
            organisation_id=self.organisation_id,
            domain_id=self.domain.id,
            domain_name=self.domain.name,
            inbox_id=self.inbox.id,
            address=self.inbox.address,
        )


async def add_inbox(
    db: Database, domain: Domain, local_part: str, *, quota: int = 524_288_000, is_catch_all: bool = False
) -> Inbox:
    """Inserts an inbox row of ``domain``."""
    inbox = Inbox(
        new_id(),
        domain.organisation_id,
        domain.id,
        local_part,
        f"{local_part}@{domain.name}",
        is_catch_all,
        quota,
        datetime.now(UTC),
    )
    async with db.transaction() as conn:
        await conn.execute(
            "INSERT INTO inboxes (id, organisation_id, domain_id, local_part, address, is_catch_all,"
            " storage_quota_bytes, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            inbox.id,
            inbox.organisation_id,
            inbox.domain_id,
            inbox.local_part,
            inbox.address,
            inbox.is_catch_all,
            inbox.storage_quota_bytes,
            inbox.created_at,
        )
        await conn.execute("INSERT INTO inbox_usage (inbox_id) VALUES ($1)", inbox.id)
    return inbox


async def add_tenant(db: Database, name: str = "example.test", local_part: str = "agent") -> Tenant:
    """Inserts an organisation, a verified domain ``name`` and the inbox ``local_part`` on it."""
    organisation_id, domain_id, now = new_id(), new_id(), datetime.now(UTC)
    async with db.transaction() as conn:
        await conn.execute(
            "INSERT INTO organisations (id, name, created_at) VALUES ($1, $2, $3)", organisation_id, name, now
        )
        await conn.execute(
            "INSERT INTO domains (id, organisation_id, name, state, verification_value, trusted, created_at,"
            " verified_at) VALUES ($1, $2, $3, 'verified', 'clawmail-verify=test', true, $4, $4)",
            domain_id,
            organisation_id,
            name,
            now,
        )
    domain = Domain(domain_id, organisation_id, name, "verified", "clawmail-verify=test", True, now, now, None)
    return Tenant(organisation_id, domain, await add_inbox(db, domain, local_part))
