"""Mail on its way out as rows: the message, its deliveries, their events, and the answer for a repeated request.

Pure functions from what ``core.submit`` has made ready to what the writer commits in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from clawmail.base.ids import new_id
from clawmail.core.described import described
from clawmail.core.recipients import Recipients, one_mailbox
from clawmail.model.delivery import NewDelivery, State
from clawmail.model.events import Event, EventType
from clawmail.model.mail import IdempotentAnswer, Message
from clawmail.model.outgoing import Idempotency, Sent
from clawmail.model.tenancy import Domain, Principal
from clawmail.protocol.mime.parse import ParsedMessage

#: makes the envelope sender of a delivery (its id) of a domain (its name); ``outbound.proof.Proofs.return_path``.
ReturnPaths = Callable[[UUID, str], str]


@dataclass(frozen=True, slots=True)
class Ready:
    """A message that only has to be written."""

    domain: Domain
    #: signed.
    raw: bytes
    recipients: Recipients
    created_at: datetime
    send_at: datetime | None
    #: the thread it joins, and the email it answers.
    thread_id: UUID | None = None
    answers: UUID | None = None
    #: of every delivery: DSN wishes and transport needs.
    options: dict[str, Any] | None = None
    #: of one delivery more: its recipient's address to NOTIFY and ORCPT (RFC 3461).
    wishes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def message_of(ready: Ready, principal: Principal, parsed: ParsedMessage) -> Message:
    """The message as it is kept. ``parsed``: read back from its own bytes, as every other message is."""
    author = parsed.from_ or one_mailbox(principal.address or "")
    return Message(
        id=new_id(),
        raw=ready.raw,
        trace=b"",
        rfc_message_id=parsed.message_id,
        in_reply_to=parsed.in_reply_to,
        reference_ids=parsed.references,
        subject=parsed.subject or "",
        from_address=author.address,
        from_name=author.name,
        envelope_from=principal.address or "",
        sender_warning=None,
        to_addresses=tuple(box.address for box in parsed.to),
        cc_addresses=tuple(box.address for box in parsed.cc),
        bcc_addresses=tuple(box.address for box in ready.recipients.bcc),
        reply_to=tuple(box.address for box in parsed.reply_to),
        body_text=parsed.text,
        body_html=parsed.html,
        attachments=described(parsed),
        authentication=None,
        received_at=ready.created_at,
    )


def deliveries_of(
    ready: Ready, principal: Principal, email_id: UUID, return_path: ReturnPaths | None = None
) -> tuple[NewDelivery, ...]:
    """One delivery for each recipient; the store settles those that the domain must not write to from the start.

    ``return_path`` makes the envelope sender of each; without it, that is the inbox.
    """
    named = [(new_id(), address) for address in ready.recipients.addresses]
    return tuple(
        NewDelivery(
            id=delivery_id,
            organisation_id=principal.organisation_id,
            domain_id=principal.domain_id,
            inbox_id=principal.inbox_id,
            email_id=email_id,
            rule_id=None,
            kind="send",
            envelope_from=return_path(delivery_id, ready.domain.name) if return_path else principal.address or "",
            recipient=str(address),
            destination=address.domain,
            state=State.QUEUED,
            next_attempt_at=ready.send_at or ready.created_at,
            created_at=ready.created_at,
            options={**(ready.options or {}), **ready.wishes.get(str(address), {})},
        )
        for delivery_id, address in named
    )


def event_of(delivery: NewDelivery) -> Event:
    """What is told of a delivery when it is written down."""
    return Event(
        id=new_id(),
        organisation_id=delivery.organisation_id,
        domain_id=delivery.domain_id,
        type=EventType.ACCEPTED,
        at=delivery.created_at,
        inbox_id=delivery.inbox_id,
        email_id=delivery.email_id,
        delivery_id=delivery.id,
        recipient=delivery.recipient,
    )


def kept_answer(inbox_id: UUID, idempotency: Idempotency | None, sent: Sent) -> IdempotentAnswer | None:
    """The answer to keep for a request that may be repeated; None for one that carries no key."""
    if idempotency is None:
        return None
    return IdempotentAnswer(
        inbox_id,
        idempotency.route,
        idempotency.key,
        idempotency.claim,
        idempotency.status,
        idempotency.encode(sent),
    )
