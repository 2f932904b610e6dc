"""Webhooks: endpoints that owners want to be told of events at, and one event on its way to one of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from clawmail.model.events import Event


class WebhookState(enum.StrEnum):
    """How far an event got at an endpoint. A lease is not a state: what is being tried still waits.

    waiting → delivered, failed (``core.webhooks.decide``); any → waiting when the owner asks for another round.
    """

    #: it was not taken yet and will be tried again.
    WAITING = "waiting"
    #: the endpoint answered 2xx.
    DELIVERED = "delivered"
    #: given up.
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Webhook:
    """An endpoint."""

    id: UUID
    organisation_id: UUID
    domain_id: UUID
    #: None: it hears of the whole domain.
    inbox_id: UUID | None
    #: address of that inbox.
    inbox: str | None
    url: str
    #: event types it hears of; none: all.
    event_types: list[str]
    secret_sealed: bytes
    #: the secret before this one, which signs too until ``old_secret_until``.
    old_secret_sealed: bytes | None
    old_secret_until: datetime | None
    #: attempts that failed in a row.
    failures: int
    failing_since: datetime | None
    #: nothing is tried before.
    resting_until: datetime | None
    #: events given up because too many waited.
    dropped: int
    disabled_at: datetime | None
    disabled_reason: str | None
    created_at: datetime


class WebhookDelivery(NamedTuple):
    """One event at one endpoint, as its owner sees it."""

    event_id: UUID
    event_type: str
    state: WebhookState
    attempts: int
    #: when it happened, or when its owner asked for another round.
    waiting_since: datetime
    last_attempt_at: datetime | None
    #: HTTP status of the last answer; None when none came.
    last_status: int | None
    last_error: str | None
    #: None once it is settled.
    next_attempt_at: datetime | None
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class ClaimedWebhook:
    """An event for an endpoint, under this process's lease."""

    webhook_id: UUID
    #: the organisation it belongs to.
    tenant_id: UUID
    event_id: UUID
    lease_fence: int
    #: made before this one.
    attempts: int
    #: set when it was taken over from a process that died.
    old_owner: UUID | None
    url: str
    secret_sealed: bytes
    #: set while a rotated secret still signs.
    old_secret_sealed: bytes | None
    #: of its endpoint, when it was claimed.
    failures: int
    failing_since: datetime | None
    #: None when it was forgotten before it could be told.
    event: Event | None


@dataclass(frozen=True, slots=True)
class WebhookAttempt:
    """What came of one POST."""

    #: HTTP status; None when no answer came.
    status: int | None
    #: why it was not taken; "" when it was.
    problem: str
    seconds: float
    #: for how long the endpoint asked to be left alone; 0: it did not.
    retry_after_seconds: float = 0.0

    @property
    def taken(self) -> bool:
        """The endpoint has it."""
        return self.status is not None and 200 <= self.status < 300


class WebhookSettlement(NamedTuple):
    """The row that an attempt leaves."""

    webhook_id: UUID
    event_id: UUID
    lease_fence: int
    state: WebhookState
    #: None once it is settled.
    next_attempt_at: datetime | None
    status: int | None
    error: str | None


class EndpointReport(NamedTuple):
    """How an endpoint did in some attempts."""

    webhook_id: UUID
    #: in a row by now; 0: it took one.
    failures: int
    resting_until: datetime | None
    #: why it is not tried any more; None: it is.
    disabled_reason: str | None
    #: the address that was tried.
    url: str
