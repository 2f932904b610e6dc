"""What the calls about webhooks take and answer, and what a webhook is sent, as types."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from clawmail.api.native.journal import EventAnswer, shown
from clawmail.api.native.mail_answers import EmailAnswer, Moment
from clawmail.api.native.mail_shapes import email as listed_email
from clawmail.api.native.times import seconds_or_none, whole_seconds
from clawmail.core.webhooks.endpoints import NewSecret
from clawmail.model.events import Event
from clawmail.model.mailbox import EmailView
from clawmail.model.webhooks import Webhook, WebhookAttempt, WebhookDelivery

#: octets of a body; an email that makes it longer (it was addressed to thousands) is not in it.
MAX_TOLD_OCTETS = 64 * 1024

_encode = msgspec.json.Encoder().encode


def _about(text: str) -> Meta:
    return Meta(description=text)


Address = Annotated[str, Meta(max_length=4096, description="https address that events are posted to")]
Events = Annotated[list[str], _about("Event types to be told of; none: all"), Meta(max_length=50)]


class CreateWebhook(Struct, frozen=True):
    """Asks for events to be told of."""

    url: Address
    events: Events = []
    inbox: Annotated[str, _about("With a domain token: one inbox's address, instead of the whole domain")] | None = None


class ChangeWebhook(Struct, frozen=True):
    """What is to be different; what is missing stays."""

    url: Address | None = None
    events: Events | None = None
    is_active: (
        Annotated[bool, _about("false: nothing more is told; true: again, and its failures are forgotten")] | None
    ) = None


class WebhookInfo(Struct, frozen=True):
    """A webhook."""

    id: UUID
    url: str
    #: none: all.
    events: list[str]
    #: address of its inbox; null: the whole domain.
    inbox: str | None
    is_active: bool
    disabled_reason: str | None
    #: attempts that failed in a row.
    failures: int
    failing_since: Moment | None
    #: events given up because too many waited.
    dropped: int
    created_at: Moment

    @classmethod
    def of(cls, webhook: Webhook) -> WebhookInfo:
        """The shape of an endpoint."""
        return cls(*_facts(webhook))


class WebhookWithSecret(WebhookInfo, frozen=True, kw_only=True):
    """A webhook and its secret, shown once."""

    secret: Annotated[str, _about("whsec_ and base64: the key of its signatures")]

    @classmethod
    def made(cls, new: NewSecret) -> WebhookWithSecret:
        """The shape of a new endpoint, or of a new secret of one."""
        return cls(*_facts(new.webhook), secret=new.secret)


class WebhookList(Struct, frozen=True):
    """Webhooks, oldest first."""

    webhooks: list[WebhookInfo]


class WebhookTest(Struct, frozen=True):
    """What an endpoint answered to a test."""

    ok: bool
    #: HTTP status; null: no answer came.
    status: int | None
    error: str | None
    seconds: float

    @classmethod
    def of(cls, attempt: WebhookAttempt) -> WebhookTest:
        """The shape of an attempt."""
        return cls(attempt.taken, attempt.status, attempt.problem or None, round(attempt.seconds, 3))


class WebhookDeliveryInfo(Struct, frozen=True):
    """How far one event got at a webhook."""

    #: of the event; every attempt carries it as webhook-id.
    id: UUID
    type: str
    #: waiting, delivered, failed.
    state: str
    attempts: int
    last_attempt_at: Moment | None
    #: HTTP status of the last answer; null: none came.
    last_status: int | None
    last_error: str | None
    #: null once it is settled.
    next_attempt_at: Moment | None
    settled_at: Moment | None

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> WebhookDeliveryInfo:
        """The shape of a listed delivery."""
        return cls(
            delivery.event_id,
            delivery.event_type,
            delivery.state.value,
            delivery.attempts,
            seconds_or_none(delivery.last_attempt_at),
            delivery.last_status,
            delivery.last_error,
            seconds_or_none(delivery.next_attempt_at),
            seconds_or_none(delivery.settled_at),
        )


class WebhookDeliveryList(Struct, frozen=True):
    """A page of a webhook's events, newest first."""

    deliveries: list[WebhookDeliveryInfo]
    next_cursor: str | None


class ToldEmail(EmailAnswer, frozen=True, kw_only=True):
    """A received email as it is listed, without its texts."""

    #: where the whole of it is.
    path: str


class ToldEvent(EventAnswer, frozen=True, kw_only=True):
    """What a webhook is sent: the event as it is listed, and the email that came."""

    #: null where the event is about no email that came, it is deleted by now, or a list would say too much of it.
    email: ToldEmail | None


def told(event: Event, view: EmailView | None) -> bytes:
    """The body of a POST that tells of ``event``."""
    listed = shown(event)
    facts = [getattr(listed, name) for name in EventAnswer.__struct_fields__]
    body = _encode(ToldEvent(*facts, email=None if view is None else _told_email(view)))
    return body if len(body) <= MAX_TOLD_OCTETS else _encode(ToldEvent(*facts, email=None))


def _told_email(view: EmailView) -> ToldEmail:
    email = listed_email(view, with_bodies=False)
    facts = (getattr(email, name) for name in EmailAnswer.__struct_fields__)
    return ToldEmail(*facts, path=f"/api/v1/emails/{email.id}")


def _facts(webhook: Webhook) -> tuple[Any, ...]:
    """In the order of ``WebhookInfo``."""
    return (
        webhook.id,
        webhook.url,
        webhook.event_types,
        webhook.inbox,
        webhook.disabled_at is None,
        webhook.disabled_reason,
        webhook.failures,
        seconds_or_none(webhook.failing_since),
        webhook.dropped,
        whole_seconds(webhook.created_at),
    )
