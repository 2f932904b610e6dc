"""Events and suppressed addresses of ``/api/v1``."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from msgspec import Struct

from clawmail.api.native.addressing import id_in, inbox_of
from clawmail.api.native.mail_answers import Moment
from clawmail.api.native.mail_requests import CursorQuery, EventsQuery
from clawmail.api.native.times import seconds_or_none, whole_seconds
from clawmail.api.routing import Call, Route
from clawmail.model.events import Event


class EventAnswer(Struct, frozen=True):
    """One thing that happened."""

    id: UUID
    #: accepted, attempted, deferred, delivered, bounced, suppressed, complained, received.
    type: str
    email_id: UUID | None
    recipient: str | None
    at: Moment
    #: facts: the host, its reply, TLS, seconds.
    detail: dict[str, Any]


class EventListAnswer(Struct, frozen=True):
    """A page of events, oldest first."""

    events: list[EventAnswer]
    next_cursor: str | None


class JournalAnswer(Struct, frozen=True):
    """A page of events of an inbox or a domain, oldest first."""

    events: list[EventAnswer]
    next_cursor: str | None
    #: what to ask with the next time, to miss no event.
    after: UUID


class SuppressionAnswer(Struct, frozen=True):
    """An address that is not written to."""

    address: str
    #: hard bounce, soft bounces, complaint, manual.
    reason: str
    detail: str
    created_at: Moment
    #: null: until it is removed.
    expires_at: Moment | None


class SuppressionListAnswer(Struct, frozen=True):
    """A page of suppressed addresses, newest first."""

    suppressions: list[SuppressionAnswer]
    next_cursor: str | None


def shown(event: Event) -> EventAnswer:
    """An event as every answer and every webhook has it."""
    return EventAnswer(
        event.id, event.type.value, event.email_id, event.recipient, whole_seconds(event.at), event.detail or {}
    )


def _shown(events: list[Event]) -> list[EventAnswer]:
    return [shown(event) for event in events]


async def email_events(call: Call) -> EventListAnswer:
    """What happened to one email."""
    query: CursorQuery = call.query
    journal = call.services.journal
    page = await journal.of_email(inbox_of(call), id_in(call), cursor=query.cursor, limit=query.limit)
    return EventListAnswer(_shown(page.events), page.next_cursor)


async def list_events(call: Call) -> JournalAnswer:
    """What happened in the inbox, or in all of the domain."""
    query: EventsQuery = call.query
    page = await call.services.journal.of_caller(
        call.principal, cursor=query.cursor, after=query.after, limit=query.limit
    )
    return JournalAnswer(_shown(page.events), page.next_cursor, page.after)


async def list_suppressions(call: Call) -> SuppressionListAnswer:
    """Addresses the domain does not write to."""
    query: CursorQuery = call.query
    page = await call.services.journal.suppressions(
        call.principal.domain_id, call.now, cursor=query.cursor, limit=query.limit
    )
    shown = [
        SuppressionAnswer(s.address, s.reason, s.detail, whole_seconds(s.created_at), seconds_or_none(s.expires_at))
        for s in page.suppressions
    ]
    return SuppressionListAnswer(shown, page.next_cursor)


async def delete_suppression(call: Call) -> None:
    """Lets the domain write to an address again."""
    await call.services.journal.forgive(call.principal.domain_id, call.path["address"])


ROUTES = (
    Route(
        "GET", "/api/v1/emails/{id}/events", email_events, "What happened to an email, oldest first",
        auth="inbox", limiter="read", query=CursorQuery, answer=EventListAnswer,
    ),
    Route(
        "GET", "/api/v1/events", list_events, "What happened in the inbox or domain, oldest first",
        auth="inbox or domain", limiter="read", query=EventsQuery, answer=JournalAnswer,
    ),
    Route(
        "GET", "/api/v1/suppressions", list_suppressions, "List suppressed addresses, newest first",
        auth="domain", limiter="domain", query=CursorQuery, answer=SuppressionListAnswer,
    ),
    Route(
        "DELETE", "/api/v1/suppressions/{address}", delete_suppression, "Let an address be written to again",
        auth="domain", limiter="domain", status=204,
    ),
)  # fmt: skip
