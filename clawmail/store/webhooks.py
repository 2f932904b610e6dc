"""Webhooks as their owners see them: made, listed, changed, removed; and what became of each event."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from clawmail.model.tenancy import Principal
from clawmail.model.webhooks import Webhook, WebhookDelivery, WebhookState
from clawmail.protocol.address import folded
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("webhooks")


async def key_is_revoked(conn: Connection, key_id: UUID) -> bool:
    """Whether a key was revoked; if it was not, it stays good until the caller's transaction ends."""
    return bool(await conn.fetchval(_sql.hold_key, key_id))


async def find_inbox(conn: Connection, address: str, domain_id: UUID) -> UUID | None:
    """The id of a live inbox of a domain, which is not deleted before the caller's transaction ends."""
    found: UUID | None = await conn.fetchval(_sql.inbox, folded(address), domain_id)
    return found


async def count(conn: Connection, domain_id: UUID, inbox_id: UUID | None) -> int:
    """How many endpoints listen to an inbox, or to a domain as a whole."""
    return int(await conn.fetchval(_sql.count, domain_id, inbox_id))


async def add(conn: Connection, webhook: Webhook, key_id: UUID) -> None:
    """Adds an endpoint. ``key_id``: the key that chose its address."""
    await conn.execute(
        _sql.add,
        webhook.id,
        webhook.organisation_id,
        webhook.domain_id,
        webhook.inbox_id,
        key_id,
        webhook.url,
        webhook.event_types,
        webhook.secret_sealed,
        webhook.created_at,
    )


async def of_owner(conn: Connection, owner: Principal, webhook_id: UUID | None = None) -> list[Webhook]:
    """The endpoints that a caller may see, or the one of them with that id, oldest first."""
    rows = await conn.fetch(_sql.of_owner, owner.domain_id, owner.inbox_id, webhook_id)
    return [Webhook(**row) for row in rows]


async def change(
    conn: Connection,
    webhook_id: UUID,
    key_id: UUID,
    now: datetime,
    *,
    url: str | None,
    event_types: Sequence[str] | None,
    active: bool | None,
) -> None:
    """Sets what is not None; ``key_id``: whose word it is."""
    await conn.execute(_sql.change, webhook_id, url, key_id, event_types, active, now)
    await conn.execute(_sql.wake)


async def rotate(conn: Connection, webhook_id: UUID, secret_sealed: bytes, old_until: datetime) -> None:
    """Sets a new secret; the one before signs beside it until then."""
    await conn.execute(_sql.rotate, webhook_id, secret_sealed, old_until)


async def remove(conn: Connection, webhook_id: UUID, now: datetime) -> None:
    """Takes an endpoint out of service; upkeep empties it."""
    await conn.execute(_sql.remove, webhook_id, now)


async def deliveries(conn: Connection, webhook_id: UUID, *, before: UUID | None, limit: int) -> list[WebhookDelivery]:
    """``limit`` events of an endpoint, newest first, from before the event ``before``; at most 101."""
    return [_delivery(row) for row in await conn.fetch(_sql.deliveries, webhook_id, before, limit)]


async def retry(conn: Connection, webhook_id: UUID, event_id: UUID, now: datetime) -> WebhookDelivery | None:
    """Tells an endpoint of an event once more, from the beginning of its schedule; None if it was never told of it."""
    row = await conn.fetchrow(_sql.retry, webhook_id, event_id, now)
    await conn.execute(_sql.wake)
    return None if row is None else _delivery(row)


def _delivery(row: Sequence[object]) -> WebhookDelivery:
    found = WebhookDelivery._make(row)
    return found._replace(state=WebhookState(found.state))
