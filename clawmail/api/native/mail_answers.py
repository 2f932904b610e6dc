"""What the mail routes of ``/api/v1`` give. The order of fields is the order in the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from clawmail.model.mail import Direction

#: a moment in UTC, written as RFC 3339 has it, with Z.
Moment = Annotated[datetime, Meta(tz=True)]


class SpfAnswer(Struct, frozen=True):
    """SPF: may this host send for the envelope's domain?"""

    result: str
    domain: str
    comment: str


class SignatureAnswer(Struct, frozen=True):
    """One DKIM signature."""

    result: str
    signing_domain: str
    selector: str
    algorithm: str
    #: with the author's domain.
    aligned: bool


class DkimAnswer(Struct, frozen=True):
    """DKIM: is the message as its signers sent it?"""

    result: str
    signatures: list[SignatureAnswer]


class SpfAlignment(Struct, frozen=True):
    """Whether SPF speaks for the author's domain."""

    #: the organisational domain that aligned, or false.
    result: str | Literal[False]
    strict: bool


class DkimAlignment(Struct, frozen=True, rename={"under_sized": "underSized"}):
    """Whether a signature speaks for the author's domain."""

    #: the organisational domain that aligned, or false.
    result: str | Literal[False]
    strict: bool
    under_sized: bool


class Alignment(Struct, frozen=True):
    """Which of the two speaks for the author's domain."""

    spf: SpfAlignment
    dkim: DkimAlignment


class DmarcAnswer(Struct, frozen=True):
    """DMARC: does the visible author's domain stand behind the message?"""

    result: str
    domain: str
    policy: str | None
    comment: str
    header_from: str
    alignment: Alignment


class AuthenticationAnswer(Struct, frozen=True):
    """What was found out about an inbound email's sender."""

    spf: SpfAnswer
    dkim: DkimAnswer
    dmarc: DmarcAnswer
    #: what our DMARC policy made of it: none or quarantine.
    disposition: str = "none"


class EmailAnswer(Struct, frozen=True):
    """An email of an inbox."""

    id: UUID
    message_id: str | None
    thread_id: UUID
    direction: Direction
    from_address: str
    envelope_from_address: str
    sender_warning: str | None
    authentication_results: AuthenticationAnswer | None
    to_addresses: list[str]
    cc_addresses: list[str]
    subject: str
    #: left out only while it is written out in pieces.
    body_text: str | UnsetType | None
    body_html: str | UnsetType | None
    has_attachments: bool
    #: file names.
    attachments: list[str]
    is_read: bool
    is_archived: bool
    received_at: Moment
    in_reply_to: str | None
    created_at: Moment


class EmailListAnswer(Struct, frozen=True):
    """A page of an inbox."""

    emails: list[EmailAnswer]
    #: on all pages.
    total: int
    page: int
    limit: int


class HeaderAnswer(Struct, frozen=True):
    """One header field, decoded."""

    name: str
    value: str


class AttachmentAnswer(Struct, frozen=True):
    """One attachment."""

    #: its number in …/attachments/{n}.
    number: int
    filename: str
    content_type: str
    #: decoded, in bytes.
    size: int
    content_id: str | None
    disposition: str | None
    #: of the decoded bytes, in hex.
    sha256: str


class RecipientAnswer(Struct, frozen=True):
    """How far a sent email got with one recipient."""

    address: str
    #: queued, deferred, delivered, bounced, expired, suppressed, held, cancelled.
    state: str
    attempts: int
    last_reply: str | None
    last_attempt_at: Moment | None
    next_attempt_at: Moment | None
    mx: str | None


class OpenedEmailAnswer(EmailAnswer, frozen=True, kw_only=True):
    """An email with all that is known of it."""

    headers: list[HeaderAnswer]
    attachments_detail: list[AttachmentAnswer]
    reply_to: list[str]
    #: bytes of the message as sent.
    size: int
    #: what was broken in it, and what of it was not looked at because a limit was reached, in words.
    notes: list[str]
    #: of sent mail only.
    bcc_addresses: list[str] | UnsetType = UNSET
    recipients: list[RecipientAnswer] | UnsetType = UNSET


class FlagsAnswer(Struct, frozen=True):
    """How an email is marked."""

    id: UUID
    is_read: bool
    is_archived: bool


class ArchivedAnswer(Struct, frozen=True):
    """An email was archived."""

    id: UUID
    is_archived: bool


class SentAnswer(Struct, frozen=True):
    """An email was taken over for sending."""

    id: UUID
    message_id: str
    thread_id: UUID
    created_at: Moment


class ThreadAnswer(Struct, frozen=True):
    """A conversation."""

    thread_id: UUID
    subject: str
    snippet: str
    message_count: int
    first_message_at: Moment
    last_message_at: Moment
    last_direction: Direction
    has_attachments: bool


class ThreadListAnswer(Struct, frozen=True):
    """A page of conversations, newest first."""

    threads: list[ThreadAnswer]
    next_cursor: str | None


class OpenedThreadAnswer(ThreadAnswer, frozen=True, kw_only=True):
    """A conversation and its emails, oldest first."""

    emails: list[EmailAnswer]
    next_cursor: str | None
