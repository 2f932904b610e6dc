"""What an inbox shows: an email as its owner sees it, what became of its recipients, and threads.

These are the rows of the read side. They are named tuples and not dataclasses because a list makes twenty of them for
every request, and a tuple comes out of a database row in one step.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from clawmail.model.delivery import State
from clawmail.model.mail import Direction


class EmailView(NamedTuple):
    """One inbox's copy of a message, as it is listed."""

    id: UUID
    thread_id: UUID
    #: as sent, with angle brackets; None if it had none.
    message_id: str | None
    in_reply_to: str | None
    direction: Direction
    from_address: str
    #: "" is the null sender.
    envelope_from_address: str
    sender_warning: str | None
    #: the API's authentication_results as JSON text; None on mail sent from here.
    authentication: str | None
    is_read: bool
    is_archived: bool
    received_at: datetime
    created_at: datetime
    #: of all that follows, in octets or a little more. Where it is above the most that was asked for, they are empty.
    weight: int
    subject: str
    to_addresses: list[str]
    cc_addresses: list[str]
    #: [{filename, content_type, size, content_id, disposition, sha256}] as JSON text, in the order of the parts.
    attachments: str
    body_text: str | None
    body_html: str | None


class EmailPage(NamedTuple):
    """A page of a list."""

    emails: list[EmailView]
    #: how many there are on all pages.
    total: int


class EmailSource(NamedTuple):
    """Where the bytes of an email are, and how they are shown."""

    #: the message, which other inboxes may share.
    message_row: UUID
    direction: Direction
    #: our fields on top: Return-Path, Received, Authentication-Results; b"" on mail sent from here.
    trace: bytes
    #: octets of the message as sent.
    raw_size: int
    #: as in EmailView.
    attachments: str
    bcc_addresses: list[str]
    reply_to: list[str]
    received_at: datetime
    #: what was broken in the message, and what of it was not looked at.
    notes: list[str]
    #: after which attachments are gone, where the domain has its own word on that; 0: never.
    attachment_hours: float | None = None


class Flags(NamedTuple):
    """What an owner has done with an email."""

    is_read: bool
    is_archived: bool


class RecipientState(NamedTuple):
    """How far a sent mail got with one recipient."""

    address: str
    state: State
    attempts: int
    #: last reply of the recipient's host, or why there was none.
    last_reply: str | None
    last_attempt_at: datetime | None
    #: None once it is settled.
    next_attempt_at: datetime | None
    #: the host that gave the last reply.
    mx: str | None


class ThreadView(NamedTuple):
    """A conversation in one inbox."""

    thread_id: UUID
    #: of the email that opened it.
    subject: str
    #: beginning of the newest text.
    snippet: str
    message_count: int
    first_message_at: datetime
    last_message_at: datetime
    last_direction: Direction
    has_attachments: bool
    #: the newest email: threads are listed by it.
    last_email_id: UUID
