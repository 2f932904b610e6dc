"""What senders have still to be told: a mark on the delivery, set with its state and cleared with the notice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from clawmail.model.delivery import Notice, ReplyBy
from clawmail.store.db import Connection
from clawmail.store.queries import load

_sql = load("notices")


@dataclass(frozen=True, slots=True)
class Due:
    """One message and one inbox with a notice of one kind."""

    message_id: UUID
    inbox_id: UUID
    notice: Notice


@dataclass(frozen=True, slots=True)
class Told:
    """One delivery that a notice tells of."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    email_id: UUID | None
    envelope_from: str
    recipient: str
    state: str
    attempts: int
    last_reply: str | None
    #: None: the words are ours, no host said them.
    last_reply_by: ReplyBy | None
    last_host: str | None
    last_attempt_at: datetime | None
    next_attempt_at: datetime
    created_at: datetime
    prefix: bytes
    options: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Original:
    """What a notice is about, and who gets it."""

    raw: bytes
    received_at: datetime
    #: of the inbox.
    address: str


async def due(conn: Connection) -> Due | None:
    """A message whose sender has to be told something, locked until the end of the transaction."""
    row = await conn.fetchrow(_sql.due)
    return None if row is None else Due(row["message_id"], row["inbox_id"], row["notice"])


async def take(conn: Connection, what: Due) -> list[Told]:
    """The deliveries concerned; their marks are cleared."""
    rows = await conn.fetch(_sql.take, what.message_id, what.inbox_id, what.notice)
    plain = Told.__slots__[:-1]
    return [Told(**{name: row[name] for name in plain}, options=msgspec.json.decode(row["options"])) for row in rows]


async def original(conn: Connection, what: Due) -> Original | None:
    """The message and the address; None if the inbox was removed."""
    row = await conn.fetchrow(_sql.original, what.message_id, what.inbox_id)
    return None if row is None else Original(row["raw"], row["received_at"], row["address"])
