"""The event vocabulary that every dialect translates from.

An event is written in the transaction that made it true, together with the state it tells of, so that lists of events,
webhooks and delivery states cannot disagree.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


class EventType(enum.StrEnum):
    """What can happen to a mail."""

    #: mail from outside was stored in an inbox.
    RECEIVED = "received"
    #: mail from an inbox was taken over for sending.
    ACCEPTED = "accepted"
    #: a host was tried for one recipient.
    ATTEMPTED = "attempted"
    #: the try failed for now.
    DEFERRED = "deferred"
    #: the recipient's host took it over.
    DELIVERED = "delivered"
    #: it will never be delivered, or came back.
    BOUNCED = "bounced"
    #: it was not tried: the address is on the suppression list.
    SUPPRESSED = "suppressed"
    #: the recipient called it spam.
    COMPLAINED = "complained"
    #: nothing happened: a webhook is tried out. Never stored.
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    type: EventType
    at: datetime
    inbox_id: UUID | None = None
    email_id: UUID | None = None
    delivery_id: UUID | None = None
    recipient: str | None = None
    #: facts as JSON values: reply, host, tls, seconds, reason, rule …
    detail: dict[str, Any] | None = None
