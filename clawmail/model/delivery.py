"""Deliveries: one message on its way to one recipient, and the one table of moves it may make.

Nothing else may move a delivery: ``store.deliveries`` checks every change of state against ``MOVES``, and the database
holds the names in a constraint. A state that is settled never moves again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from clawmail.model.events import EventType

Kind = Literal["send", "forward", "bounce"]


class State(enum.StrEnum):
    """Where a delivery stands."""

    #: waits for its first attempt.
    QUEUED = "queued"
    #: an owner is at it until the lease ends.
    LEASED = "leased"
    #: failed for now; waits for the next attempt.
    DEFERRED = "deferred"
    #: the recipient's host answered 250 after the dot.
    DELIVERED = "delivered"
    #: refused for good.
    BOUNCED = "bounced"
    #: never tried: the address is suppressed.
    SUPPRESSED = "suppressed"
    #: the retry schedule ran out.
    EXPIRED = "expired"
    #: waits for an operator.
    HELD = "held"
    #: taken out of the queue by its owner or an operator.
    CANCELLED = "cancelled"


#: the moves allowed. What is not here does not happen.
MOVES: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.LEASED, State.HELD, State.CANCELLED, State.SUPPRESSED}),
    State.DEFERRED: frozenset({State.LEASED, State.HELD, State.CANCELLED, State.SUPPRESSED, State.QUEUED}),
    State.LEASED: frozenset(
        {State.QUEUED, State.DEFERRED, State.DELIVERED, State.BOUNCED, State.EXPIRED, State.SUPPRESSED, State.LEASED}
    ),
    State.HELD: frozenset({State.QUEUED, State.CANCELLED}),
    #: a bounce may come back by mail after the peer took the message over (RFC 3464).
    State.DELIVERED: frozenset({State.BOUNCED}),
    State.BOUNCED: frozenset(),
    State.SUPPRESSED: frozenset(),
    State.EXPIRED: frozenset(),
    State.CANCELLED: frozenset(),
}


def may_move(old: State, new: State) -> bool:
    """Whether a delivery may go from ``old`` to ``new``."""
    return new in MOVES[old]


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A delivery to be queued, written in the transaction of its message."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    #: whose outbox; None for what the server itself sends.
    inbox_id: UUID | None
    #: the outbound email it belongs to; None for forwards and bounces.
    email_id: UUID | None
    #: the forwarding rule that made it.
    rule_id: UUID | None
    kind: Kind
    #: "" is the null sender.
    envelope_from: str
    recipient: str
    #: domain dialled until the MX set is known; lower case A-labels, or an address literal.
    destination: str
    #: QUEUED, HELD or SUPPRESSED.
    state: State
    next_attempt_at: datetime
    created_at: datetime
    #: fields put on top of the message for this delivery only (ARC seal, our DKIM on a rewritten From), CRLF-ended.
    prefix: bytes = b""
    #: DSN wishes and transport needs: notify, ret, envid, orcpt, require_tls, smtputf8, reason.
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery under our lease, with all that an attempt needs."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    inbox_id: UUID | None
    email_id: UUID | None
    rule_id: UUID | None
    message_id: UUID
    kind: Kind
    envelope_from: str
    recipient: str
    destination: str
    attempts: int
    created_at: datetime
    prefix: bytes
    options: dict[str, Any]
    lease_owner: UUID
    #: has to match when the result is written: a lease that was taken over no longer counts.
    lease_fence: int
    #: its sender has been told of the delay.
    delay_noticed: bool = False
    #: size of the message in bytes, without the prefix.
    raw_size: int = 0
    #: the message, unless it is large.
    raw: bytes | None = None


#: who gave a reply: a host of others, or this installation to mail within it.
ReplyBy = Literal["host", "house"]

#: what a delivery's sender has still to be told: a notice that waits to be written.
Notice = Literal["delayed", "failed", "delivered"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of an attempt, as it is written while the lease holds."""

    delivery_id: UUID
    #: fence of the claim it comes from.
    fence: int
    state: State
    #: whether it uses up one gap of the retry schedule.
    counted: bool
    #: for DEFERRED and QUEUED; None leaves it.
    next_attempt_at: datetime | None
    #: the peer's last reply, or what we have to say in its place.
    reply: str
    #: the MX that was tried last.
    host: str | None
    #: who gave the reply; None: nobody, the words are ours.
    reply_by: ReplyBy | None = None
    notice: Notice | None = None
    #: what happened, in order, with its facts.
    events: tuple[tuple[EventType, dict[str, Any]], ...] = ()
