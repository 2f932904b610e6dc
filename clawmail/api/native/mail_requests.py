"""What the mail routes of ``/api/v1`` take: query strings and JSON bodies, and the mail that a body asks for."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from clawmail.api.routing import QueryFlag
from clawmail.base.errors import Invalid
from clawmail.core.custom_headers import check_custom_headers
from clawmail.model.outgoing import OutgoingAttachment, OutgoingMail
from clawmail.protocol.address import folded

#: a list of addresses, or a string with one or more.
Addresses = list[str] | str

PageNumber = Annotated[int, Meta(ge=1, description="Page, from 1")]
PageSize = Annotated[int, Meta(ge=1, le=100, description="Rows a page")]
After = Annotated[UUID, Meta(description="after of an earlier answer, or the id of an event")]
Cursor = Annotated[str, Meta(max_length=200, description="next_cursor of the page before")]


class ListQuery(Struct, frozen=True):
    """Which page of which list."""

    page: PageNumber = 1
    limit: PageSize = 20
    is_archived: QueryFlag = "false"
    is_read: QueryFlag | None = None


class ShowQuery(Struct, frozen=True):
    """Whether reading an email leaves it unread."""

    peek: QueryFlag = "false"


class CursorQuery(Struct, frozen=True):
    """A page of a list that is walked by cursor."""

    limit: PageSize = 20
    cursor: Cursor | None = None


class EventsQuery(Struct, frozen=True):
    """A page of events; ``after`` begins it behind what an earlier answer said, ``cursor`` goes on with one."""

    limit: PageSize = 20
    cursor: Cursor | None = None
    after: After | None = None


class DownloadQuery(Struct, frozen=True):
    """How attachments are wanted: auto, or zip."""

    format: str = "auto"


class ChangeBody(Struct, frozen=True):
    """Marks to set; one at least."""

    is_read: bool | UnsetType = UNSET
    is_archived: bool | UnsetType = UNSET


class AttachmentBody(Struct, frozen=True):
    """A file to send along."""

    filename: str
    #: base64 (RFC 4648 section 4).
    content: bytes
    content_type: str = "application/octet-stream"


class ReplyBody(Struct, frozen=True):
    """An answer to an email."""

    text: str | None = None
    html: str | None = None
    cc: Addresses | None = None
    bcc: Addresses | None = None
    reply_to: Addresses | None = None
    attachments: list[AttachmentBody] = []
    headers: dict[str, str] = {}
    #: the sender is the inbox whose key it is; anything else is refused.
    from_: Any = msgspec.field(default=None, name="from")


class SendBody(ReplyBody, frozen=True, kw_only=True):
    """A new email."""

    to: Addresses
    subject: str


class ForwardBody(Struct, frozen=True):
    """An email to send on."""

    to: Addresses
    text: str | None = None
    html: str | None = None
    cc: Addresses | None = None
    bcc: Addresses | None = None
    from_: Any = msgspec.field(default=None, name="from")


def _entries(addresses: Addresses | None) -> tuple[str, ...]:
    if addresses is None:
        return ()
    return (addresses,) if isinstance(addresses, str) else tuple(addresses)


def to_mail(body: ReplyBody) -> OutgoingMail:
    """What a send or reply asks for. Raises Invalid for header fields that may not be given, or without a subject."""
    if isinstance(body, SendBody) and not body.subject:
        raise Invalid("subject is required", field="subject")
    return OutgoingMail(
        to=_entries(body.to) if isinstance(body, SendBody) else (),
        cc=_entries(body.cc),
        bcc=_entries(body.bcc),
        subject=body.subject if isinstance(body, SendBody) else "",
        text=body.text,
        html=body.html,
        reply_to=_entries(body.reply_to),
        attachments=tuple(OutgoingAttachment(a.filename, a.content_type, a.content) for a in body.attachments),
        headers=check_custom_headers(body.headers.items()),
    )


def to_forward(body: ForwardBody) -> OutgoingMail:
    """What a forward asks for."""
    return OutgoingMail(
        to=_entries(body.to), cc=_entries(body.cc), bcc=_entries(body.bcc), text=body.text, html=body.html
    )


def check_sender(given: Any, own_address: str | None) -> None:
    """The sender is the inbox whose key it is. Raises Invalid if ``from`` asks for another."""
    if given is not None and not (isinstance(given, str) and folded(given) == folded(own_address or "")):
        raise Invalid("from: cannot be set; email is sent from the inbox whose key is used", field="from")
