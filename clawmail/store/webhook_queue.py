"""What webhooks have to be told: claimed under a lease, settled, given up, forgotten.

The promise is that of the outbound queue (``store.deliveries``): a claim commits before any work begins, and whoever
writes a result names owner and fence. What a dead process held is due again at the end of its lease, by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from clawmail.model.events import Event, EventType
from clawmail.model.mailbox import EmailView
from clawmail.model.webhooks import ClaimedWebhook, EndpointReport, WebhookSettlement
from clawmail.store.db import Connection
from clawmail.store.queries import load

#: endpoints that one look walks past, as its SQL says.
WALK_STEPS = 64

_sql = load("webhook_queue")
_KNOWN = [kind.value for kind in EventType]
_EVENT = tuple(name for name in Event.__slots__ if name not in ("type", "detail"))


class OpenEndpoint(NamedTuple):
    """An endpoint for which something waits."""

    webhook_id: UUID
    #: it may be told something now, and is locked by this transaction.
    ours: bool
    #: when there is something to do; None: not before somebody enables it.
    due: datetime | None


async def open_endpoints(conn: Connection, after: UUID, now: datetime) -> list[OpenEndpoint]:
    """The next endpoints behind ``after`` for which something waits; fewer than ``WALK_STEPS``: those were the last.

    Those that are ours stay locked until the end of the caller's transaction.
    """
    return [OpenEndpoint._make(row) for row in await conn.fetch(_sql.open_endpoints, after, now)]


async def claim(
    conn: Connection,
    endpoints: Sequence[UUID],
    *,
    owner: UUID,
    now: datetime,
    lease_until: datetime,
    limit: int,
    at_once: int,
    at_once_failing: int,
    under_way: Sequence[UUID] = (),
    of_one_tenant: int = 1000,
) -> list[ClaimedWebhook]:
    """Claims at most ``limit`` events for endpoints that this transaction has locked, of each in turn.

    ``at_once``: how many may be under way at one endpoint, ``at_once_failing`` while it fails. ``under_way``: the
    organisations of what the caller has under way already, each as often; ``of_one_tenant``: how many of one may be.
    """
    rows = await conn.fetch(
        _sql.claim,
        owner,
        now,
        lease_until,
        limit,
        list(endpoints),
        at_once,
        at_once_failing,
        list(under_way),
        of_one_tenant,
        _KNOWN,
    )
    return [_claimed(row) for row in rows]


def _claimed(row: Any) -> ClaimedWebhook:
    return ClaimedWebhook(
        webhook_id=row["webhook_id"],
        tenant_id=row["tenant_id"],
        event_id=row["event_id"],
        lease_fence=row["lease_fence"],
        attempts=row["attempts"],
        old_owner=row["old_owner"],
        url=row["url"],
        secret_sealed=row["secret_sealed"],
        old_secret_sealed=row["old_secret_sealed"],
        failures=row["failures"],
        failing_since=row["failing_since"],
        event=None if row["id"] is None else _event(row),
    )


def _event(row: Any) -> Event:
    facts = {name: row[name] for name in _EVENT}
    return Event(**facts, type=EventType(row["type"]), detail=msgspec.json.decode(row["detail"]))


async def emails(conn: Connection, ids: Sequence[UUID]) -> dict[UUID, EmailView]:
    """Emails as they are listed, without their texts."""
    views = [EmailView._make(row) for row in await conn.fetch(_sql.emails, list(ids))]
    return {view.id: view for view in views}


async def settle(
    conn: Connection,
    owner: UUID,
    now: datetime,
    results: Sequence[WebhookSettlement],
    reports: Sequence[EndpointReport],
) -> set[tuple[UUID, UUID]]:
    """Writes ``results`` and how endpoints did, in the caller's transaction.

    Returns (webhook, event) of those whose lease still held.
    """
    if reports:
        await conn.execute(_sql.observe, now, *(list(column) for column in zip(*reports, strict=True)))
    rows = await conn.fetch(_sql.settle, owner, now, *(list(column) for column in zip(*results, strict=True)))
    return {(row["webhook_id"], row["event_id"]) for row in rows}


async def release(conn: Connection, owner: UUID, now: datetime, those: Sequence[ClaimedWebhook]) -> None:
    """Gives back what was claimed and not tried."""
    await conn.execute(
        _sql.release,
        owner,
        now,
        [one.webhook_id for one in those],
        [one.event_id for one in those],
        [one.lease_fence for one in those],
    )


async def waiting(conn: Connection) -> dict[UUID, int]:
    """How much waits for each endpoint."""
    return {row["webhook_id"]: row["rows"] for row in await conn.fetch(_sql.waiting)}


async def drop(conn: Connection, webhook_id: UUID, limit: int, kept: int) -> int:
    """Gives up at most ``limit`` events that wait for an endpoint beyond ``kept``, in the caller's transaction.

    They are counted there. Returns how many.
    """
    await conn.execute(_sql.hold, webhook_id)
    return int(await conn.fetchval(_sql.drop, webhook_id, limit, kept))


async def expire(conn: Connection, before: datetime, now: datetime, limit: int) -> int:
    """Gives up at most ``limit`` events that have waited since ``before``. Returns how many."""
    return _count(await conn.execute(_sql.expire, before, now, limit))


async def forget(conn: Connection, before: datetime, limit: int) -> int:
    """Deletes at most ``limit`` deliveries that were settled before that moment. Returns how many."""
    return _count(await conn.execute(_sql.forget, before, limit))


async def removed(conn: Connection, before: datetime, limit: int) -> list[UUID]:
    """Endpoints that were removed before that moment and are still there."""
    return [row["id"] for row in await conn.fetch(_sql.removed, before, limit)]


async def empty(conn: Connection, webhook_id: UUID, limit: int) -> int:
    """Deletes at most ``limit`` deliveries of a removed endpoint; with the last goes the endpoint. Returns how many."""
    emptied = _count(await conn.execute(_sql.empty, webhook_id, limit))
    await conn.execute(_sql.delete, webhook_id)
    return emptied


def _count(tag: str) -> int:
    """The number of rows in PostgreSQL's ``UPDATE 17``."""
    return int(tag.rpartition(" ")[2])
