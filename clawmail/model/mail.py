"""Messages, their copies in inboxes, and the posting: all that one accepted mail writes in one transaction.

A message's bytes and what was read out of them never change and are kept once. Every inbox that got it has its own
small row, the email. Inbound and outbound mail are written by the same code, because they are the same fact: a message,
the inboxes that hold it, the deliveries that carry it on, and the events that tell of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from clawmail.model.delivery import NewDelivery
from clawmail.model.events import Event

Direction = Literal["inbound", "outbound"]

#: how much of the newest text a thread shows.
SNIPPET_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is kept."""

    id: UUID
    #: the bytes exactly as sent.
    raw: bytes
    #: our fields on top of it: Return-Path, Received, Authentication-Results.
    trace: bytes
    #: as sent, with angle brackets; None if it had none.
    rfc_message_id: str | None
    in_reply_to: str | None
    #: oldest first.
    reference_ids: tuple[str, ...]
    subject: str
    from_address: str
    from_name: str
    #: "" is the null sender.
    envelope_from: str
    sender_warning: str | None
    to_addresses: tuple[str, ...]
    cc_addresses: tuple[str, ...]
    #: of mail sent from here only.
    bcc_addresses: tuple[str, ...]
    reply_to: tuple[str, ...]
    body_text: str | None
    body_html: str | None
    #: [{filename, content_type, size, content_id, disposition, sha256}] in the order of the parts.
    attachments: tuple[dict[str, Any], ...]
    #: the API's authentication_results; None on mail sent from here.
    authentication: dict[str, Any] | None
    received_at: datetime
    #: what was broken, and what was not looked at because a limit was reached, in words.
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """What it costs each inbox's quota, in bytes."""
        return len(self.raw)


@dataclass(frozen=True, slots=True)
class Filing:
    """One inbox's copy of a message, before its thread is known."""

    email_id: UUID
    organisation_id: UUID
    domain_id: UUID
    inbox_id: UUID
    direction: Direction
    is_read: bool
    #: the thread it has to join (a reply sent from here); None: found by In-Reply-To, References, else new.
    thread_id: UUID | None = None
    #: the thread it opens if none is found.
    new_thread_id: UUID | None = None
    #: an email of the same inbox that this one answers: it becomes read.
    answers: UUID | None = None
    #: a full inbox refuses the posting (inbound and outbound mail), or not (bounces written by the server).
    within_quota: bool = True


@dataclass(frozen=True, slots=True)
class IdempotentAnswer:
    """The answer that a repeated request gets, stored with the fact it tells of."""

    inbox_id: UUID
    route: str
    key: str
    #: on the key; nothing is written if another request has it by now.
    claim: UUID
    status: int
    answer: bytes


@dataclass(frozen=True, slots=True)
class Posting:
    """Everything one accepted mail writes, all or nothing."""

    message: Message
    filings: tuple[Filing, ...]
    deliveries: tuple[NewDelivery, ...] = ()
    events: tuple[Event, ...] = ()
    idempotent_answer: IdempotentAnswer | None = None


@dataclass(frozen=True, slots=True)
class Posted:
    """What the store made of a posting."""

    message_id: UUID
    #: email id → thread id.
    threads: dict[UUID, UUID] = field(default_factory=dict)


def message_key(rfc_message_id: str) -> UUID:
    """A fixed-size stand-in for a Message-ID of any length, by which replies find their thread."""
    return UUID(bytes=hashlib.sha256(rfc_message_id.encode("utf-8", "surrogateescape")).digest()[:16])


def sender_warning(from_address: str, envelope_from: str) -> str | None:
    """The sentence shown when the visible author is not the envelope sender; None when they agree or it is null."""
    if not envelope_from or from_address.lower() == envelope_from.lower():
        return None
    return f"Header From ({from_address}) does not match SMTP envelope sender ({envelope_from})."
