"""What is remembered of strangers at the door: greylisting, and the senders that tenants allow or block."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from clawmail.model.senders import SenderRule
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("strangers")


async def knock(conn: Connection, triplet: bytes, now: datetime, *, forget_before: datetime) -> tuple[datetime, bool]:
    """Notes a triplet. Returns when it was first seen and whether it has passed.

    One that never passed and was first seen before ``forget_before`` begins anew.
    """
    row = await conn.fetchrow(_sql.knock, triplet, now, forget_before)
    return row["first_seen_at"], row["passed"]


async def let_pass(conn: Connection, triplet: bytes, network: str, now: datetime) -> None:
    """A triplet has waited long enough: that counts for its network, once."""
    if await conn.fetchval(_sql.pass_triplet, triplet) is not None:
        await conn.execute(_sql.count_pass, network, now)


async def passes(conn: Connection, network: str, now: datetime) -> int:
    """How often mail of a network came back after waiting."""
    return await conn.fetchval(_sql.passes, network, now) or 0


async def sweep(conn: Connection, *, waiting_before: datetime, seen_before: datetime) -> None:
    """Forgets what never came back (last seen before ``waiting_before``), and what was not seen for long."""
    await conn.execute(_sql.sweep_triplets, waiting_before, seen_before)
    await conn.execute(_sql.sweep_networks, seen_before)


async def sender_rules(conn: Connection, domain_id: UUID, *, limit: int) -> list[SenderRule]:
    """What a domain and its inboxes say about senders, at most ``limit`` rules, oldest first."""
    return [SenderRule(**row) for row in await conn.fetch(_sql.sender_rules, domain_id, limit)]


async def add_sender_rule(conn: Connection, rule: SenderRule) -> SenderRule:
    """Adds a rule, or changes the verdict of the one about the same sender; returns what is there now."""
    row = await conn.fetchrow(
        _sql.add_sender_rule,
        rule.id,
        rule.organisation_id,
        rule.domain_id,
        rule.inbox_id,
        rule.verdict,
        rule.sender,
        rule.created_at,
    )
    return SenderRule(**row)


async def remove_sender_rule(conn: Connection, rule_id: UUID, domain_id: UUID) -> bool:
    """Removes a domain's rule; False if there is none of that id."""
    return await conn.fetchval(_sql.remove_sender_rule, rule_id, domain_id) is not None
