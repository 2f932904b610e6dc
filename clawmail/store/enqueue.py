"""New deliveries: written with the message they carry, and the suppression list asked in the same statement.

So a suppression that was committed before the mail was accepted is honoured, whichever process wrote it, and mail that
arrives together asks the list once.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from clawmail.model.delivery import NewDelivery
from clawmail.model.events import Event
from clawmail.protocol.address import folded_abroad
from clawmail.store.db import Connection
from clawmail.store.events import event_columns
from clawmail.store.queries import load

_sql = load("enqueue")
_json = msgspec.json.Encoder()


async def enqueue(conn: Connection, deliveries: Sequence[tuple[UUID, NewDelivery]], events: Sequence[Event]) -> None:
    """Writes deliveries, each beside the id of its message, and the ``events`` that tell of them.

    A delivery that its domain must not send is settled from the start, and told so. The queue is woken once the
    caller's transaction commits.
    """
    await conn.execute(
        _sql.enqueue,
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
        *event_columns(events),
    )
