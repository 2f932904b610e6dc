"""The mail of the house as the mail routes of ``/api/v1`` give it: pure functions from values to answers.

An email is listed twenty at a time a thousand times a second, so it is built by position, and its
``authentication_results``, which the store has as JSON, goes through as the text it is.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast
from uuid import UUID

import msgspec
from msgspec import UNSET

from clawmail.api.native.mail_answers import (
    AttachmentAnswer,
    AuthenticationAnswer,
    EmailAnswer,
    FlagsAnswer,
    HeaderAnswer,
    OpenedEmailAnswer,
    OpenedThreadAnswer,
    RecipientAnswer,
    SentAnswer,
    ThreadAnswer,
)
from clawmail.core.downloads import StoredAttachment, read_attachments
from clawmail.core.mailbox import OpenedEmail
from clawmail.model.mailbox import EmailView, Flags, RecipientState, ThreadView
from clawmail.model.outgoing import Sent


def _seconds(moment: datetime) -> datetime:
    """Without its fraction, as the reference shows times; the store's are in UTC."""
    return moment.replace(microsecond=0)


def _seconds_or_none(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(microsecond=0)


def _authentication(text: str | None) -> AuthenticationAnswer | None:
    # The store's JSON is this type's JSON: it is copied, not decoded and encoded again.
    return None if text is None else cast(AuthenticationAnswer, msgspec.Raw(text.encode()))


def email(view: EmailView, *, with_bodies: bool = True) -> EmailAnswer:
    """An email as it is listed; without its bodies where they are written out behind it."""
    names = [attachment.filename for attachment in read_attachments(view.attachments)]
    return EmailAnswer(
        view.id,
        view.message_id,
        view.thread_id,
        view.direction,
        view.from_address,
        view.envelope_from_address,
        view.sender_warning,
        _authentication(view.authentication),
        view.to_addresses,
        view.cc_addresses,
        view.subject,
        view.body_text if with_bodies else UNSET,
        view.body_html if with_bodies else UNSET,
        bool(names),
        names,
        view.is_read,
        view.is_archived,
        _seconds(view.received_at),
        view.in_reply_to,
        _seconds(view.created_at),
    )


def opened_email(opened: OpenedEmail, *, with_bodies: bool = True) -> OpenedEmailAnswer:
    """One email with headers, attachments and recipients."""
    shown = email(opened.view, with_bodies=with_bodies)
    outbound = opened.view.direction == "outbound"
    return OpenedEmailAnswer(
        *(getattr(shown, name) for name in EmailAnswer.__struct_fields__),
        headers=[HeaderAnswer(name, value) for name, value in opened.headers],
        attachments_detail=[
            _attachment(number, attachment)
            for number, attachment in enumerate(read_attachments(opened.source.attachments), 1)
        ],
        reply_to=opened.source.reply_to,
        size=opened.source.raw_size,
        notes=opened.source.notes,
        bcc_addresses=opened.source.bcc_addresses if outbound else UNSET,
        recipients=[_recipient(recipient) for recipient in opened.recipients] if outbound else UNSET,
    )


def _attachment(number: int, attachment: StoredAttachment) -> AttachmentAnswer:
    return AttachmentAnswer(
        number,
        attachment.filename,
        attachment.content_type,
        attachment.size,
        attachment.content_id,
        attachment.disposition,
        attachment.sha256,
    )


def _recipient(recipient: RecipientState) -> RecipientAnswer:
    return RecipientAnswer(
        recipient.address,
        recipient.state,
        recipient.attempts,
        recipient.last_reply,
        _seconds_or_none(recipient.last_attempt_at),
        _seconds_or_none(recipient.next_attempt_at),
        recipient.mx,
    )


def flags(email_id: UUID, marks: Flags) -> FlagsAnswer:
    """How an email is marked now."""
    return FlagsAnswer(email_id, marks.is_read, marks.is_archived)


def sent(answer: Sent) -> SentAnswer:
    """What was taken over."""
    return SentAnswer(answer.id, answer.message_id, answer.thread_id, _seconds(answer.created_at))


def thread(view: ThreadView) -> ThreadAnswer:
    """A conversation as it is listed."""
    return ThreadAnswer(*_thread_fields(view))


def opened_thread(view: ThreadView, emails: list[EmailAnswer], next_cursor: str | None) -> OpenedThreadAnswer:
    """A conversation with a page of its emails."""
    return OpenedThreadAnswer(*_thread_fields(view), emails=emails, next_cursor=next_cursor)


def _thread_fields(view: ThreadView) -> tuple[Any, ...]:
    """In the order of ``ThreadAnswer``."""
    return (
        view.thread_id,
        view.subject,
        view.snippet,
        view.message_count,
        _seconds(view.first_message_at),
        _seconds(view.last_message_at),
        view.last_direction,
        view.has_attachments,
    )
