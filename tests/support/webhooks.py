"""Webhooks and events as rows, for tests of what waits between them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from clawmail.base.ids import new_id
from clawmail.model.events import Event, EventType
from clawmail.model.webhooks import ClaimedWebhook, Webhook
from clawmail.store import events, webhook_queue, webhooks
from clawmail.store.db import Connection, Database
from tests.support.tenants import Tenant

LEASE = timedelta(seconds=60)


async def add_webhook(
    db: Database, tenant: Tenant, *, of_inbox: bool = True, event_types: Sequence[str] = (), key_id: UUID | None = None
) -> UUID:
    """An endpoint of the tenant's inbox, or of its domain."""
    webhook = Webhook(
        id=new_id(),
        organisation_id=tenant.organisation_id,
        domain_id=tenant.domain.id,
        inbox_id=tenant.inbox.id if of_inbox else None,
        inbox=None,
        url="https://sink.test/hook",
        event_types=list(event_types),
        secret_sealed=b"sealed",
        old_secret_sealed=None,
        old_secret_until=None,
        failures=0,
        failing_since=None,
        resting_until=None,
        dropped=0,
        disabled_at=None,
        disabled_reason=None,
        created_at=datetime.now(UTC),
    )
    async with db.connection() as conn:
        await webhooks.add(conn, webhook, key_id or new_id())
    return webhook.id


def event(tenant: Tenant, kind: EventType = EventType.RECEIVED, **facts: Any) -> Event:
    """Something that happened in the tenant's inbox."""
    plain: dict[str, Any] = {"id": new_id(), "at": datetime.now(UTC), "inbox_id": tenant.inbox.id}
    return Event(organisation_id=tenant.organisation_id, domain_id=tenant.domain.id, type=kind, **{**plain, **facts})


async def happen(db: Database, tenant: Tenant, count: int = 1, kind: EventType = EventType.RECEIVED) -> list[UUID]:
    """Writes so many events; their ids."""
    made = [event(tenant, kind) for _ in range(count)]
    async with db.transaction() as conn:
        await events.append(conn, made)
    return [one.id for one in made]


async def claim(
    conn: Connection,
    owner: UUID,
    *,
    later: timedelta = timedelta(),
    limit: int = 100,
    after: UUID | None = None,
    **share: Any,
) -> list[ClaimedWebhook]:
    """What one claim brings, in the caller's transaction."""
    now = datetime.now(UTC) + later
    found = await webhook_queue.open_endpoints(conn, after or UUID(int=0), now)
    ours = [endpoint.webhook_id for endpoint in found if endpoint.ours]
    return await webhook_queue.claim(
        conn, ours, owner=owner, now=now, lease_until=now + LEASE, limit=limit, at_once=4, at_once_failing=1, **share
    )


async def rows(db: Database) -> list[Any]:
    """All that was to be told, by endpoint and event."""
    async with db.connection() as conn:
        return list(await conn.fetch("SELECT * FROM webhook_deliveries ORDER BY webhook_id, event_id"))
