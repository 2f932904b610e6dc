"""Deliveries found by what comes back about them, and moved when they came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from clawmail.model.delivery import Kind, State
from clawmail.model.events import EventType
from clawmail.model.mail import message_key
from clawmail.protocol.address import folded, folded_abroad
from clawmail.store.db import Connection
from clawmail.store.queries import load

#: deliveries of one message that are looked at.
MAX_DELIVERIES = 1_000

_sql = load("feedback")


@dataclass(frozen=True, slots=True)
class Returned:
    """A delivery that something came back for."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    inbox_id: UUID | None
    email_id: UUID | None
    rule_id: UUID | None
    kind: Kind
    recipient: str
    destination: str
    state: State
    #: the MX that gave the last reply.
    last_host: str | None
    #: nobody else got what this delivery was found by.
    alone: bool


async def of_messages(conn: Connection, inboxes: Sequence[UUID], message_ids: Sequence[str]) -> list[Returned]:
    """Deliveries of what ``inboxes`` sent under these Message-IDs (with their angle brackets)."""
    keys = [message_key(one) for one in message_ids]
    return _returned(await conn.fetch(_sql.of_messages, inboxes, keys, MAX_DELIVERIES))


async def of_email(conn: Connection, email_id: UUID) -> list[Returned]:
    """Deliveries of one email."""
    return _returned(await conn.fetch(_sql.of_email, email_id, MAX_DELIVERIES))


async def of_id(conn: Connection, delivery_id: UUID) -> list[Returned]:
    """One delivery, if it is still there."""
    return _returned(await conn.fetch(_sql.of_id, delivery_id))


async def of_forwards(conn: Connection, domain_id: UUID, sender: str, recipients: Sequence[str]) -> list[Returned]:
    """Forwards of a domain with the rewritten ``sender`` to ``recipients``."""
    wanted = [folded_abroad(recipient) for recipient in recipients]
    return _returned(await conn.fetch(_sql.of_forwards, sender, wanted, domain_id))


async def sender_of(conn: Connection, delivery_id: UUID, domain_id: UUID) -> str | None:
    """The address of the inbox that sent a delivery of this domain; None if either is gone."""
    found: str | None = await conn.fetchval(_sql.sender_of, delivery_id, domain_id)
    return found


async def inbox_of_sender(conn: Connection, domain_id: UUID, address: str) -> UUID | None:
    """The inbox of a domain with this address."""
    found: UUID | None = await conn.fetchval(_sql.inbox_of_sender, folded(address), domain_id)
    return found


async def come_back(conn: Connection, delivery_id: UUID, reply: str, now: datetime) -> bool:
    """Moves a delivered delivery to bounced; False if it was not delivered (any more)."""
    return await conn.fetchval(_sql.come_back, delivery_id, reply, now) is not None


async def told(conn: Connection, delivery: Returned, kind: EventType, *, proved: bool = False) -> bool:
    """Whether an event of this kind tells of a delivery of an email; ``proved``: one that was more than a claim."""
    return await conn.fetchval(_sql.told, delivery.email_id, delivery.id, kind.value, proved) is not None


def _returned(rows: Sequence[Any]) -> list[Returned]:
    names = [name for name in Returned.__slots__ if name != "state"]
    return [Returned(state=State(row["state"]), **{name: row[name] for name in names}) for row in rows]
