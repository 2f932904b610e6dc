"""What a caller wants to send, before it is a message: the value every dialect's request becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from clawmail.base.ids import new_id


@dataclass(frozen=True, slots=True)
class OutgoingAttachment:
    """A file to go along."""

    filename: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class OutgoingMail:
    """A mail as a caller describes it. Addresses are as given, possibly ``Name <a@b>``."""

    #: may be empty for a reply, which knows whom it answers.
    to: tuple[str, ...] = ()
    cc: tuple[str, ...] = ()
    bcc: tuple[str, ...] = ()
    #: "" for a reply or a forward, which make their own.
    subject: str = ""
    text: str | None = None
    html: str | None = None
    reply_to: tuple[str, ...] = ()
    attachments: tuple[OutgoingAttachment, ...] = ()
    #: custom header fields, (name, value).
    headers: tuple[tuple[str, str], ...] = ()
    #: not before this moment.
    send_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a caller learns about a mail that was taken over."""

    id: UUID
    #: the Message-ID, with angle brackets.
    message_id: str
    thread_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A request that may be repeated: the same key and body get the same answer."""

    #: method and path of the request.
    route: str
    key: str
    body_sha256: bytes
    #: the dialect's answer for what was sent, kept in the transaction that queues it.
    status: int
    encode: Callable[[Sent], bytes]
    #: by which this request has the key: its own id.
    claim: UUID = field(default_factory=new_id)
