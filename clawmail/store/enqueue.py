"""New deliveries: written with the message they carry, and the suppression list asked in the same statement.

So a suppression that was committed before the mail was accepted is honoured, whichever process wrote it, and mail that
arrives together asks the list once.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from uuid import UUID

import msgspec

from clawmail.model.delivery import NewDelivery, State
from clawmail.model.events import Event, EventType
from clawmail.protocol.address import folded_abroad
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("enqueue")
_json = msgspec.json.Encoder()


async def enqueue(conn: Connection, deliveries: Sequence[tuple[UUID, NewDelivery]]) -> set[UUID]:
    """Writes deliveries, each beside the id of its message, and wakes the queue once the caller's transaction commits.

    Returns the ids of those that are settled from the start, because their domain must not send to that address.
    """
    if not deliveries:
        return set()
    rows = await conn.fetch(
        _sql.insert,
        [d.id for _, d in deliveries],
        [d.organisation_id for _, d in deliveries],
        [d.domain_id for _, d in deliveries],
        [d.inbox_id for _, d in deliveries],
        [d.email_id for _, d in deliveries],
        [d.rule_id for _, d in deliveries],
        [message_id for message_id, _ in deliveries],
        [d.prefix for _, d in deliveries],
        [d.kind for _, d in deliveries],
        [d.envelope_from for _, d in deliveries],
        [d.recipient for _, d in deliveries],
        [d.destination for _, d in deliveries],
        [d.state.value for _, d in deliveries],
        [d.next_attempt_at for _, d in deliveries],
        [_json.encode(d.options).decode() for _, d in deliveries],
        [d.created_at for _, d in deliveries],
        [folded_abroad(d.recipient) for _, d in deliveries],
    )
    suppressed = {row["id"] for row in rows}
    if any(d.state is State.QUEUED and d.id not in suppressed for _, d in deliveries):
        await conn.execute(_sql.wake)
    return suppressed


def as_it_is(event: Event, suppressed: Container[UUID]) -> Event:
    """``event`` of a delivery as it went: one that was not queued was not accepted either."""
    if event.delivery_id is None or event.delivery_id not in suppressed:
        return event
    return replace(event, type=EventType.SUPPRESSED, detail={"reason": "the address is on the suppression list"})
