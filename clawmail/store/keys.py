"""Bearer keys as rows: found by prefix, revoked for good, used up once.

Whoever changes a key tells the other processes in the same transaction, because they remember keys they have verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from clawmail.model.accounts import InboxKey
from clawmail.model.tenancy import AccessKey, KeyKind, Principal
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("keys")

#: channel on which processes are told to forget a key; the payload is its id, or its domain's.
CHANNEL = "keys"
#: keys of one prefix that are looked at; prefixes have at least 24 random bits.
MAX_CANDIDATES = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A live key that begins like the one shown."""

    principal: Principal
    #: argon2id.
    secret_hash: str
    #: its domain is verified, not pending.
    verified: bool


async def candidates(conn: Connection, prefix: str, kinds: Sequence[KeyKind], now: datetime) -> list[Candidate]:
    """Live keys of these kinds with that prefix, newest first."""
    found = []
    for row in await conn.fetch(_sql.candidates, prefix, list(kinds), now, MAX_CANDIDATES):
        facts = dict(row)
        secret_hash, verified = facts.pop("secret_hash"), facts.pop("verified")
        found.append(Candidate(Principal(**facts), secret_hash, verified))
    return found


async def add(conn: Connection, key: AccessKey) -> None:
    """Adds a key."""
    await conn.execute(
        _sql.add,
        key.id,
        key.organisation_id,
        key.domain_id,
        key.inbox_id,
        key.kind,
        key.prefix,
        key.secret_hash,
        key.label,
        key.created_at,
        key.expires_at,
    )


async def use_up(conn: Connection, key_id: UUID, now: datetime) -> bool:
    """Uses a creation key; False if it has been used, revoked, or is too old."""
    return await conn.fetchval(_sql.use_up, key_id, now) is not None


async def drop_tokens(conn: Connection, domain_id: UUID) -> None:
    """Deletes the tokens of a domain that is registered anew."""
    await conn.execute(_sql.drop_tokens, domain_id)
    await changed(conn, domain_id)


async def forget_creation_keys(conn: Connection, before: datetime, at_most: int) -> int:
    """Deletes creation keys that expired before that moment; returns how many."""
    status: str = await conn.execute(_sql.forget_creation_keys, before, at_most)
    return int(status.rpartition(" ")[2])


async def revocable(
    conn: Connection, domain_id: UUID | None, kind: KeyKind, key_id: UUID | None, prefix: str, now: datetime
) -> list[UUID]:
    """Ids of live keys of a domain (None: of any) by id or prefix, locked; two at most."""
    rows = await conn.fetch(_sql.revocable, domain_id, kind, key_id, prefix, now)
    return [row["id"] for row in rows]


async def revoke(conn: Connection, key_id: UUID, now: datetime) -> None:
    """Revokes one key."""
    await conn.execute(_sql.revoke, key_id, now)
    await changed(conn, key_id)


async def inbox_keys(conn: Connection, domain_id: UUID, inbox_id: UUID | None = None) -> list[InboxKey]:
    """The inbox keys of a domain, or of one of its inboxes, oldest first; revoked ones too."""
    return [InboxKey(**row) for row in await conn.fetch(_sql.inbox_keys, domain_id, inbox_id)]


async def were_used(conn: Connection, used: Mapping[UUID, datetime]) -> None:
    """Notes when keys were last used."""
    # In the order of ids, so that two processes that write at the same time do not wait for each other in a circle.
    ids = sorted(used)
    await conn.execute(_sql.were_used, ids, [used[key_id] for key_id in ids])


async def changed(conn: Connection, key_or_domain_id: UUID) -> None:
    """Makes every process forget a key, or a domain's keys, once the caller's transaction commits."""
    await conn.execute(_sql.changed, str(key_or_domain_id))
